"""How a hyperparameter search went."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metaniche.report.figures.style import HAIR, new_figure, said, shades_of, styled


@styled
def search_history(table: pd.DataFrame) -> Figure:
    """Inner score of every trial, and the best one so far, a color per outer fold.

    Parameters
    ----------
    table
        As `evaluation.search.Search.trials`: repeat, fold, number, state and value.
    """
    scored = table[(table["state"] == "complete") & table["value"].notna()]
    if scored.empty:
        return said("No trial has a score yet.", 7.0)
    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    folds = list(scored.groupby(["repeat", "fold"], sort=True))
    for ((repeat, fold), rows), color in zip(folds, shades_of(len(folds))):
        rows = rows.sort_values("number")
        axes.plot(rows["number"], rows["value"], ls="", marker="o", ms=3, color=color, alpha=0.5)
        name = f"fold {fold + 1}" if scored["repeat"].nunique() == 1 else f"repeat {repeat + 1}, fold {fold + 1}"
        axes.step(rows["number"], rows["value"].cummax(), where="post", color=color, label=name)
    axes.set(xlabel="Trial (0: the config as it is)", ylabel="Inner score", title="Best so far, by outer fold")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=8)
    return figure
