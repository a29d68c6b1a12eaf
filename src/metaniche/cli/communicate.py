"""metaniche-communicate: who signals to whom in every sample, tested; which signals hold in patients, or differ."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from metaniche import __version__
from metaniche.cli import verb
from metaniche.cli.console import console
from metaniche.communicate import Analysis, competition_analysis, relay_analysis, signal_analysis, table_of_cohort
from metaniche.config import number, open_cohort, plain, read_pairs, read_signaling
from metaniche.data.prepare import PreparedCohort
from metaniche.errors import ConfigError, InputError
from metaniche.io import keys
from metaniche.io.progress import Progress
from metaniche.io.wording import listed, nearest
from metaniche.io.write import replacing, write_json, write_parquet
from metaniche.ops.backend import device_of
from metaniche.report.figures import chord, pair_dotplot, sender_receiver_heatmap, signals_of_patients
from metaniche.report.figures.style import to_bytes
from metaniche.signaling import (
    RELAY,
    SIGNAL,
    SignalConfig,
    consistent_signals,
    differential_communication,
    read_targets,
    relay_null,
)
from metaniche.signaling.patients import MIN_PATIENTS, VALUES

log = logging.getLogger(__name__)

SHOWN = 15
TABLES = (keys.COMMUNICATION, keys.COMPETITION, keys.RELAYS, "patients", "relays_patients", "differential")
# The table that is drawn, and how.
PICTURES = {
    "heatmap": (keys.COMMUNICATION, sender_receiver_heatmap),
    "dotplot": (keys.COMMUNICATION, pair_dotplot),
    "chord": (keys.COMMUNICATION, chord),
    "patients": ("patients", signals_of_patients),
    "differential": ("differential", signals_of_patients),
}


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
    _check(config, signaling, targets)
    device = device_of(config.device)
    if config.graph.max_paracrine is not None:  # a recipe's: networks look at a draw of neighbours
        log.info(
            "Signals are heard from all neighbours: graph.max_paracrine=%s is not used", config.graph.max_paracrine
        )
        config = OmegaConf.merge(config, {"graph": {"max_paracrine": None}})
    cohort = open_cohort(config)
    groups = _groups(config, cohort)
    run_dir = Path(config.paths.run_dir)
    how = {"config": signaling, "types": config.types, "device": device}
    analyses = [signal_analysis(resource, **how)]
    if reach_um is not None:
        analyses.append(competition_analysis(resource, reach_um, **how))
    if targets is not None:
        analyses.append(relay_analysis(resource, targets, **how))
    tables, left_out = _tables(cohort, analyses, run_dir)
    table = tables[keys.COMMUNICATION]
    _warn_of_few_permutations(table, signaling)
    tables["patients"] = consistent_signals(table)
    if keys.RELAYS in tables:
        tables["relays_patients"] = consistent_signals(tables[keys.RELAYS], by=RELAY, weight="n_cells")
    if groups is not None:
        tables["differential"] = differential_communication(table, groups, value=config.value, seed=config.seed)
    n_patients = int(table["patient_id"].nunique())
    about = {
        "version": __version__, "cohort": cohort.name, "resource": resource.provenance(),
        "signaling": plain(config.signaling), "relay_null": relay_null(signaling) if targets is not None else None,
        "graph": plain(config.graph), "types": config.types, "device": str(device), "compare": config.compare,
        "left_out": left_out, "competition_um": reach_um, "targets": config.targets,
        "n_samples": int(table["sample_id"].nunique()), "n_patients": n_patients,
        "duration_s": round(time.monotonic() - started, 1), "notice": keys.RESEARCH_USE_ONLY,
    }  # fmt: skip
    _write(tables, about, run_dir)
    _print(tables["patients"], "Signals that differ from their null, patient by patient", "enrichment", n_patients)
    if "relays_patients" in tables:
        title = "Cells that receive one signal and send another (association)"
        _print(tables["relays_patients"], title, "enrichment", n_patients, RELAY)
    if groups is not None:
        first, second = tables["differential"].attrs["groups"]
        title = f"Signals that differ: {config.compare} {second} against {first}"
        _print(tables["differential"], title, "difference", n_patients)
    log.info(
        "%d signals %s in %d samples of %d patients; wrote tables (%s)%s to %s",
        len(table), "scored" if signaling.null_model == "none" else "tested", about["n_samples"], n_patients,
        ", ".join(tables), "" if table["q"].isna().all() else " and pictures", run_dir,
    )  # fmt: skip


def _check(config: DictConfig, signaling: SignalConfig, targets: pd.DataFrame | None) -> None:
    """Raise ConfigError for what would be found out only after all signals were scored."""
    if config.value not in VALUES:
        raise ConfigError(f"Expected value to be one of {VALUES}, found {config.value!r}.")
    if config.compare is not None and signaling.null_model == "none" and config.value == "enrichment":
        raise ConfigError("Expected a null for value=enrichment, found signaling.null_model=none. Take value=score.")
    if targets is not None and signaling.score == "mass_action":
        raise ConfigError(
            "Expected a score that is a product for targets, found signaling.score=mass_action. Take hill."
        )


def _warn_of_few_permutations(table: pd.DataFrame, signaling: SignalConfig) -> None:
    """A lone signal cannot reach q < 0.05 where too few permutations were drawn for the number of tests; nor can none."""
    if table.empty:
        log.warning(
            "No pair was tested: none is expressed by signaling.min_share of two types within reach of each other."
        )
        return
    if signaling.null_model in ("none", "matched_pairs"):  # more random pairs than there are say no more
        return
    n_tests = int(table.groupby("sample_id", observed=True).size().median())
    if 0 < signaling.n_permutations < 20 * n_tests:
        log.warning(
            "With signaling.n_permutations=%d no p is below %.2g: a signal alone among the %d tests of a sample cannot reach "
            "q < 0.05. Take at least %d, or look at patients.",
            signaling.n_permutations, 1 / (signaling.n_permutations + 1), n_tests, 20 * n_tests,
        )  # fmt: skip


def _tables(
    cohort: PreparedCohort, analyses: Sequence[Analysis], run_dir: Path
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, str]]]:
    """The table of every analysis, and of each the samples that were left out with the reason. Where signals are found and
    something else in no sample, the run goes on without it."""
    tables, left_out = {}, {}
    with Progress() as progress:
        for analysis in analyses:
            try:
                tables[analysis.name], left_out[analysis.name] = table_of_cohort(cohort, analysis, run_dir, progress)
            except InputError as error:
                if analysis.name == keys.COMMUNICATION:
                    raise
                log.warning("No table of %s: %s", analysis.name, error)
    return tables, left_out


def _write(tables: dict[str, pd.DataFrame], about: dict, run_dir: Path) -> None:
    """All tables and pictures; what an earlier run with other settings left of them is gone."""
    for name in TABLES:
        if name in tables:
            write_parquet(tables[name], run_dir / f"{name}.parquet")
        else:
            (run_dir / f"{name}.parquet").unlink(missing_ok=True)
    for name, (of, draw) in PICTURES.items():
        if of not in tables or tables[of]["q"].isna().all():  # without a null there is nothing to count
            (run_dir / f"{name}.png").unlink(missing_ok=True)
            continue
        with replacing(run_dir / f"{name}.png") as temporary:
            temporary.write_bytes(to_bytes(draw(tables[of]), "png"))
    write_json(run_dir / "run.json", about)


def _groups(config: DictConfig, cohort: PreparedCohort) -> pd.Series | None:
    """The column of the patient table that is compared, looked at before anything is computed."""
    name = config.compare
    if name is None:
        return None
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
    words = {"n_patients": "patients", "n_found": "found"}
    words |= zip(("n_first", "n_second"), (f"patients of {name}" for name in table.attrs.get("groups", ())))
    counts = {name: word for name, word in words.items() if name in table}
    shown = Table(*heads, value, "p", "q", *counts.values(), title=f"{title}. Research use only")
    for row in table.head(SHOWN).to_dict("records"):
        interval = f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        numbers = f"{row['p']:.2g}", f"{row['q']:.2g}", *(str(row[name]) for name in counts)
        shown.add_row(*(str(row[name]) for name in by), interval, *numbers)
    if len(table):
        console(width=160).print(shown)
    else:
        log.info("%s: no signal was measured in three patients or more (of %d)", title, n_patients)


if __name__ == "__main__":
    main()
