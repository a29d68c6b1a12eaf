"""fit_bundle: prepared samples and targets -> a trained ensemble, as a Bundle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch.optim import AdamW, Optimizer

from metaniche.data.batch import Bag
from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.features import FeatureConfig, Features
from metaniche.data.outcome import bin_edges, breslow, n_outputs
from metaniche.data.sample import PreparedSample
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Targets, Task
from metaniche.data.units import make_bags, target_columns
from metaniche.models import ARCHITECTURES
from metaniche.models.bundle import Bundle
from metaniche.predict import Predictor
from metaniche.training.datamodule import TumourDataModule
from metaniche.training.module import NetworkModule

log = logging.getLogger(__name__)

MIN_CALIBRATION_UNITS = 10  # fewer held-out units cannot fit even one number
TEMPERATURE_BOUNDS = (-1.5, 2.0)  # of its logarithm
TrainerFactory = Callable[[Path | None, int], pl.Trainer]


# AdamW with the weight decay that small cohorts need.
DEFAULT_OPTIMIZER = partial(AdamW, lr=3e-3, weight_decay=1e-2)


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained.

    Parameters
    ----------
    architecture, parameters
        A name in `metaniche.models.ARCHITECTURES` and its keyword arguments.
    features, sampling
        See FeatureConfig and SamplingConfig.
    epochs
        Passes over the training units. Fixed, not chosen on validation patients: there are too few of them.
    members
        Networks in the ensemble, seeds `seed`, `seed + 1`, ...
    pool
        See `metaniche.data.units.make_bags`.
    use_clinical
        Fuse the task's clinical variables late.
    """

    architecture: str = "RelationalMIL"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: FeatureConfig = FeatureConfig()
    sampling: SamplingConfig = SamplingConfig()
    epochs: int = 40
    members: int = 1
    pool: str = "all"
    use_clinical: bool = False
    optimizer: Callable[[Iterable], Optimizer] = DEFAULT_OPTIMIZER
    num_workers: int = 0


def quiet_trainer(epochs: int) -> TrainerFactory:
    """Trainers without logger, checkpoints or progress bar, for the many short fits of a cross-validation."""
    return lambda folder, seed: pl.Trainer(max_epochs=epochs, barebones=True, accelerator="auto", devices=1)


def fit_bundle(
    samples: Sequence[PreparedSample],
    targets: Targets,
    config: FitConfig,
    *,
    patients: pd.DataFrame | None = None,
    val_targets: Targets | None = None,
    make_trainer: TrainerFactory | None = None,
    run_dir: Path | None = None,
    seed: int = 0,
    provenance: Mapping[str, dict] | None = None,
) -> Bundle:
    """Train `config.members` networks on the units of `targets`.

    Features and clinical encodings are fitted on the patients of `targets` only. `val_targets` (other patients) are
    watched during training and fit the temperature of a binary head. With `run_dir`, every member keeps its checkpoints
    in `run_dir/member{i}` and goes on from `last.ckpt` when called again. `provenance` gives the bundle's `graph` and
    `cohort` states.
    """
    task = targets.task
    train = [s for s in samples if s.patient_id in set(targets.patients)]
    held_out = [s for s in samples if val_targets is not None and s.patient_id in set(val_targets.patients)]
    features = Features.fit(train, config.features, seed)
    clinical = _fit_clinical(task, config, targets, patients)
    units = make_bags(train, features, task, targets=targets, clinical=clinical, pool=config.pool)
    val_units = make_bags(held_out, features, task, targets=val_targets, clinical=clinical, pool=config.pool)
    parameters = {
        "n_features": len(features.names),
        "n_outputs": n_outputs(task),
        "n_clinical": len(clinical[0].names) if clinical else 0,
        **config.parameters,
    }
    edges = bin_edges(targets) if task.kind == "discrete_time" else []
    states = []
    for member in range(config.members):
        folder = run_dir / f"member{member}" if run_dir else None
        data = TumourDataModule(
            units,
            val_units,
            train_patients=[s.patient_id for s in train],
            val_patients=[s.patient_id for s in held_out],
            sampling=config.sampling,
            seed=seed + member,
            num_workers=config.num_workers,
        )
        trainer = (make_trainer or quiet_trainer(config.epochs))(folder, seed + member)
        states.append(_fit_member(config, parameters, task, units, edges, data, trainer, folder, seed + member))
    provenance = provenance or {}
    bundle = Bundle(
        architecture=config.architecture,
        parameters=parameters,
        states=states,
        task=asdict(task),
        features=features.state(),
        arrays=features.arrays,
        clinical=clinical[0].state() if clinical else None,
        pool=config.pool,
        graph=provenance.get("graph", {}),
        cohort=provenance.get("cohort", {}),
        calibration={"bin_edges": edges} if edges else {},
        training={
            "seed": seed,
            "epochs": config.epochs,
            "n_units": len(units),
            "n_patients": len(targets.patients),
        },
    )
    return _calibrated(bundle, train, targets, held_out, val_targets, patients)


