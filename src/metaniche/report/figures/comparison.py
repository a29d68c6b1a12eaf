"""Models side by side: a forest plot of intervals, and the control with permuted labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaniche.report.figures.style import BESIDE, INK, KIND_COLOR, SOFT, as_rows, new_figure, plain, said, styled
from metaniche.report.vocabulary import with_interval

_MARKS = {"network": "D", "fused": "s", "clinical": "^", "baseline": "o"}


@styled
def forest(
    table: pd.DataFrame,
    metric: str = "auroc",
    label: str | None = None,
    chance: float | None = None,
    ascending: bool = False,
    emphasis: str | None = None,
) -> Figure:
    """Estimate and interval of one metric for every model and, where given, the paired difference to the best baseline.

    Parameters
    ----------
    table
        A row per model: model, kind, `metric` with `_low` and `_high`; optional diff_baseline with `_low`, `_high`.
    label, chance
        Axis label; where a useless model stands.
    ascending
        True where lower is better.
    emphasis
        Model written in bold.
    """
    rows = table.dropna(subset=[metric]) if metric in table else table.iloc[:0]
    if rows.empty:
        return said(f"No comparison: the table holds no {metric}.", 9.4)
    rows = rows.sort_values(metric, ascending=ascending, kind="stable").reset_index(drop=True)
    has_difference = "diff_baseline" in rows and rows["diff_baseline"].notna().any()
    figure = new_figure(9.4, 1.35 + 0.3 * len(rows))
    panels = figure.subplots(
        1, 2 if has_difference else 1, sharey=True, squeeze=False, width_ratios=(3, 2)[: 1 + has_difference]
    )
    left = panels[0, 0]
    _intervals(left, rows, metric, emphasis, chance)
    left.set(xlabel=label or metric, yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6))
    left.set_yticklabels([plain(m) for m in rows["model"]])
    for tick, name in zip(left.get_yticklabels(), rows["model"]):
        tick.set(color=INK, fontsize=9, fontweight="bold" if name == emphasis else "normal")
    _kind_legend(figure, rows)
    if has_difference:
        right = panels[0, 1]
        _intervals(right, rows, "diff_baseline", emphasis, 0.0, signed=True)
        right.set_xlabel(f"Paired difference in {label or metric}\nto the best simple baseline")
        right.tick_params(labelleft=False)
    return figure


@styled
def permutation_control(
    control: Mapping, observed: tuple[float, float, float] | None = None, label: str = "AUROC"
) -> Figure:
    """A metric under permuted labels against 0.5, beside the observed one.

    Parameters
    ----------
    control
        estimate, low, high, and optional values, one per permutation.
    observed
        estimate, low, high with the labels as they are.
    """
    shown = {"labels permuted": [control.get(k) for k in ("estimate", "low", "high")]}
    if observed is not None:
        shown = {"labels as they are": list(observed)} | shown
    figure = new_figure(9.4, 0.95 + 0.36 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0.5, color=SOFT, lw=0.8, ls=":")
    values = list(control.get("values") or ())
    axes.plot(values, [len(shown) - 0.8] * len(values), ".", color=SOFT, ms=5, gid="permutations")
    for i, (name, ends) in enumerate(shown.items()):
        row = pd.Series(ends, ["it", "it_low", "it_high"], dtype=float)
        color = SOFT if name == "labels permuted" else KIND_COLOR["network"]
        axes.plot(row.iloc[1:], [i, i], color=color, lw=2)
        axes.plot(row["it"], i, "o", color=color, ms=6)
        axes.annotate(with_interval(row, "it"), (1, i), (6, 0), **BESIDE)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6), yticks=range(len(shown)), xlabel=label)
    axes.set_yticklabels(list(shown), color=INK)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    return figure


def _intervals(
    axes: Axes, rows: pd.DataFrame, metric: str, emphasis: str | None, zero: float | None, signed: bool = False
) -> None:
    if zero is not None:
        axes.axvline(zero, color=SOFT, lw=0.8, ls=":", zorder=1)
    for i, row in rows.iterrows():
        if pd.isna(row[metric]):
            axes.annotate("the reference", (1, i), (6, 0), color=SOFT, **BESIDE)
            continue
        kind = row.get("kind", "baseline")
        color = KIND_COLOR.get(kind, KIND_COLOR["baseline"])
        low, high = row.get(f"{metric}_low", np.nan), row.get(f"{metric}_high", np.nan)
        axes.plot([low, high], [i, i], color=color, lw=2.4 if row["model"] == emphasis else 1.6, zorder=2)
        axes.plot(row[metric], i, _MARKS.get(kind, "o"), color=color, ms=6, zorder=3, gid=row["model"])
        axes.annotate(with_interval(row, metric, signed=signed), (1, i), (6, 0), **BESIDE)
    as_rows(axes)


def _kind_legend(figure: Figure, rows: pd.DataFrame) -> None:
    kinds = [k for k in KIND_COLOR if "kind" in rows and (rows["kind"] == k).any()]
    marks = [figure.axes[0].plot([], [], _MARKS[k], color=KIND_COLOR[k], ms=6, label=k)[0] for k in kinds]
    if marks:
        figure.legend(handles=marks, loc="outside upper right", ncols=len(marks), handletextpad=0.2)
