"""Metrics by name: how they are called, which direction is better, where chance stands; and numbers as words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Metric:
    """How to speak of one metric column.

    Attributes
    ----------
    better
        "higher", "lower" or "near 1".
    chance
        Value of a model that knows nothing, or None.
    """

    column: str
    label: str
    better: str = "higher"
    chance: float | None = None
    words: str = ""


_NAMED = (
    Metric("auroc_within", "AUROC within patients", chance=0.5, words="AUROC among each patient's own units, averaged"),
    Metric("auroc", "AUROC", chance=0.5, words="chance that a unit with the outcome ranks above one without"),
    Metric("auprc", "AUPRC", words="mean precision over recall; chance is the prevalence"),
    Metric("sens_at_90_spec", "Sensitivity at 90 % spec.", words="share with the outcome found at 10 % false alarms"),
    Metric("sens_at_95_spec", "Sensitivity at 95 % spec.", words="share with the outcome found at 5 % false alarms"),
    Metric("harrell_c", "Harrell's C", chance=0.5, words="chance that the earlier event has the higher risk"),
    Metric("uno_c", "Uno's C", chance=0.5, words="as Harrell's C, corrected for censoring"),
    Metric("ibs", "Integrated Brier score", better="lower", words="mean squared error of predicted survival"),
    Metric("calibration_slope", "Calibration slope", better="near 1", words="below 1: predictions too extreme"),
    Metric("ece", "Calibration error (ECE)", better="lower", words="mean gap of predicted and observed frequency"),
)
METRICS = {metric.column: metric for metric in _NAMED}


def metrics_of(table: pd.DataFrame, is_survival: bool = False, primary: str | None = None) -> list[Metric]:
    """The metrics a table holds, the primary one first: the one named here or by the table, else C or AUROC."""
    if primary is None and "primary_metric" in table and len(table):
        primary = table["primary_metric"].iloc[0]
    bounded = [c for c in table if f"{c}_low" in table and f"{c}_high" in table and not c.startswith("diff_")]
    known = [c for c in METRICS if c in table and c not in bounded]
    columns = [c for c in [*bounded, *known] if pd.to_numeric(table[c], errors="coerce").notna().any()]
    preferred = ["harrell_c", "uno_c", "auroc"] if is_survival else ["auroc", "harrell_c", "uno_c"]
    order = [primary, *preferred, *METRICS]
    columns.sort(key=lambda c: order.index(c) if c in order else len(order))
    return [METRICS.get(c, Metric(c, c.replace("_", " "))) for c in columns]


def is_blank(value: object) -> bool:
    """None, NaN, empty text, or an empty collection."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, str):
        return value.strip().lower() in ("", "nan", "none", "null")
    return isinstance(value, list | tuple | dict) and not value


def number(value: object, digits: int = 2, signed: bool = False) -> str:
    """0.91, or a dash where there is none; a true minus sign."""
    if is_blank(value) or not math.isfinite(float(value)):
        return "–"
    rounded = round(float(value), digits) + 0.0
    sign = "+" if signed and rounded else ""
    return f"{rounded:{sign}.{digits}f}".replace("-", "−")


def with_interval(row: pd.Series, column: str, digits: int = 2, signed: bool = False) -> str:
    """0.91 (0.84 to 0.97), or the number alone where no interval is given."""
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    text = number(row.get(column), digits, signed)
    if is_blank(low) or is_blank(high):
        return text
    return f"{text} ({number(low, digits, signed)} to {number(high, digits, signed)})"


def p_value(value: object) -> str:
    """p < 0.001, p = 0.03, or nothing."""
    if is_blank(value):
        return ""
    return (
        "p\u00a0<\u00a00.001"
        if float(value) < 0.001
        else f"p\u00a0=\u00a0{float(value):.{2 if float(value) >= 0.01 else 3}f}"
    )


def level_name(value: object) -> str:
    """A category as a reader writes it: grade 2, not grade 2.0, where missing values made a column float."""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)


def count(value: object) -> str:
    """12,345."""
    return "–" if is_blank(value) else f"{int(value):,}"
