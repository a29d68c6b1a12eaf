"""fit_bundle: prepared samples and targets -> a trained ensemble, as a Bundle."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from metaniche.data.applicability import check_tumour
from metaniche.data.batch import Bag
from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.cohort import CohortConfig
from metaniche.data.features import FeatureConfig, Features
from metaniche.data.library import Library
from metaniche.data.organs import OrganProfiles, check_organs, organ_columns
from metaniche.data.outcome import bin_edges, n_outputs
from metaniche.data.pairs import PairFeatures
from metaniche.data.sample import PreparedSample
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Targets, Task
from metaniche.data.units import check_pool, make_bags
from metaniche.errors import CheckpointError, ConfigError, InputError
from metaniche.graph import GraphConfig
from metaniche.io.once import log_once
from metaniche.io.wording import listed, nearest
from metaniche.models import ARCHITECTURES, MIL
from metaniche.models.bundle import Bundle
from metaniche.signaling import Resource
from metaniche.training.calibrate import calibrated_on, with_baseline
from metaniche.training.datamodule import TumourDataModule
from metaniche.training.module import NetworkModule
from metaniche.training.pretrain import PretrainConfig, pretrain

log = logging.getLogger(__name__)

# The member's folder (None: keep nothing) and epochs -> its Trainer.
TrainerFactory = Callable[[Path | None, int], pl.Trainer]

# AdamW with the weight decay that small cohorts need.
DEFAULT_OPTIMIZER = partial(AdamW, lr=3e-3, weight_decay=1e-2)


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained. Raises ConfigError for what cannot be trained.

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
    resource
        Ligand-receptor pairs, for networks that hear them (`reads_pairs`); None: they hear nothing.
    organs
        Reference profiles (`data.organs.read_organs`) for networks that hear pairs, in tasks of organ sites.
    shuffle_pairs
        A control: every ligand meets a receptor that is not its own, see `PairFeatures.shuffled`.
    pretrain
        See PretrainConfig: on the training units only, before their labels are used.
    optimizer
        Parameters -> Optimizer.
    """

    architecture: str = "RelationalMIL"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: FeatureConfig = FeatureConfig()
    sampling: SamplingConfig = SamplingConfig()
    epochs: int = 40
    members: int = 1
    pool: str = "all"
    use_clinical: bool = False
    resource: Resource | None = None
    organs: OrganProfiles | None = None
    shuffle_pairs: bool = False
    pretrain: PretrainConfig = PretrainConfig()
    optimizer: Callable[[Iterable], Optimizer] = DEFAULT_OPTIMIZER

    def __post_init__(self) -> None:
        for name in ("epochs", "members"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"Expected {name} to be a whole number of at least 1, found {value!r}.")
        check_pool(self.pool)
        _check_architecture(self.architecture, self.parameters)


def quiet_trainer(folder: Path | None, epochs: int) -> pl.Trainer:
    """Without logger, checkpoints or progress bar, for the many short fits of a cross-validation."""
    return pl.Trainer(max_epochs=epochs, barebones=True, accelerator="auto", devices=1)


