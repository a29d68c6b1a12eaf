"""metaniche-communicate: who signals to whom in every sample, tested; which signals hold in patients, or differ."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from metaniche import __version__
from metaniche.cli import verb
from metaniche.communicate import Analysis, competition_analysis, relay_analysis, signal_analysis, table_of_cohort
from metaniche.config import number, open_cohort, plain, read_pairs, read_signaling
from metaniche.data.prepare import PreparedCohort
from metaniche.errors import ConfigError
from metaniche.io import keys
from metaniche.io.progress import Progress
from metaniche.io.wording import listed, nearest
from metaniche.io.write import replacing, write_json, write_parquet
from metaniche.report.figures import chord, pair_dotplot, sender_receiver_heatmap
from metaniche.report.figures.style import to_bytes
from metaniche.signaling import (
    RELAY,
    SIGNAL,
    SignalConfig,
    consistent_signals,
    differential_communication,
    read_targets,
)
from metaniche.signaling.patients import MIN_PATIENTS, VALUES

log = logging.getLogger(__name__)

SHOWN = 15


@verb("communicate")
def main(config: DictConfig) -> None:
    started = time.monotonic()
    number(config, "seed", least=0)
    reach_um = config.competition_um and number(config, "competition_um", float, least=1e-6)
    if reach_um is not None and reach_um > config.graph.radius_um:
        raise ConfigError(
            f"Expected competition_um of at most graph.radius_um, found {reach_um:g} um and {config.graph.radius_um:g} um: "
            "cells farther apart are not joined. Raise graph.radius_um."
        )
    signaling, resource = read_signaling(config), read_pairs(config)
    targets = None if config.targets is None else read_targets(config.targets)
    cohort = open_cohort(config)
    groups = _groups(config, cohort)
    run_dir = Path(config.paths.run_dir)
    how = {"config": signaling, "types": config.types}
    analyses = {"communication": signal_analysis(resource, **how)}
    if reach_um is not None:
        analyses[keys.COMPETITION] = competition_analysis(resource, reach_um, **how)
    if targets is not None:
        analyses[keys.RELAYS] = relay_analysis(resource, targets, **how)
    tables, left_out = _tables(cohort, analyses, run_dir)
    table = tables["communication"]
    _warn_of_few_permutations(table, signaling)
    consistent = consistent_signals(table)
    write_parquet(consistent, run_dir / "patients.parquet")
    differences = None
    if groups is not None:
        differences = differential_communication(table, groups, value=config.value, seed=config.seed)
        write_parquet(differences, run_dir / "differential.parquet")
    about = {
        "version": __version__, "cohort": cohort.name, **resource.provenance(), "signaling": plain(config.signaling),
        "graph": plain(config.graph), "types": config.types, "compare": config.compare, "left_out": left_out,
        "competition_um": reach_um, "targets": config.targets,
        "n_samples": int(table["sample_id"].nunique()), "n_patients": int(table["patient_id"].nunique()),
        "duration_s": round(time.monotonic() - started, 1), "notice": keys.RESEARCH_USE_ONLY,
    }  # fmt: skip
    write_json(run_dir / "run.json", about)
    _draw(table, run_dir)
    _print(consistent, "Signals that differ from their null, patient by patient", "enrichment", about["n_patients"])
    if targets is not None:
        answers = consistent_signals(tables[keys.RELAYS], by=RELAY, weight="n_cells")
        _print(
            answers,
            "Cells that receive one signal and send another (association)",
            "enrichment",
            about["n_patients"],
            RELAY,
        )
    if differences is not None:
        first, second = differences.attrs["groups"]
        title = f"Signals that differ: {config.compare} {second} against {first}"
        _print(differences, title, "difference", about["n_patients"])
    written = [*tables, "patients", *(["differential"] if differences is not None else [])]
    log.info(
        "%d signals tested in %d samples of %d patients; wrote tables (%s) and pictures to %s",
        len(table), about["n_samples"], about["n_patients"], ", ".join(written), run_dir,
    )  # fmt: skip


def _warn_of_few_permutations(table: pd.DataFrame, signaling: SignalConfig) -> None:
    """A lone signal cannot reach q < 0.05 where too few permutations were drawn for the number of tests; nor can none."""
    if table.empty:
        log.warning(
            "No pair was tested: none is expressed by signaling.min_share of two types within reach of each other."
        )
        return
    n_tests = int(table.groupby("sample_id", observed=True).size().median())
    if signaling.null_model != "none" and 0 < signaling.n_permutations < 20 * n_tests - 1:
        log.warning(
            "With signaling.n_permutations=%d no p is below %.2g: a signal alone among the %d tests of a sample cannot reach "
            "q < 0.05. Take at least %d, or look at patients.",
            signaling.n_permutations, 1 / (signaling.n_permutations + 1), n_tests, 20 * n_tests - 1,
        )  # fmt: skip


def _tables(
    cohort: PreparedCohort, analyses: Mapping[str, Analysis], run_dir: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The table of every analysis, written below `run_dir`, and the samples that were left out of any with the reason."""
    tables, left_out = {}, {}
    with Progress() as progress:
        for name, analysis in analyses.items():
            tables[name], without = table_of_cohort(cohort, analysis, run_dir, progress)
            write_parquet(tables[name], run_dir / f"{name}.parquet")
            left_out = without | left_out
    return tables, left_out


def _draw(table: pd.DataFrame, run_dir: Path) -> None:
    """The pictures of the table; without a null there is nothing to count."""
    if table["q"].isna().all():
        return
    for name, draw in (("heatmap", sender_receiver_heatmap), ("dotplot", pair_dotplot), ("chord", chord)):
        with replacing(run_dir / f"{name}.png") as temporary:
            temporary.write_bytes(to_bytes(draw(table), "png"))


def _groups(config: DictConfig, cohort: PreparedCohort) -> pd.Series | None:
    """The column of the patient table that is compared, looked at before anything is computed."""
    name = config.compare
    if name is None:
        return None
    if config.value not in VALUES:
        raise ConfigError(f"Expected value to be one of {VALUES}, found {config.value!r}.")
    patients = cohort.patients
    if name not in patients:
        raise ConfigError(
            f"Expected compare to be a column of the patient table, found {name!r}. {nearest(name, patients.columns)}"
            f"Columns: {listed(patients.columns, 20)}."
        )
    groups = patients.loc[patients.index.isin(cohort.samples[keys.PATIENT]), name].dropna()
    sizes = groups.value_counts()
    if len(sizes) != 2 or sizes.min() < MIN_PATIENTS:
        found = listed([f"{value}: {n}" for value, n in sizes.items()])
        raise ConfigError(
            f"Expected compare to be a column of two values with at least {MIN_PATIENTS} patients each, found {found} in "
            f"{name!r}. Choose another column, or leave it out."
        )
    return groups


def _print(table: pd.DataFrame, title: str, value: str, n_patients: int, by: Sequence[str] = SIGNAL) -> None:
    """The signals with the smallest p on the terminal, with intervals over patients."""
    heads = [name.replace("_", " ") for name in by]
    shown = Table(*heads, value, "p", "q", title=f"{title}. Research use only")
    for row in table.head(SHOWN).to_dict("records"):
        interval = f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        shown.add_row(*(str(row[name]) for name in by), interval, f"{row['p']:.2g}", f"{row['q']:.2g}")
    if len(table):
        Console(width=None if sys.stdout.isatty() else 160).print(shown)
    else:
        log.info("%s: no signal was measured in three patients or more (of %d)", title, n_patients)


if __name__ == "__main__":
    main()
