"""The metrics that a table holds, and numbers as words."""

from __future__ import annotations

import math

import pandas as pd

from metaniche.metrics.names import METRICS, Metric


def metrics_of(table: pd.DataFrame, is_survival: bool = False) -> list[Metric]:
    """The metrics a table holds, the primary one first: the one the table names, else C or AUROC."""
    primary = table["primary_metric"].iloc[0] if "primary_metric" in table and len(table) else None
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
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def count(value: object) -> str:
    """12,345."""
    return "–" if is_blank(value) else f"{int(value):,}"
