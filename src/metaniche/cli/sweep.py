"""metaniche-sweep: inner folds choose a network's settings, outer folds judge what was chosen; many processes may help."""

import json
import logging
import time
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from metaniche.cli import verb
from metaniche.cli.evaluate import baselines_of, check_encoder, network_of, print_table
from metaniche.config import (
    default_values,
    number,
    open_cohort,
    plain,
    read_task,
    with_values,
)
from metaniche.data.prepare import PreparedCohort
from metaniche.data.splits import Fold, patient_folds
from metaniche.errors import ConfigError
from metaniche.evaluation import cross_validate, fused_with
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.record import write_comparison, write_run
from metaniche.io.progress import Progress
from metaniche.io.settings import build
from metaniche.io.write import replacing, write_csv, write_json
from metaniche.report import build_report
from metaniche.report.figures import search_history
from metaniche.report.figures.style import to_bytes

log = logging.getLogger(__name__)

TUNED = "tuned"
NUMBERS = {"seed": 0, "n_folds": 2, "n_repeats": 1, "n_boot": 1}
UNSEEN_BY_TRIALS = (
    "paths", "run_name", "hparams_search", "baselines", "judge", "n_boot", "n_folds", "n_repeats", "scheme",
)  # fmt: skip


@verb("sweep")
def main(config: DictConfig) -> None:
    if find_spec("optuna") is None:
        raise ConfigError("metaniche-sweep needs the package optuna, found none: pip install 'metaniche[sweep]'.")
    from metaniche.evaluation.search import Search, SearchConfig

    started = time.monotonic()
    for key, least in NUMBERS.items():
        number(config, key, least=least)
    asked = build(SearchConfig, plain(config.hparams_search), "hparams_search")
    default = default_values(config, asked.distributions())
    cohort, task = open_cohort(config), read_task(config)
    targets = cohort.targets(task, config.group)
    log.info("%s", targets.described())
    targets.check_learnable()
    folds = patient_folds(targets, config.scheme, config.n_folds, config.n_repeats, config.seed)
    run_dir = Path(config.paths.run_dir)
    asked_of_trials = {k: v for k, v in plain(config).items() if k not in UNSEEN_BY_TRIALS}
    network = _network(config, cohort, default)
    check_encoder([network], cohort, targets)
    # The network names what is in the files of pairs and organs, where the config has their paths.
    made_with = json.dumps(asked_of_trials, sort_keys=True, default=str) + repr(network)

    def make(values: dict) -> NetworkEstimator:
        return _network(config, cohort, values)

    search = Search(asked, make, default, made_with, cohort, targets, run_dir, config.seed)
    log.info("%d folds, %d trials each, %d keys: %s", len(folds), asked.n_trials, len(default), ", ".join(default))
    with Progress() as progress:
        waiting = search.run_all(folds, progress)
    _write_trials(search, folds, run_dir)
    if waiting:
        log.info(
            "Trials of %d of %d folds are still running elsewhere. Call this again when they are done.",
            waiting, len(folds),
        )  # fmt: skip
    elif config.judge:
        _judge(config, search, folds, started)
    else:
        log.info("All trials are made; judge=true compares what they chose.")


def _network(config: DictConfig, cohort: PreparedCohort, values: dict) -> NetworkEstimator:
    """The network under these values of the searched keys."""
    chosen = with_values(config, values)
    return network_of(chosen, chosen.network, cohort)


def _write_trials(search, folds: list[Fold], run_dir: Path) -> None:
    """trials.csv and its picture, and changes.csv of what all folds tried: also of a search that is not at its end."""
    from metaniche.evaluation.search import compared

    table = search.trials(folds)
    write_csv(table, run_dir / "trials.csv", index=False)
    found = compared(table, search.default)
    write_csv(found, run_dir / "changes.csv", index=False)
    for row in found.itertuples():
        log.info("Inner score %.3f, chosen in %d of %d folds: %s", row.inner, row.chosen, len(folds), row.change)
    if table["value"].notna().any():
        with replacing(run_dir / "trials.png") as temporary:
            temporary.write_bytes(to_bytes(search_history(table), "png"))


def _judge(config: DictConfig, search, folds: list[Fold], started: float) -> None:
    from metaniche.evaluation.search import Tuned

    cohort, targets, run_dir = search.cohort, search.targets, search.run_dir
    best = [search.best(fold) for fold in folds]
    write_json(run_dir / "chosen.json", [{"repeat": f.repeat, "fold": f.fold, **b} for f, b in zip(folds, best)])
    chosen = {tuple(sorted(map(str, fold.train))): values for fold, values in zip(folds, best)}
    tuned = Tuned(f"{config.network}, {TUNED}", chosen, search.made_with, search.make)
    untuned = _network(config, cohort, dict(search.default))
    simple = baselines_of(config, cohort, targets.task)
    estimators = [*simple, untuned, tuned, *fused_with(simple, (untuned, tuned))]
    with Progress() as progress:
        cv = cross_validate(
            estimators, cohort, targets.task, folds, config.seed, progress, run_dir=run_dir, targets=targets
        )
    table = write_comparison(run_dir, cv, config.n_boot, config.seed)
    write_run(
        run_dir, cohort, targets, model=tuned.name, duration_s=time.monotonic() - started, experiment=config.run_name,
        seeds=[config.seed], folds={"scheme": config.scheme, "n_folds": config.n_folds, "n_repeats": config.n_repeats},
        search=plain(config.hparams_search) | {"chosen": best},
    )  # fmt: skip
    print_table(table)
    log.info("Wrote the table %s and the report %s", run_dir / "table.csv", build_report(run_dir))


if __name__ == "__main__":
    main()