def fit_bundle(
    samples: Sequence[PreparedSample],
    targets: Targets,
    config: FitConfig,
    *,
    graph: GraphConfig,
    cohort: CohortConfig,
    patients: pd.DataFrame | None = None,
    val_targets: Targets | None = None,
    make_trainer: TrainerFactory | None = None,
    run_dir: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
) -> Bundle:
    """Train `config.members` networks on the units of `targets`.

    Parameters
    ----------
    samples
        Of the patients of `targets` and `val_targets`; others are not looked at.
    targets
        Labelled units. Features and clinical encodings are fitted on their patients only.
    graph, cohort
        How the samples were connected and read; new tissue is read the same way.
    patients
        Clinical variables by patient id, for `config.use_clinical`.
    val_targets
        Units of other patients: watched during training, and the temperature of a binary head is fitted on them.
    make_trainer, run_dir
        See TrainerFactory, of training and pretraining; `quiet_trainer` if None. Every member keeps its checkpoints in
        `run_dir/member{i}` and goes on from `last.ckpt` when called again.
    device
        Where the trained networks are scored for what is fitted on their risks; the Trainer has its own.

    Raises ConfigError where `use_clinical` finds no clinical variables, SplitError for a patient on both sides.
    """
    task = targets.task
    _warn_of_gaps(targets)
    sides = [set() if labels is None else set(labels.patients) for labels in (targets, val_targets)]
    train, held_out = ([s for s in samples if s.patient_id in side] for side in sides)
    features = Features.fit(train, config.features, seed)
    clinical = _fit_clinical(config, targets, patients)
    pairs = fit_pairs(config, train, features.library)
    bags, val_bags = (
        make_bags(side, features, task, targets=labels, clinical=clinical, pairs=pairs, pool=config.pool)
        for side, labels in ((train, targets), (held_out, val_targets))
    )
    parameters = _parameters(config, features, task, clinical, pairs) | _organs(config, task, pairs, train)
    edges = bin_edges(targets) if task.kind == "discrete_time" else []
    make_trainer, states = make_trainer or quiet_trainer, []
    for member in range(config.members):
        folder = run_dir / f"member{member}" if run_dir else None
        module = _make_module(config, parameters, task, bags, edges, seed + member)
        data = TumourDataModule(
            bags,
            val_bags,
            train_patients=[s.patient_id for s in train],
            val_patients=[s.patient_id for s in held_out],
            sampling=config.sampling,
            seed=seed + member,
            hops=module.network.hops,
        )
        _prepare_encoder(module.network, data, config.pretrain, features, seed + member, folder, make_trainer)
        states.append(_train(module, data, make_trainer(folder, config.epochs), folder))
    bundle = Bundle(
        architecture=config.architecture,
        parameters=parameters,
        states=states,
        task=asdict(task),
        features=features.state(),
        arrays=features.arrays,
        clinical=clinical[0].state() if clinical else None,
        pairs=pairs.state() if pairs else None,
        pool=config.pool,
        graph=asdict(graph),
        cohort=asdict(cohort),
        calibration={"bin_edges": edges} if edges else {},
        training={"seed": seed, "epochs": config.epochs, "n_units": len(bags), "n_patients": len(targets.patients)},
    )
    return _calibrated(bundle, (train, targets), (held_out, val_targets), patients, device)


def _calibrated(
    bundle: Bundle,
    trained_on: tuple[Sequence[PreparedSample], Targets],
    held_out: tuple[Sequence[PreparedSample], Targets | None],
    patients: pd.DataFrame | None,
    device: torch.device | str,
) -> Bundle:
    """With what turns its logits into statements, where the task has such."""
    task = trained_on[1].task
    if task.kind == "cox":
        return with_baseline(bundle, *trained_on, patients, device)
    if task.kind == "binary" and task.level != "cell" and held_out[1] is not None:
        return calibrated_on(bundle, *held_out, patients, device)
    return bundle


