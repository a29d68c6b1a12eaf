"""What the page says in rows and tables: the question, the patients, the comparison, the checks, how to run again."""

from __future__ import annotations

import pandas as pd

from metaniche.report.card_fields import as_words, outcome_counts
from metaniche.report.headline import best_baseline, primary_metric
from metaniche.report.run import Run
from metaniche.report.vocabulary import count, is_blank, level_name, metrics_of, number, p_value

Rows = list[tuple[str, str]]
_LEVELS = {"patient": "each patient", "sample": "each sample", "cell": "each cell or spot"}
_KINDS = {
    "binary": "yes or no",
    "cox": "time to event (Cox)",
    "discrete_time": "time to event (discrete hazards)",
    "sites": "several organ sites",
}
_KIND_ORDER = ("network", "fused", "clinical", "baseline")
_MAX_VARIABLES, _MAX_LEVELS, _LARGEST_CODE = 12, 6, 10


def task_rows(run: Run) -> Rows:
    """What was asked."""
    task = run.task
    columns = [
        task.get("label"),
        task.get("time"),
        task.get("event"),
        task.get("competing"),
        *(task.get("sites") or ()),
    ]
    return _filled(
        ("Question", task.get("title") or task.get("name")),
        ("Predicted for", _LEVELS.get(task.get("level"), task.get("level"))),
        ("Kind of answer", _KINDS.get(task.get("kind"), task.get("kind"))),
        ("Read from", ", ".join(str(c) for c in columns if c)),
        ("Counts as the outcome", ", ".join(map(str, task.get("positive") or ()))),
        ("Compared with", ", ".join(map(str, task.get("negative") or ()))),
        ("Clinical variables", ", ".join(map(str, task.get("clinical") or ()))),
        ("Note", task.get("note")),
    )


def cohort_rows(run: Run) -> Rows:
    """Who was asked."""
    info, outcomes, name = run.info, outcome_counts(run), run.task.get("level", "patient")
    n_units = None if name == "patient" or is_blank(info.get("n_units")) else count(info["n_units"])
    word = "events" if run.is_survival else "with the outcome"
    return _filled(
        ("Cohort", info.get("cohort")),
        ("Patients", None if is_blank(info.get("n_patients")) else count(info["n_patients"])),
        ("Evaluated", f"{count(outcomes[0])} patients, {count(outcomes[1])} {word}" if outcomes else None),
        (f"Units predicted ({name}s)", n_units),
        ("Samples", None if is_blank(info.get("n_samples")) else count(info["n_samples"])),
        ("Cells", None if is_blank(info.get("n_cells")) else count(info["n_cells"])),
        ("Edges of the graphs", None if is_blank(info.get("n_edges")) else count(info["n_edges"])),
        ("Features", as_words((info.get("training") or {}).get("features") or {})),
        ("Graph", as_words(info.get("graph") or {})),
    )


def left_out_rows(run: Run) -> Rows:
    """Who was left out, and why."""
    return [(str(unit), str(reason)) for unit, reason in (run.info.get("left_out") or {}).items()]


def patient_table(run: Run) -> list[tuple[str, str, str]]:
    """(variable, level or unit, summary) of the patients that were evaluated."""
    if run.patients is None:
        return []
    table = run.patients
    if run.predictions is not None and table.index.isin(run.predictions["patient_id"]).any():
        table = table[table.index.isin(run.predictions["patient_id"])]
    wanted = [c for c in (run.task.get("clinical") or ()) if c in table] or list(table.columns)
    rows = []
    for name in wanted:
        rows += _summary(str(name), table[name])
        if len({r[0] for r in rows}) >= _MAX_VARIABLES:
            break
    return rows


def comparison_rows(run: Run) -> dict | None:
    """Heads and rows of the comparison table: primary metric first, models by kind, the best of each kind first."""
    metric = primary_metric(run)
    if metric is None:
        return None
    metrics = metrics_of(run.table, run.is_survival)
    differences = [
        (c, label)
        for c, label in (("diff_baseline", "to best baseline"), ("diff_clinical", "to clinical"))
        if c in run.table and run.table[c].notna().any()
    ]
    best = best_baseline(run, metric)
    rows = run.table.assign(
        _order=run.table["kind"].map({k: i for i, k in enumerate(_KIND_ORDER)}).fillna(len(_KIND_ORDER)),
        _value=run.table[metric.column] * (1 if metric.better == "lower" else -1),
    ).sort_values(["_order", "_value"], kind="stable")
    heads = [(m.label, m.words) for m in metrics]
    heads += [(f"Difference {label}", f"paired, in {metric.label}") for _, label in differences]
    return {
        "heads": heads,
        "rows": [_comparison_row(run, row, metrics, differences, best) for _, row in rows.iterrows()],
        "metric": metric,
    }


