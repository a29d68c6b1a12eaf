"""metaniche-evaluate: networks, simple baselines and the clinical model on the same folds; one table, one report."""

import hashlib
import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.table import Table

from metaniche.cli import verb
from metaniche.cli.console import console
from metaniche.config import (
    deciding_trainer,
    device_of_trainer,
    fit_config,
    load_group,
    number,
    open_cohort,
    plain,
    read_task,
    trainer_factory,
)
from metaniche.data.prepare import PreparedCohort
from metaniche.data.splits import patient_folds
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError
from metaniche.evaluation import Estimator, cross_validate, fused_with, standard_baselines
from metaniche.evaluation.ablations import ABLATED, ablations
from metaniche.evaluation.fold_store import code_digest
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.permutation import permutation_control, why_no_control
from metaniche.evaluation.ranks import patient_ranks
from metaniche.evaluation.record import collect_cells, write_comparison, write_run
from metaniche.io.digest import table_digest
from metaniche.io.progress import Progress
from metaniche.io.run_files import CELLS
from metaniche.metrics.names import METRICS
from metaniche.report import build_report

log = logging.getLogger(__name__)

NOT_CHANCE = (
    "NOT chance: something leaks, the folds are unbalanced, or the draw was unlucky; repeat it with more permutations"
)
UNSEEN_BY_CELLS = (
    "paths", "run_name", "maps", "n_boot", "n_repeats", "baselines", "networks", "ablations", "resource", "organs",
    "permutation_control", "n_permutations",
)  # fmt: skip
NUMBERS = {"seed": 0, "n_folds": 2, "n_repeats": 1, "n_boot": 1, "n_permutations": 1, "maps": 0}


