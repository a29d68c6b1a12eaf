"""The record of a run: what was asked, of whom, with what, and what stood in the way; plain files in the run folder."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from metaniche import __version__
from metaniche.data.applicability import MIN_CELLS
from metaniche.data.prepare import PreparedCohort
from metaniche.data.task import Targets
from metaniche.errors import ConfigError
from metaniche.evaluation.fold_store import write_parquet
from metaniche.evaluation.predictions import CrossValidation
from metaniche.evaluation.table import comparison_table, repeat_table
from metaniche.io import keys
from metaniche.io.write import replacing

RUN, CHECKS, CELLS, PATIENTS, TABLE, CAPTION = (
    "run.json", "data_checks.json", "cells.parquet", "patients.csv", "table.csv", "caption.json",
)  # fmt: skip
_IDENTITY = "config.json"


def claim(run_dir: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Make a run folder one's own, or go on in it. Raises ConfigError when something else trained there.

    `identity` is all that decides the result, as plain JSON types.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / _IDENTITY
    mine = json.loads(json.dumps(identity, sort_keys=True, default=str))
    if path.exists() and any(run_dir.glob("member*")):
        theirs = json.loads(path.read_text())
        if theirs != mine:
            raise ConfigError(
                f"{run_dir} holds a run with another configuration; different: {', '.join(_differences(theirs, mine))}. "
                "Give this run another run_name, or delete the folder."
            )
        if not resume:
            raise ConfigError(f"{run_dir} holds this run already. Use resume=true to go on, or another run_name.")
    write_json(path, mine)


def write_run(
    run_dir: Path, cohort: PreparedCohort, targets: Targets, *, model: str, duration_s: float, **more: Any
) -> None:
    """run.json, data_checks.json and patients.csv of a run on `cohort`; `more` is added to run.json as it is."""
    labelled = cohort.samples[cohort.samples[keys.PATIENT].isin(targets.patients)]
    left_out = {**cohort.left_out, **targets.left_out} if targets.task.level != "cell" else dict(cohort.left_out)
    info = {
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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
    cohort.patients.reindex(targets.patients).to_csv(run_dir / PATIENTS)


def write_comparison(run_dir: Path, cv: CrossValidation, n_boot: int, seed: int = 0) -> pd.DataFrame:
    """predictions.parquet, folds.json, table.csv, repeats.csv and caption.json; returns the comparison table.

    `kind` in table.csv is clinical, baseline, network, or fused for `clinical + network`.
    """
    task = cv.targets.task
    table = comparison_table(cv, task, n_boot, seed)
    network = table["role"] == "model"
    kind = table["role"].mask(network, "network").mask(network & table.index.str.contains(" + ", regex=False), "fused")
    table.insert(0, "kind", kind)
    cv.save(run_dir)
    for name, frame in ((TABLE, table), ("repeats.csv", repeat_table(cv, task).set_index("model"))):
        with replacing(run_dir / name) as temporary:
            frame.rename(columns=lambda c: c.replace("diff_best", "diff_baseline")).to_csv(temporary)
    write_json(run_dir / CAPTION, table.attrs["caption"])
    return table


def data_checks(cohort: PreparedCohort, targets: Targets) -> list[dict[str, str]]:
    """What a reader should know of the data, one line each."""
    samples = cohort.samples
    sizes = samples["n_cells"]
    rows = [
        (
            "Coordinates",
            "ok",
            f"in micrometres; {cohort.config.um_per_unit or 'each file states its'} um per unit as read",
        ),
        ("Cells per sample", "ok" if sizes.min() >= MIN_CELLS else "warning", f"{sizes.min():,} to {sizes.max():,}"),
        ("Edges per cell", "ok", f"{samples['n_edges'].sum() / max(sizes.sum(), 1):.1f} on average"),
        ("Samples per patient", "ok", _range(samples.groupby(keys.PATIENT).size())),
    ]
    if targets.task.kind == "binary":
        positives = int(targets.table["y"].sum())
        few = min(positives, len(targets.table) - positives) < 20 and targets.task.level != "cell"
        detail = f"{positives} positive, {len(targets.table) - positives} negative"
        rows.append(("Labels", "warning" if few else "ok", detail + ("; intervals are wide" if few else "")))
    if targets.task.is_survival:
        events = int(targets.table["event"].sum())
        rows.append(("Events", "warning" if events < 20 else "ok", f"{events} events in {len(targets.table)} patients"))
    reasons: dict[str, list[str]] = {}
    for name, why in {**cohort.left_out, **({} if targets.task.level == "cell" else targets.left_out)}.items():
        reasons.setdefault(why, []).append(name)
    rows += [("Left out", "left out", f"{', '.join(names)}: {why}") for why, names in reasons.items()]
    return [{"check": check, "status": status, "detail": detail} for check, status, detail in rows]


def collect_cells(parts: Sequence[Path] | pd.DataFrame, run_dir: Path, n_samples: int, risk: pd.Series) -> None:
    """cells.parquet of up to `n_samples` samples: those of the patients with the highest and the lowest risk.

    `parts` is a table of cells, or the files that hold one table per sample.
    """
    cells = (
        parts if isinstance(parts, pd.DataFrame) else pd.concat([pd.read_parquet(p) for p in parts], ignore_index=True)
    )
    scored = cells.groupby(keys.SAMPLE)[keys.POTENTIAL].count().sort_values(ascending=False, kind="stable")
    owner = cells.drop_duplicates(keys.SAMPLE).set_index(keys.SAMPLE)[keys.PATIENT].reindex(scored.index)
    owner = owner[~owner.duplicated()]  # of each patient, the sample with the most scored cells
    ranked = risk.reindex(owner).set_axis(owner.index).dropna().sort_values()
    low = n_samples // 2
    chosen = [*ranked.index[:low], *ranked.index[max(low, len(ranked) - (n_samples - low)) :]]
    write_parquet(cells[cells[keys.SAMPLE].isin(chosen)], run_dir / CELLS)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, whole or not at all; numbers of numpy and paths become plain."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain))


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys_ = sorted({*one, *other})
        return [d for k in keys_ for d in _differences(one.get(k), other.get(k), f"{path}.{k}".lstrip("."))]
    return [] if one == other else [f"{path} ({one!r} there, {other!r} now)"]
