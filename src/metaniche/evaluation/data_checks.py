"""What a reader should know of the data before any figure: a line per check, with a warning where the data are thin."""

from __future__ import annotations

import pandas as pd

from metaniche.data.applicability import MIN_CELLS
from metaniche.data.prepare import PreparedCohort
from metaniche.data.task import Targets
from metaniche.io import keys

ENOUGH_EVENTS = 20


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
        few = min(positives, len(targets.table) - positives) < ENOUGH_EVENTS and targets.task.level != "cell"
        detail = f"{positives} positive, {len(targets.table) - positives} negative"
        rows.append(("Labels", "warning" if few else "ok", detail + ("; intervals are wide" if few else "")))
    if targets.task.is_survival:
        events = int(targets.table["event"].sum())
        detail = f"{events} events in {len(targets.table)} {targets.task.level}s"
        rows.append(("Events", "warning" if events < ENOUGH_EVENTS else "ok", detail))
    reasons: dict[str, list[str]] = {}
    for name, why in {**cohort.left_out, **({} if targets.task.level == "cell" else targets.left_out)}.items():
        reasons.setdefault(why, []).append(name)
    rows += [("Left out", "left out", f"{', '.join(names)}: {why}") for why, names in reasons.items()]
    return [{"check": check, "status": status, "detail": detail} for check, status, detail in rows]


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
