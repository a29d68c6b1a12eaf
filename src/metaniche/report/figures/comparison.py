"""Models side by side: a forest plot of intervals, and the control with permuted labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaniche.report.figures.style import HAIR, INK, KIND_COLOR, SOFT, new_figure, plain, said, styled

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
def permutation_control(control: Mapping[str, float], observed: tuple[float, float, float] | None = None) -> Figure:
    """AUROC with permuted labels (low, high) against 0.5, and the observed one (estimate, low, high) where given."""
    rows = [("labels permuted", control.get("auroc"), control.get("low"), control.get("high"), SOFT)]
    if observed is not None:
        rows.insert(0, ("labels as they are", *observed, KIND_COLOR["network"]))
    figure = new_figure(9.4, 0.95 + 0.36 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0.5, color=SOFT, lw=0.8, ls=":")
    for i, (_, value, low, high, color) in enumerate(rows):
        ends = [np.nan if v is None else v for v in (value, low, high)]
        axes.plot(ends[1:], [i, i], color=color, lw=2)
        axes.plot(ends[0], i, "o", color=color, ms=6)
        axes.annotate(
            _words(*ends), (1, i), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center"
        )
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)), xlabel="AUROC")
    axes.set_yticklabels([r[0] for r in rows], color=INK)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    return figure


def _intervals(
    axes: Axes, rows: pd.DataFrame, metric: str, emphasis: str | None, zero: float | None, signed: bool = False
) -> None:
    if zero is not None:
        axes.axvline(zero, color=SOFT, lw=0.8, ls=":", zorder=1)
    for i, row in rows.iterrows():
        at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 8}
        if pd.isna(row[metric]):
            axes.annotate("the reference", (1, i), (6, 0), color=SOFT, **at)
            continue
        kind = row.get("kind", "baseline")
        color = KIND_COLOR.get(kind, KIND_COLOR["baseline"])
        low, high = row.get(f"{metric}_low", np.nan), row.get(f"{metric}_high", np.nan)
        axes.plot([low, high], [i, i], color=color, lw=2.4 if row["model"] == emphasis else 1.6, zorder=2)
        axes.plot(row[metric], i, _MARKS.get(kind, "o"), color=color, ms=6, zorder=3, gid=row["model"])
        axes.annotate(_words(row[metric], low, high, signed), (1, i), (6, 0), **at)
    axes.grid(axis="x", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def _kind_legend(figure: Figure, rows: pd.DataFrame) -> None:
    kinds = [k for k in KIND_COLOR if "kind" in rows and (rows["kind"] == k).any()]
    marks = [figure.axes[0].plot([], [], _MARKS[k], color=KIND_COLOR[k], ms=6, label=k)[0] for k in kinds]
    if marks:
        figure.legend(handles=marks, loc="outside upper right", ncols=len(marks), handletextpad=0.2)


def _words(value: float, low: float, high: float, signed: bool = False) -> str:
    sign = "+" if signed else ""
    number = f"{value:{sign}.2f}".replace("-", "−")
    ends = f" ({low:{sign}.2f} to {high:{sign}.2f})".replace("-", "−")
    return number + (ends if np.isfinite([low, high]).all() else "")