def check_rows(run: Run) -> list[dict[str, str]]:
    """Checks with warnings first."""
    order = {"warning": 0, "left out": 1, "ok": 2}
    checks = [{k: str(c.get(k, "")) for k in ("check", "status", "detail")} for c in run.checks or ()]
    return sorted(checks, key=lambda c: order.get(c["status"], 0))


def reproduce_rows(run: Run) -> Rows:
    """What it takes to run it again, and what it cost."""
    info = run.info
    memory = info.get("peak_memory_bytes")
    seeds = info.get("seeds")
    return _filled(
        ("metaniche", info.get("version")),
        ("torch", info.get("torch")),
        ("Run on", created(run)),
        ("Experiment", info.get("experiment")),
        ("Seeds (all reported)", ", ".join(map(str, seeds)) if isinstance(seeds, list | tuple) else seeds),
        ("Folds", as_words(info.get("folds") or {})),
        ("Training", as_words(info.get("training") or {})),
        ("Duration", None if is_blank(info.get("duration_s")) else duration(float(info["duration_s"]))),
        ("Peak memory", None if is_blank(memory) else f"{float(memory) / 1e9:.2f} GB"),
    )


def created(run: Run) -> str | None:
    """2026-11-23 11:09, without what a reader does not need."""
    return None if is_blank(run.info.get("created")) else str(run.info["created"])[:16].replace("T", " ")


def repeat_table(run: Run) -> dict | None:
    """The primary metric of every repeat of every model (and site), so that all are seen and none is chosen."""
    metric = primary_metric(run)
    if run.repeats is None or metric is None or not {"repeat", metric.column} <= set(run.repeats):
        return None
    by = ["model", "site"] if "site" in run.repeats else ["model"]
    wide = run.repeats.pivot_table(index=by, columns="repeat", values=metric.column, sort=False)
    names = [" / ".join(map(str, k)) if isinstance(k, tuple) else str(k) for k in wide.index]
    rows = [(name, [number(v, 3) for v in values]) for name, values in zip(names, wide.to_numpy())]
    return {"metric": metric, "repeats": [int(r) + 1 for r in wide.columns], "rows": rows}


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 12 s, 8.4 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _filled(*rows: tuple[str, object]) -> Rows:
    return [(name, str(value)) for name, value in rows if not is_blank(value)]


def _comparison_row(run: Run, row: pd.Series, metrics: list, differences: list, best: pd.Series | None) -> dict:
    cells = [(number(row.get(m.column)), _ends(row, m.column), "") for m in metrics]
    for column, _ in differences:
        value = number(row.get(column), signed=True)
        cells.append((value, _ends(row, column, signed=True), p_value(row.get(f"{column}_p"))))
    return {
        "model": row["model"],
        "kind": row["kind"],
        "cells": cells,
        "is_shown": row["model"] == run.model,
        "is_best_baseline": best is not None and row["model"] == best["model"],
    }


def _ends(row: pd.Series, column: str, signed: bool = False) -> str:
    ends = row.get(f"{column}_low"), row.get(f"{column}_high")
    return (
        ""
        if any(is_blank(e) for e in ends)
        else f"{number(ends[0], signed=signed)} to {number(ends[1], signed=signed)}"
    )


def _summary(name: str, values: pd.Series) -> list[tuple[str, str, str]]:
    missing = int(values.isna().sum())
    unknown = [(name, "not known", _share(missing, len(values)))] if missing else []
    numeric = pd.to_numeric(values, errors="coerce")
    is_measure = numeric.nunique() > _MAX_LEVELS or (numeric.nunique() > 2 and numeric.max() > _LARGEST_CODE)
    if numeric.notna().sum() == values.notna().sum() > 0 and is_measure:
        middle = f"{_measure(numeric.median())} ({_measure(numeric.min())} to {_measure(numeric.max())})"
        return [(name, "median (range)", middle), *unknown]
    counts = values.dropna().map(level_name).value_counts()
    if counts.empty or len(counts) > _MAX_LEVELS:
        return []
    shares = [(name, level, _share(n, len(values))) for level, n in counts.sort_index().items()]
    return [*shares, *unknown]


def _share(n: int, of: int) -> str:
    return f"{count(n)} ({n / of:.0%})"


def _measure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
