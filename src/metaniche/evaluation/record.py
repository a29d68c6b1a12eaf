"""The record of a run: what was asked, of whom, with what, and what stood in the way; plain files in the run folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from metaniche import __version__
from metaniche.data.prepare import PreparedCohort
from metaniche.data.task import Targets
from metaniche.evaluation.conformal import cross_conformal, in_words
from metaniche.evaluation.data_checks import data_checks
from metaniche.evaluation.landmark import as_binary
from metaniche.evaluation.predictions import CrossValidation
from metaniche.evaluation.table import comparison_table, repeat_table
from metaniche.io import keys
from metaniche.io.run_files import CAPTION, CELLS, CHECKS, PATIENTS, REPEATS, RUN, SETS, TABLE
from metaniche.io.write import write_csv, write_json, write_parquet


def write_run(
    run_dir: Path, cohort: PreparedCohort, targets: Targets, *, model: str, duration_s: float, **more: Any
) -> None:
    """run.json, data_checks.json and patients.csv of a run on `cohort`; `more` is added to run.json as it is."""
    labelled = cohort.samples[cohort.samples[keys.PATIENT].isin(targets.patients)]
    left_out = {**cohort.left_out, **targets.left_out} if targets.task.level != "cell" else dict(cohort.left_out)
    info = {
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "task": asdict(targets.task),
        "model": model,
        "cohort": cohort.name,
        "n_patients": len(targets.patients),
        "n_units": len(targets.table),
        "n_samples": len(labelled),
        "n_cells": int(labelled["n_cells"].sum()),
        "n_edges": int(labelled["n_edges"].sum()),
        "units": {"distance": "um"},
        "graph": asdict(cohort.graph),
        "left_out": left_out,
        "duration_s": round(duration_s, 1),
        "peak_memory_bytes": peak_memory(),
        "torch": torch.__version__,
        "notice": keys.RESEARCH_USE_ONLY,
        **more,
    }
    write_json(run_dir / RUN, info)
    write_json(run_dir / CHECKS, data_checks(cohort, targets))
    write_csv(cohort.patients.reindex(targets.patients), run_dir / PATIENTS)


def write_comparison(run_dir: Path, cv: CrossValidation, n_boot: int, seed: int = 0) -> pd.DataFrame:
    """predictions.parquet, folds.json, table.csv, repeats.csv, caption.json, and, where units are not cells, conformal.csv of
    the networks, fused ones too; returns the comparison table.
    """
    table = comparison_table(cv, n_boot, seed)
    cv.save(run_dir)
    write_csv(table, run_dir / TABLE)
    write_csv(repeat_table(cv).set_index("model"), run_dir / REPEATS)
    write_json(run_dir / CAPTION, table.attrs["caption"])
    if cv.targets.task.level != "cell":  # cells of one patient are not exchangeable with those of another
        write_csv(_conformal_sets(cv), run_dir / SETS)
    return table


def _conformal_sets(cv: CrossValidation) -> pd.DataFrame:
    """Every unit's sets of labels by every network; of survival tasks, whether the event comes by the landmark."""
    networks = cv.predictions[cv.predictions["role"] == "model"]
    judged = in_words(cross_conformal(as_binary(cv, networks)))
    columns = ["repeat", "fold", "unit_id", "patient_id", "site", "landmark", "y", "weight", "risk", "p0", "p1"]
    shown = [c for c in judged if c in columns or c.startswith("set_")]
    return judged.set_index("model")[shown]


def collect_cells(parts: Sequence[Path] | pd.DataFrame, run_dir: Path, n_samples: int, risk: pd.Series) -> None:
    """cells.parquet of up to `n_samples` samples: those of the patients with the highest and the lowest risk.

    `parts` is a table of cells, or the files that hold one table per sample; `risk` is by patient, as `patient_ranks` gives it.
    """
    cells = (
        parts if isinstance(parts, pd.DataFrame) else pd.concat([pd.read_parquet(p) for p in parts], ignore_index=True)
    )
    scored = cells.groupby(keys.SAMPLE)[keys.POTENTIAL].count().sort_values(ascending=False, kind="stable")
    owner = cells.drop_duplicates(keys.SAMPLE).set_index(keys.SAMPLE)[keys.PATIENT].reindex(scored.index)
    owner = owner[~owner.duplicated()]  # of each patient, the sample with the most scored cells
    of_patient = pd.Series(owner.index, owner.to_numpy())
    by_risk = risk.dropna().sort_values(kind="stable").index  # ties in the order of the patients, as in the report
    ranked = [of_patient[p] for p in by_risk if p in of_patient.index]
    low = n_samples // 2
    chosen = [*ranked[:low], *ranked[max(low, len(ranked) - (n_samples - low)) :]]
    write_parquet(cells[cells[keys.SAMPLE].isin(chosen)], run_dir / CELLS)


def peak_memory() -> int | None:
    """Largest resident size of this process so far, in bytes; None where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    scale = {"linux": 1024, "darwin": 1}.get(sys.platform)
    return scale and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