def _check_architecture(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise ConfigError for a network that cannot be built, before anything is read or fitted."""
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"Expected architecture to be one of {listed(ARCHITECTURES, 20)}, found {name!r}. "
            f"{nearest(name, ARCHITECTURES)}Name one of them."
        )
    known = [k for k, p in inspect.signature(ARCHITECTURES[name]).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in parameters:
        if key not in known:
            raise ConfigError(
                f"Expected parameters of {name} to be among {listed(known, 20)}, found {key!r}. "
                f"{nearest(key, known)}Leave it out."
            )
    try:
        with torch.device("meta"):  # shapes only: no memory, no random numbers
            ARCHITECTURES[name](n_features=1, n_outputs=1, **parameters)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} cannot be built with {dict(parameters)}: {error}. Change these values.") from error


def _fit_clinical(
    config: FitConfig, targets: Targets, patients: pd.DataFrame | None
) -> tuple[ClinicalFeatures, pd.DataFrame] | None:
    if not config.use_clinical:
        return None
    task = targets.task
    if not task.clinical or patients is None:
        found = "no patient table" if task.clinical else f"none in task {task.name!r}"
        raise ConfigError(f"Expected clinical variables for use_clinical=true, found {found}. Set task.clinical=[...].")
    if task.level == "cell":
        raise ConfigError(
            f"Expected a task of patients or samples for use_clinical=true, found task {task.name!r} of cells: clinical "
            "variables are the same for all cells of a patient. Set use_clinical=false."
        )
    return ClinicalFeatures.fit(patients.reindex(targets.patients), list(task.clinical)), patients


def _warn_of_gaps(targets: Targets) -> None:
    for gap in targets.gaps():
        log_once(log.warning, f"Task {targets.task.name}: {gap}.")


def fit_pairs(
    config: FitConfig, train: Sequence[PreparedSample], library: Library | None = None
) -> PairFeatures | None:
    """The pairs that a network hears, and a word on them; none where it reads none, or where none is measured."""
    if config.resource is None or not ARCHITECTURES[config.architecture].reads_pairs:
        return None
    try:
        pairs = PairFeatures.fit(train, config.resource, library)
    except InputError as error:
        log.warning("No ligand-receptor pair is heard; the network listens by contact and distance instead. %s", error)
        return None
    families = pairs.pairs["signaling_type"].value_counts().to_dict()
    silent = sorted(set(config.resource.pairs["signaling_type"].dropna()) - set(families))
    log_once(
        log.info,
        f"Hearing {pairs.n_pairs} pairs of {config.resource.name}: "
        + ", ".join(f"{n} {family}" for family, n in families.items())
        + (f"; none measured of {listed(silent)}" if silent else ""),
    )
    return pairs.shuffled() if config.shuffle_pairs else pairs


def _parameters(
    config: FitConfig,
    features: Features,
    task: Task,
    clinical: tuple[ClinicalFeatures, pd.DataFrame] | None,
    pairs: PairFeatures | None,
) -> dict[str, Any]:
    """Keyword arguments of the network: sizes of what it reads and says, and the settings."""
    sizes = {"n_features": len(features.names), "n_outputs": n_outputs(task)}
    sizes |= {"n_clinical": len(clinical[0].names) if clinical else 0}
    known = {"pairs": pairs.columns()} if pairs else {}
    return sizes | dict(config.parameters) | known


def _organs(
    config: FitConfig, task: Task, pairs: PairFeatures | None, train: Sequence[PreparedSample]
) -> dict[str, Any]:
    if config.organs is None:
        return {}
    check_organs(config.organs, task)
    if pairs is None:
        log_once(
            log.warning,
            f"Reference profiles of organs say nothing here: {config.architecture} hears no ligand-receptor pair.",
        )
        return {}
    check_tumour(train)
    return {"organs": organ_columns(config.organs, task.sites, pairs)}


def _make_module(
    config: FitConfig, parameters: dict, task: Task, bags: Sequence[Bag], edges: list[float], seed: int
) -> NetworkModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[config.architecture](**parameters)
    labels = torch.from_numpy(np.stack([bag.target for bag in bags])) if task.kind == "cox" else None
    return NetworkModule(network, task, config.optimizer, seed=seed, survival_labels=labels, bin_edges=edges)


def _prepare_encoder(
    network: MIL,
    data: TumourDataModule,
    config: PretrainConfig,
    features: Features,
    seed: int,
    folder: Path | None,
    make_trainer: TrainerFactory,
) -> None:
    """Start from another encoder, pretrain, freeze: whatever is asked for. A run that goes on has its weights already."""
    if folder is None or not (folder / "last.ckpt").exists():
        if config.encoder is not None:
            share = config.encoder.give_to(network, features.names, features.basis)
            log_once(log.info, f"Starting from an encoder that knows {share:.0%} of {len(features.names)} features")
        if config.epochs:
            before, after = pretrain(network, data, config, make_trainer, seed)
            log.log(
                logging.INFO if folder else logging.DEBUG,
                "Pretrained %d epochs: error of hidden features %.2f, then %.2f", config.epochs, before, after,
            )  # fmt: skip
    if config.freeze:
        network.embed.requires_grad_(False)


def _train(
    module: NetworkModule, data: TumourDataModule, trainer: pl.Trainer, folder: Path | None
) -> dict[str, Tensor]:
    """The trained network's state, on the CPU."""
    last = folder / "last.ckpt" if folder else None
    resume = last if last is not None and last.exists() else None
    if resume:
        log.info("Going on from %s", resume)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    except RuntimeError as error:
        if resume is None or "loading state_dict" not in str(error):
            raise
        raise CheckpointError(
            f"{resume} holds the weights of another network: {error} Delete it to start this member anew."
        ) from error
    return {n: t.detach().cpu().clone() for n, t in module.network.state_dict().items()}
