"""metaniche-train: a cohort to a bundle; patients that were held out tell what it is worth."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from metaniche import __version__
from metaniche.cli import verb
from metaniche.config import (
    deciding_trainer,
    device_of_trainer,
    fit_config,
    number,
    open_cohort,
    plain,
    read_cohort,
    read_task,
    trainer_factory,
)
from metaniche.data.prepare import PreparedCohort
from metaniche.data.splits import hold_out
from metaniche.data.task import Targets
from metaniche.evaluation.claim import claim
from metaniche.evaluation.fold_store import code_digest
from metaniche.evaluation.held_out import held_out_predictions
from metaniche.evaluation.ranks import patient_ranks
from metaniche.evaluation.record import collect_cells, write_comparison, write_run
from metaniche.explain import explained
from metaniche.io.digest import table_digest
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.io.write import write_sample
from metaniche.predict import Predictor
from metaniche.report import build_report
from metaniche.training.calibrate import with_novelty
from metaniche.training.fit import FitConfig, fit_bundle
from metaniche.training.fit_encoder import fit_encoder
from metaniche.training.history import collect_history, overfitted

log = logging.getLogger(__name__)

N_BOOT = 1000
DECIDING = (
    "data", "graph", "task", "model", "optim", "seed", "members", "pool", "use_clinical", "holdout", "group", "pretrain",
)  # fmt: skip


@verb("train")
def main(config: DictConfig) -> None:
    started = time.monotonic()
    if rank_zero_only.rank != 0:  # one process of several speaks for all
        for name in ("metaniche", __name__):
            logging.getLogger(name).setLevel(logging.WARNING)
    run_dir = Path(config.paths.run_dir)
    fit, seed, share = fit_config(config), number(config, "seed"), number(config, "holdout", float)
    identity = {k: plain(config)[k] for k in DECIDING} | {"epochs": fit.epochs, "trainer": deciding_trainer(config)}
    # What files hold, not their paths.
    identity |= {"resource": fit.resource and fit.resource.sha256, "organs": fit.organs and fit.organs.digest}
    identity |= {"version": __version__, "code": code_digest(Path(__file__).parents[1])[:16]}
    cohort = open_cohort(config)
    tables = table_digest(cohort.samples), table_digest(cohort.patients)
    claim(run_dir, identity | {"samples": [cohort.folder.name, *tables]}, config.resume)
    if config.pretrain.only:
        _pretrain(config, cohort, fit, run_dir)
        return
    targets = cohort.targets(read_task(config), config.group)
    log.info("%s", targets.described())
    targets.check_learnable()
    train, held_out = hold_out(targets, share, seed)
    log.info("Training on %d patients, %d held out", len(train.patients), len(held_out.patients) if held_out else 0)
    if held_out is not None and fit.pretrain.encoder is not None:
        fit.pretrain.encoder.check_unseen(cohort.of(held_out.patients), cohort.name)
    device = device_of_trainer(config)
    bundle = fit_bundle(
        cohort.of(targets.patients),
        train,
        fit,
        graph=cohort.graph,
        cohort=cohort.config,
        patients=cohort.patients,
        val_targets=held_out,
        make_trainer=trainer_factory(config),
        run_dir=run_dir,
        seed=seed,
        device=device,
    )
    if rank_zero_only.rank == 0:
        bundle = with_novelty(bundle, cohort.of(train.patients), cohort.patients, seed, device)
        bundle.save(run_dir / "bundle")
        log.info("Wrote the bundle %s", run_dir / "bundle")
        _describe(config, run_dir, cohort, targets, (train, held_out), Predictor(bundle, device), started)


def _pretrain(config: DictConfig, cohort: PreparedCohort, fit: FitConfig, run_dir: Path) -> None:
    """An encoder of all samples of the cohort, whether they have a label or not."""
    about = {"version": __version__, "cohort": cohort.name, "notice": RESEARCH_USE_ONLY}
    encoder = fit_encoder(
        cohort.of(cohort.patients.index), read_task(config), fit,
        make_trainer=trainer_factory(config), seed=config.seed, about=about,
    )  # fmt: skip
    if rank_zero_only.rank != 0:
        return
    log.info("Wrote the encoder %s; start from it with pretrain.encoder=%s", encoder.save(run_dir), run_dir)


def _describe(
    config: DictConfig,
    run_dir: Path,
    cohort: PreparedCohort,
    targets: Targets,
    split: tuple[Targets, Targets | None],
    predictor: Predictor,
    started: float,
) -> None:
    """The run's record, what held-out patients say, and the report."""
    train, held_out = split
    trained = predictor.bundle
    history = collect_history(run_dir)
    if history is not None and (doubt := overfitted(history)):
        log.warning("Overfitted: %s", doubt)
    if held_out is not None:
        samples = cohort.of(held_out.patients)
        # The temperature was fitted on these very patients: their figures are of the network as it was before.
        predictor = _uncalibrated(predictor)
        scores = predictor.score(samples, cohort.patients, coverage_floor=0.0)
        found = held_out_predictions(config.model.name, train, held_out, scores)
        write_comparison(run_dir, found, N_BOOT)
        collect_cells(scores.cells, run_dir, 4, patient_ranks(found.predictions, config.model.name))
        if config.explain and (found := explained(predictor, samples, cohort.patients, seed=config.seed)):
            found.save(run_dir)
        if config.keep_held_out:
            _write_held_out(config, held_out, run_dir / "held_out")
    write_run(
        run_dir, cohort, targets, model=config.model.name, duration_s=time.monotonic() - started,
        seeds=[config.seed + i for i in range(config.members)], experiment=config.run_name,
        training=trained.training | {"calibration": list(trained.calibration), "features": plain(config.data.features)},
    )  # fmt: skip
    if config.report:
        log.info("Wrote the report %s", build_report(run_dir))


def _uncalibrated(predictor: Predictor) -> Predictor:
    without = {k: v for k, v in predictor.bundle.calibration.items() if k != "temperature"}
    return Predictor(replace(predictor.bundle, calibration=without), predictor.device)


def _write_held_out(config: DictConfig, held_out: Targets, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    source = read_cohort(config)
    rows: pd.Series = source.samples["patient_id"]
    for sample_id, patient in rows[rows.isin(held_out.patients)].items():
        adata = source.read_checked(sample_id)
        adata.obs["sample_id"], adata.obs["patient_id"] = sample_id, patient
        write_sample(adata, folder / f"{sample_id}.h5ad")


if __name__ == "__main__":
    main()