@verb("evaluate")
def main(config: DictConfig) -> None:
    started = time.monotonic()
    if isinstance(config.networks, str):
        raise ConfigError(f"Expected networks to be a list, found {config.networks!r}: networks=[{config.networks}].")
    for key, least in NUMBERS.items():
        number(config, key, least=least)
    run_dir = Path(config.paths.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    cohort, task = open_cohort(config), read_task(config)
    targets = cohort.targets(task, config.group)
    log.info("%s", targets.described())
    targets.check_learnable()
    networks = [network_of(config, name, cohort) for name in config.networks]
    check_encoder(networks, cohort, targets)
    networks[:1] = [replace(n, cells_dir=run_dir / "cells" / _digest(config, n, cohort)) for n in networks[:1]]
    simple = baselines_of(config, cohort, task)
    estimators = [*simple, *networks]
    if config.ablations:
        estimators += [each for n in networks if n.config.architecture == ABLATED for each in ablations(n)]
    if not estimators:
        raise ConfigError(
            "Nothing to evaluate: networks=[] and baselines=false. Name a network or leave the baselines in."
        )
    estimators += fused_with(simple, networks)

    def folds(of: Targets, n_repeats: int = config.n_repeats):
        return patient_folds(of, config.scheme, config.n_folds, n_repeats, config.seed)

    made = folds(targets)
    log.info("%d models, %d folds, %d patients", len(estimators), len(made), len(targets.patients))
    with Progress() as progress:
        cv = cross_validate(estimators, cohort, task, made, config.seed, progress, run_dir=run_dir, targets=targets)
    table = write_comparison(run_dir, cv, config.n_boot, config.seed)
    control = None
    why = why_no_control(targets, config.seed) if config.permutation_control else None
    if why:
        log.warning("No label-permutation control. %s", why)
    elif config.permutation_control and networks:
        log.info("Label-permutation control of %s", networks[0].name)
        with Progress() as progress:
            found = permutation_control(
                replace(networks[0], cells_dir=None), cohort, task, lambda t: folds(t, 1), n_permutations=config.n_permutations,
                seed=config.seed, n_boot=config.n_boot, progress=progress, run_dir=run_dir, targets=targets,
            )  # fmt: skip
        control = {**asdict(found), "holds_chance": found.holds_chance}
    _finish(config, run_dir, cohort, targets, cv.predictions, networks, control, started)
    print_table(table)
    if control:
        log.info(
            "Label-permutation control of %s: %s %.2f (%.2f-%.2f) over %d permutations; %s",
            found.model, found.metric, found.estimate, found.low, found.high, len(found.values),
            "chance, as it should be" if found.holds_chance else NOT_CHANCE,
        )  # fmt: skip
    log.info("Wrote the table %s and the report %s", run_dir / "table.csv", build_report(run_dir))


def network_of(config: DictConfig, name: str, cohort: PreparedCohort) -> NetworkEstimator:
    """The network `name` of the model group."""
    fit = fit_config(config, load_group("model", name, config))
    return NetworkEstimator(
        name, fit, cohort.graph, cohort.config,
        trainer=str(deciding_trainer(config)), make_trainer=trainer_factory(config), device=device_of_trainer(config),
        calibrate=number(config, "calibrate"),
    )  # fmt: skip


def check_encoder(networks: list[NetworkEstimator], cohort: PreparedCohort, targets: Targets) -> None:
    """Raise InputError, before anything is fitted, for an encoder that has seen whom the folds hold out."""
    encoder = networks[0].config.pretrain.encoder if networks else None  # all start from the same
    if encoder is not None:
        encoder.check_unseen(cohort.of(targets.patients), cohort.name)


def _digest(config: DictConfig, network: NetworkEstimator, cohort: PreparedCohort) -> str:
    """Of all that decides the cells' scores: what another configuration or other samples left in the folder is not drawn."""
    content = {k: v for k, v in plain(config).items() if k not in UNSEEN_BY_CELLS} | {"network": repr(network)}
    content |= {
        "samples": [cohort.folder.name, table_digest(cohort.samples)],
        "code": code_digest(Path(__file__).parents[1]),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def baselines_of(config: DictConfig, cohort: PreparedCohort, task: Task) -> list[Estimator]:
    """The clinical model and the simple baselines, unless baselines=false."""
    if not config.baselines:
        return []
    first = cohort.load(cohort.samples.index[0])
    return standard_baselines(task, cohort.feature_kind, first.cell_types is not None, bool(task.clinical))


def _finish(
    config: DictConfig,
    run_dir: Path,
    cohort: PreparedCohort,
    targets: Targets,
    predictions: pd.DataFrame,
    networks: list[NetworkEstimator],
    control: dict | None,
    started: float,
) -> None:
    parts = sorted(networks[0].cells_dir.glob("*.parquet")) if networks else []
    if parts:
        collect_cells(parts, run_dir, config.maps, patient_ranks(predictions, networks[0].name))
    else:  # folds that are on disk make no cells: those of another network are not this one's
        (run_dir / CELLS).unlink(missing_ok=True)
    write_run(
        run_dir, cohort, targets, model=networks[0].name if networks else "", duration_s=time.monotonic() - started,
        experiment=config.run_name, seeds=[config.seed], permutation_control=control,
        folds={"scheme": config.scheme, "n_folds": config.n_folds, "n_repeats": config.n_repeats},
        training={"epochs": config.trainer.max_epochs, "members": config.members, "features": plain(config.data.features)},
    )  # fmt: skip


def print_table(table: pd.DataFrame) -> None:
    """The comparison on the terminal, best first, with intervals."""
    columns = [c for c in METRICS if c in table]
    against = {"vs best baseline": "diff_baseline", "vs clinical": "diff_clinical"}
    against = {name: key for name, key in against.items() if key in table}
    shown = Table("model", *columns, *against, title="Research use only")
    for name, row in table.sort_values(columns[0], ascending=False).iterrows():
        cells = [f"{row[c]:.2f} ({row[f'{c}_low']:.2f}-{row[f'{c}_high']:.2f})" for c in columns]
        differences = ["" if pd.isna(row[k]) else f"{row[k]:+.2f} (p {row[f'{k}_p']:.2f})" for k in against.values()]
        shown.add_row(name, *cells, *differences)
    console(width=220).print(shown)
    for line in table.attrs["caption"]:
        log.info(line)


if __name__ == "__main__":
    main()
