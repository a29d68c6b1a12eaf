"""What sets of labels promised and held, and what is left undecided."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from metaniche.report.figures.style import CYCLE, HAIR, SOFT, new_figure, said, styled

_LINES = (
    ("coverage", "all", CYCLE[0], "-"),
    ("coverage_0", "without the outcome", CYCLE[2], "--"),
    ("coverage_1", "with the outcome", CYCLE[1], ":"),
)


@styled
def conformal(table: pd.DataFrame) -> Figure:
    """Coverage of conformal sets against what was promised, and accuracy against the share of units that are decided.

    Parameters
    ----------
    table
        Of one model, as `evaluation.conformal.coverage_table`: nominal, coverage, coverage_0, coverage_1, certain, accuracy.
    """
    if table.empty:
        return said("No conformal sets: the folds hold fewer than two classes.", 9.4)
    figure = new_figure(9.4, 4.4)
    held, decided = figure.subplots(1, 2)
    held.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":")
    for column, label, color, dash in _LINES:
        held.plot(table["nominal"], table[column], color=color, ls=dash, label=label, gid=column)
    low = min(table["nominal"].min(), table[[name for name, *_ in _LINES]].min().min()) - 0.02
    held.set(xlim=(low, 1.005), ylim=(low, 1.02), xlabel="Promised", ylabel="Held (share of units)")
    held.set_title("Coverage of conformal sets")
    held.legend(loc="lower right")
    rows = table[table["certain"] > 0].sort_values("certain")
    decided.plot(rows["certain"], rows["accuracy"], color=CYCLE[0], marker="o", ms=3.5, gid="accuracy")
    for row in rows[rows["alpha"].isin((0.05, 0.1, 0.2))].itertuples():
        at = row.certain, row.accuracy
        decided.scatter(*at, 45, color="white", edgecolor=CYCLE[0], zorder=3)
        above = decided.annotate(f"{row.nominal:.0%}", at, (0, 7), textcoords="offset points", ha="center", fontsize=8)
        above.set_path_effects([withStroke(linewidth=3, foreground="white")])  # legible where it meets the line
    decided.set(xlim=(-0.02, 1.02), ylim=(None, 1.02), xlabel="Share of units that are decided")
    decided.set(ylabel="Accuracy among them", title="Abstention")
    for axes in (held, decided):
        axes.grid(color=HAIR, lw=0.6)
        axes.set_axisbelow(True)
    return figure