def _fit_clinical(
    task: Task, config: FitConfig, targets: Targets, patients: pd.DataFrame | None
) -> tuple[ClinicalFeatures, pd.DataFrame] | None:
    if not (config.use_clinical and task.clinical and patients is not None):
        return None
    return ClinicalFeatures.fit(patients.reindex(targets.patients), list(task.clinical)), patients


def _fit_member(
    config: FitConfig,
    parameters: dict,
    task: Task,
    units: Sequence[Bag],
    edges: list[float],
    data: TumourDataModule,
    trainer: pl.Trainer,
    folder: Path | None,
    seed: int,
) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[config.architecture](**parameters)
    labels = torch.from_numpy(np.stack([u.target for u in units])) if task.kind == "cox" else None
    module = NetworkModule(network, task, config.optimizer, seed=seed, survival_labels=labels, bin_edges=edges)
    last = folder / "last.ckpt" if folder else None
    resume = last if last is not None and last.exists() else None
    if resume:
        log.info("Going on from %s", resume)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    return {n: t.detach().cpu().clone() for n, t in network.state_dict().items()}


def _calibrated(
    bundle: Bundle,
    train: Sequence[PreparedSample],
    targets: Targets,
    held_out: Sequence[PreparedSample],
    val_targets: Targets | None,
    patients: pd.DataFrame | None,
) -> Bundle:
    """Add what turns logits into statements: Breslow's baseline (Cox), a temperature where held-out units allow it."""
    task = targets.task
    if task.kind == "cox":
        risk = Predictor(bundle).score(train, patients, coverage_floor=0.0).units["risk"]
        table = targets.table.loc[risk.index.intersection(targets.table.index)]
        time, hazard = breslow(risk[table.index].to_numpy(), *(table[c].to_numpy(float) for c in target_columns(task)))
        return replace(bundle, calibration={"baseline": {"time": time, "hazard": hazard}})
    if task.kind != "binary" or task.level == "cell" or val_targets is None:
        return bundle
    if len(val_targets.table) < MIN_CALIBRATION_UNITS or val_targets.table["y"].nunique() < 2:
        return bundle
    risk = Predictor(bundle).score(held_out, patients, coverage_floor=0.0).units["risk"]
    y = val_targets.table["y"].reindex(risk.index)
    logit = np.log(risk / (1 - risk))[y.notna()]
    y = y.dropna()

    def loss(log_temperature: float) -> float:
        z = logit / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, z) - y * z))

    best = minimize_scalar(loss, bounds=TEMPERATURE_BOUNDS, method="bounded")
    if min(abs(best.x - bound) for bound in TEMPERATURE_BOUNDS) < 1e-2:
        log.warning(
            "The temperature ended at its bound, %.1f: the held-out patients do not support calibrated risks.",
            np.exp(best.x),
        )
    return replace(bundle, calibration={"temperature": float(np.exp(best.x)), "n_calibration": len(y)})
