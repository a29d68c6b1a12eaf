"""Signals over patients: which hold in them, or differ between groups of them, with their intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaniche.report.figures.style import BESIDE, INK, KIND_COLOR, SOFT, as_rows, new_figure, plain, said, styled
from metaniche.report.vocabulary import number

_FOUND = KIND_COLOR["network"]


@styled
def signals_of_patients(table: pd.DataFrame, n_signals: int = 20, alpha: float = 0.05) -> Figure:
    """The signals with the smallest p, with their intervals over patients; those with q < alpha are filled.

    Parameters
    ----------
    table
        As `signaling.consistent_signals` makes it (enrichment, against 1) or `signaling.differential_communication`
        (difference, against 0): sender, receiver, ligand, receptor, the value with low and high, q. In the order of p.
    n_signals
        At most as many are drawn.
    """
    compared = "difference" in table
    value, none = ("difference", 0.0) if compared else ("enrichment", 1.0)
    rows = table.dropna(subset=[value]).head(n_signals).reset_index(drop=True)
    if rows.empty:
        return said("No signal was measured in enough patients.", 9.4)
    figure = new_figure(9.4, 1.35 + 0.3 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(none, color=SOFT, lw=0.8, ls=":", zorder=1)
    for place, row in rows.iterrows():
        _interval(axes, place, row, value, row["q"] < alpha)
    axes.set(yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticklabels([_name(row) for _, row in rows.iterrows()], color=INK)
    axes.set_xlabel(_difference_of(table) if compared else "Score over expected, mean over patients")
    as_rows(axes)
    marks = {f"q < {alpha:g}": (_FOUND, _FOUND), f"q ≥ {alpha:g}": (SOFT, "white")}
    handles = [
        Line2D([], [], color=edge, marker="o", mfc=face, ms=6, label=name) for name, (edge, face) in marks.items()
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2)
    return figure


def _interval(axes: Axes, place: int, row: pd.Series, value: str, found: bool) -> None:
    color = _FOUND if found else SOFT
    axes.plot([row["low"], row["high"]], [place, place], color=color, lw=1.6, zorder=2)
    axes.plot(row[value], place, "o", color=color, mfc=color if found else "white", ms=6, zorder=3, gid=_name(row))
    text = f"{number(row[value])} ({number(row['low'])} to {number(row['high'])}), q {row['q']:.2g}"
    axes.annotate(text, (1, place), (6, 0), **BESIDE)


def _name(row: pd.Series) -> str:
    """The signal; before it, where there are any, the strata within which it was compared."""
    sender, receiver, ligand, receptor = (plain(row[name], 18) for name in ("sender", "receiver", "ligand", "receptor"))
    strata = [plain(value, 18) for value in row.iloc[: row.index.get_loc("sender")]]
    return ", ".join([*strata, f"{sender} → {receiver}: {ligand} - {receptor}"])


def _difference_of(table: pd.DataFrame) -> str:
    if "groups" not in table.attrs:
        return "Difference between the two groups of patients"
    first, second = table.attrs["groups"]
    what = f"{plain(table.attrs['compared'], 24)}: {plain(second, 24)} less {plain(first, 24)}"
    return f"Difference of the {table.attrs['value']} between patients ({what})"
