"""Kaplan-Meier curves by predicted risk, with the numbers at risk below them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metaniche.evaluation.ranks import ranks, score_column
from metaniche.report.figures.style import DASHES, HAIR, SOFT, new_figure, plain, said, styled

GROUPS = {2: ("lower risk", "higher risk"), 3: ("low risk", "middle risk", "high risk")}
_COLORS = {2: ("#0072B2", "#D55E00"), 3: ("#0072B2", "#8A7A00", "#D55E00")}
# Tertiles of fewer events than this show noise, not groups.
_TERTILE_EVENTS = 30


def risk_groups(predictions: pd.DataFrame, model: str) -> pd.DataFrame:
    """Patients in groups of equal size by held-out risk.

    A patient's place is the mean over repeats of the rank of its score within the repeat (see `CrossValidation`; the risk
    where there is no score); a patient with several units takes their mean. Tertiles from 30 events on, else halves.

    Returns
    -------
    DataFrame indexed by patient_id: time, event, rank (0..1) and group (ordered categorical). Empty without such rows.
    """
    rows = predictions[predictions["model"] == model].dropna(subset=["time", "event", score_column(predictions)])
    by_patient = rows.assign(rank=ranks(rows)).groupby("patient_id")
    table = by_patient.agg(time=("time", "first"), event=("event", "first"), rank=("rank", "mean"))
    n_groups = 3 if table["event"].sum() >= _TERTILE_EVENTS else 2
    place = table["rank"].rank(method="first", pct=True).mul(n_groups).apply(np.ceil).astype(int) - 1
    names = GROUPS[n_groups]
    return table.assign(group=pd.Categorical.from_codes(place.clip(0, n_groups - 1), names, ordered=True))


def logrank_p(groups: pd.DataFrame) -> float:
    """Log-rank p over all groups; NaN where there is no event or only one group."""
    if groups.empty or groups["event"].sum() == 0 or groups["group"].nunique() < 2:
        return float("nan")
    return float(multivariate_logrank_test(groups["time"], groups["group"].astype(str), groups["event"]).p_value)


@styled
def kaplan_meier(
    groups: pd.DataFrame, time_label: str = "Time", title: str = "Event-free, by predicted risk"
) -> Figure:
    """Kaplan-Meier curves with 95 % bands, censoring marks and the number at risk.

    `groups` has a row per patient: time, event (0/1) and group (categorical, or text).
    """
    if groups.empty or groups["event"].sum() == 0:
        return said("No Kaplan-Meier curve: no patient has an event.", 9.4)
    names = [g for g in pd.Categorical(groups["group"]).categories if (groups["group"] == g).any()]
    colors = _COLORS.get(len(names), ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#4A5560"))
    figure = new_figure(9.4, 4.6 + 0.22 * len(names))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(10, 0.9 * len(names) + 0.4))
    for i, name in enumerate(names):
        _curve(axes, groups[groups["group"] == name], str(name), colors[i % len(colors)], DASHES[i % len(DASHES)])
    ends = groups["time"].max()
    axes.set(xlim=(-0.01 * ends, 1.02 * ends), ylim=(0, 1.03), ylabel="Event-free", title=plain(title, 80))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 3, 4, 5, 6, 10)))
    axes.grid(color=HAIR, lw=0.6)
    axes.tick_params(labelbottom=True)
    axes.set_xlabel(plain(time_label, 60))
    axes.legend(loc="lower left")
    p = logrank_p(groups)
    word = "log-rank p < 0.001" if p < 0.001 else f"log-rank p = {p:.3f}"
    axes.text(0.995, 0.97, word if np.isfinite(p) else "one group only", ha="right", va="top", transform=axes.transAxes)
    _at_risk(below, groups, names, colors, [t for t in axes.get_xticks() if 0 <= t <= ends])
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, name: str, color: str, dash: object) -> None:
    fit = KaplanMeierFitter().fit(rows["time"], rows["event"])
    times, alive = fit.timeline, fit.survival_function_.iloc[:, 0].to_numpy()
    low, high = fit.confidence_interval_.to_numpy().T
    label = f"{plain(name)} ({len(rows)} patients, {int(rows['event'].sum())} events)"
    axes.step(times, alive, where="post", color=color, ls=dash, label=label, gid=name)
    axes.fill_between(times, low, high, step="post", color=color, alpha=0.12, lw=0)
    censored = rows.loc[rows["event"] == 0, "time"]
    axes.plot(censored, fit.predict(censored), "|", color=color, ms=7, mew=1)


def _at_risk(axes: Axes, groups: pd.DataFrame, names: list, colors: tuple, ticks: list[float]) -> None:
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    axes.set_yticklabels([plain(n) for n in names])
    for label, color in zip(axes.get_yticklabels(), colors):
        label.set_color(color)
    for row, name in enumerate(names):
        time = groups.loc[groups["group"] == name, "time"].to_numpy()
        for tick in ticks:
            axes.text(tick, row, str(int((time >= tick).sum())), ha="center", va="center", fontsize=8.5)
    axes.set_title("Number at risk", fontsize=8.5, fontweight="normal", color=SOFT)
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
