"""Where the risk comes from, and what is left of it when pairs fall away."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from metaniche.report.figures.style import CYCLE, HAIR, SOFT, new_figure, said, styled


@styled
def shares(table: pd.Series, title: str) -> Figure:
    """Bars of shares that sum to 1, largest on top; a share below 0 works against the others. `table`: name -> share."""
    if table.empty:
        return said("Nothing to share out.", 7.0)
    figure = new_figure(7.0, 0.9 + 0.32 * len(table))
    axes = figure.add_subplot()
    rows = table.iloc[::-1]
    axes.barh(rows.index.astype(str), rows, color=[CYCLE[0] if v >= 0 else CYCLE[1] for v in rows], height=0.7)
    axes.axvline(0, color=SOFT, lw=0.8)
    axes.set(xlabel="Share of the variance between units", title=title)
    axes.grid(axis="x", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    return figure


@styled
def deletion(table: pd.DataFrame) -> Figure:
    """Deletion and insertion curves beside random orders and the ranking by a network with shuffled weights.

    Parameters
    ----------
    table
        As `explain.Explanation.curves` (n_pairs) or `edge_curves` (share): curve, left, random, random_low, random_high,
        shuffled.
    """
    if table.empty:
        return said("No curves: nothing is heard, or no pairs.", 9.4)
    of_edges = "share" in table
    figure = new_figure(9.4, 3.8)
    for axes, (curve, rows) in zip(figure.subplots(1, 2, sharey=True), table.groupby("curve", sort=True)):
        x, done = rows["share" if of_edges else "n_pairs"], "deleted" if curve == "deletion" else "inserted"
        axes.fill_between(x, rows["random_low"], rows["random_high"], color=HAIR, lw=0)
        axes.plot(x, rows["random"], color=SOFT, label="random orders")
        axes.plot(x, rows["shuffled"], color=CYCLE[1], ls="--", label="ranked with shuffled weights")
        axes.plot(x, rows["left"], color=CYCLE[0], marker="o", ms=3.5, label="ranked by this network")
        axes.set(xlabel=f"{'Edges' if of_edges else 'Pairs'} {done}", title=curve.capitalize())
        if of_edges:
            axes.set_xscale("symlog", linthresh=0.01, linscale=0.5)
            axes.set_xticks([0, 0.01, 0.1, 1], ["0", "1 %", "10 %", "all"])
        elif x.max() > 20:
            axes.set_xscale("symlog", linthresh=1, linscale=0.5)
            axes.xaxis.set_major_formatter("{x:.0f}")
        axes.grid(color=HAIR, lw=0.6)
        axes.set_axisbelow(True)
    figure.axes[0].set(ylabel="Left of the signals term" if of_edges else "Left of the differences between units")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8)
    return figure


@styled
def associations(table: pd.DataFrame, title: str) -> Figure:
    """Correlations with their intervals, the strongest on top. `table`: name -> correlation, low, high."""
    if table.empty:
        return said("No cell state was scored in enough patients.", 7.0)
    figure = new_figure(7.0, 1.0 + 0.34 * len(table))
    axes = figure.add_subplot()
    rows = table.iloc[::-1]
    middle, low, high = (rows[c].to_numpy(float) for c in ("correlation", "low", "high"))
    axes.errorbar(middle, range(len(rows)), xerr=[middle - low, high - middle], fmt="o", color=CYCLE[0], ms=4, lw=1.4)
    axes.set_yticks(range(len(rows)), rows.index.astype(str))
    axes.axvline(0, color=SOFT, lw=0.8)
    axes.set(xlim=(-1, 1), xlabel="Spearman's correlation with the potential, mean over patients", title=title)
    axes.grid(axis="x", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    return figure
