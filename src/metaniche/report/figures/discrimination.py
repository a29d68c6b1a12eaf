"""How well risks separate and how true they are: ROC, precision-recall and calibration curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from metaniche.evaluation.ranks import score_column
from metaniche.report.figures.style import FAINT, HAIR, INK, SOFT, colors_of, new_figure, plain, said, styled

_GRID = np.linspace(0, 1, 401)
_FEWEST = 10
_NO_CURVE = "No curve: the held-out predictions\nhold fewer than two classes."
Curves = dict[str, list[np.ndarray]]


def split_repeats(predictions: pd.DataFrame, model: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(y, score) of each repeat (and site) of one model; units without a label and one-class repeats are left out."""
    score = score_column(predictions)
    rows = predictions[predictions["model"] == model].dropna(subset=["y", score])
    by = [c for c in ("repeat", "site") if c in rows]
    repeats = [r for _, r in rows.groupby(by)] if by else [rows]
    pairs = [(r["y"].to_numpy(int), r[score].to_numpy(float)) for r in repeats]
    return [(y, score) for y, score in pairs if np.unique(y).size == 2]


@styled
def roc(
    predictions: pd.DataFrame,
    highlight: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Receiver operating characteristic of held-out predictions, averaged over repeats (and sites).

    Parameters
    ----------
    predictions
        Long table: model, y (0/1), risk (higher = worse); optional repeat, site, and score (ranks in place of risk).
    highlight
        Models drawn in colour, the first with its repeats; the rest is grey. None: the first four models.
    kinds
        model -> network, fused, clinical or baseline, for the colour.
    labels
        model -> words after its name in the legend; by default the mean AUROC.
    """
    curves = _curves(predictions, _roc_on_grid)
    if not curves:
        return said(_NO_CURVE)
    figure, axes = _square("1 - specificity", "Sensitivity", "ROC")
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":", zorder=1)
    labels = labels or {m: f"{_mean_of(predictions, m, roc_auc_score):.2f}" for m in curves}
    _draw(axes, curves, highlight, kinds, labels, "chance", np.r_[0, _GRID], start=0.0)
    return figure


@styled
def precision_recall(
    predictions: pd.DataFrame,
    highlight: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Precision over recall of held-out predictions, averaged over repeats; parameters as in `roc`."""
    curves = _curves(predictions, _precision_on_grid)
    if not curves:
        return said(_NO_CURVE)
    figure, axes = _square("Recall (sensitivity)", "Precision (positive predictive value)", "Precision-recall")
    prevalence = np.mean(np.concatenate([y for m in curves for y, _ in split_repeats(predictions, m)]))
    axes.axhline(prevalence, color=SOFT, lw=0.8, ls=":", zorder=1)
    labels = labels or {m: f"{_mean_of(predictions, m, average_precision_score):.2f}" for m in curves}
    _draw(axes, curves, highlight, kinds, labels, f"prevalence {prevalence:.2f}", _GRID)
    return figure


@styled
def calibration(predictions: pd.DataFrame, model: str, n_bins: int | None = None) -> Figure:
    """Predicted against observed frequency; the legend says how many units a point stands for.

    Each unit counts once, with its probability averaged over repeats. Bins hold equally many units (5 below 200 units,
    else 10); bars are Wilson 95 % intervals. Risks outside 0..1, one class or fewer than 10 units give a word instead.
    """
    rows = predictions[predictions["model"] == model].dropna(subset=["y", "risk"])
    if rows.empty or not rows["risk"].between(0, 1).all():
        return said("No calibration curve: the risks are not probabilities." if len(rows) else _NO_CURVE)
    if rows["y"].nunique() < 2 or rows["unit_id"].nunique() < _FEWEST:
        return said(f"No calibration curve: fewer than {_FEWEST} units,\nor only one class, were held out.")
    units = rows.groupby([c for c in ("unit_id", "site") if c in rows]).agg(y=("y", "first"), risk=("risk", "mean"))
    wanted = n_bins or (5 if len(units) < 200 else 10)
    bins = units.groupby(pd.qcut(units["risk"].rank(method="first"), min(wanted, len(units)), labels=False))
    table = bins.agg(risk=("risk", "mean"), events=("y", "sum"), n=("y", "size"))
    low, high = wilson(table["events"].to_numpy(float), table["n"].to_numpy(float))
    figure = new_figure(4.7, 4.9)
    axes, counts = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    observed = table["events"] / table["n"]
    each = " or ".join(map(str, sorted(table["n"].unique())))
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":", label="perfect")
    axes.vlines(table["risk"], low, high, color="#0072B2", lw=1.4)
    axes.plot(
        table["risk"], observed, "o-", color="#0072B2", ms=5, lw=1, label=f"{plain(model, 28)}, {each} units a point"
    )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.02, 1.09), ylabel="Observed frequency", title="Calibration")
    axes.legend(loc="upper left")
    outcomes = [units.loc[units["y"] == y, "risk"] for y in (0, 1)]
    names = ("without the outcome", "with the outcome")
    counts.hist(outcomes, np.linspace(0, 1, 21), color=(FAINT, INK), label=names, stacked=True)
    counts.set(xlabel="Predicted probability", ylabel="Units")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    counts.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=7.5, handlelength=1, borderpad=0)
    return figure


def wilson(events: np.ndarray, n: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson score interval of a proportion (doi:10.1080/01621459.1927.10502953)."""
    z = norm.ppf(0.5 + level / 2)
    centre = (events + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(events * (n - events) / n + z**2 / 4) / (n + z**2)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _curves(predictions: pd.DataFrame, on_grid: Callable) -> Curves:
    models = predictions["model"].unique() if "y" in predictions else ()
    found = {m: [on_grid(y, risk) for y, risk in split_repeats(predictions, m)] for m in models}
    return {m: c for m, c in found.items() if c}


def _roc_on_grid(y: np.ndarray, risk: np.ndarray) -> np.ndarray:
    fpr, tpr, _ = roc_curve(y, risk)
    return np.interp(_GRID, fpr, tpr)


def _precision_on_grid(y: np.ndarray, risk: np.ndarray) -> np.ndarray:
    # Stepwise, as average precision counts it: a straight line between two points would be too hopeful.
    precision, recall, _ = precision_recall_curve(y, risk)
    precision, recall = precision[-2::-1], recall[-2::-1]
    return precision[np.searchsorted(recall, _GRID, side="left").clip(max=len(recall) - 1)]


def _mean_of(predictions: pd.DataFrame, model: str, score: Callable) -> float:
    return float(np.mean([score(y, risk) for y, risk in split_repeats(predictions, model)]))


def _square(x_label: str, y_label: str, title: str) -> tuple[Figure, Axes]:
    figure = new_figure(4.7, 5.5)
    axes = figure.add_subplot()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel=x_label, ylabel=y_label, title=title)
    axes.set_aspect("equal")
    axes.grid(color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _draw(axes: Axes, curves: Curves, highlight, kinds, labels, chance: str, x: np.ndarray, start=None) -> None:
    """Mean curve of each model (gid = model), the first highlighted one over its repeats, and the legend below."""
    chosen = [m for m in (highlight or list(curves)[:4]) if m in curves]
    others = [m for m in curves if m not in chosen]
    lead = [] if start is None else [start]
    entries = [(axes.lines[0], chance)]
    for model in others:
        line = axes.plot(x, np.r_[lead, np.mean(curves[model], axis=0)], color=FAINT, lw=0.9, gid=model, zorder=2)[0]
    if others:
        entries.insert(0, (line, f"other models ({len(others)})"))
    looks = colors_of(chosen, kinds)
    for repeat in curves[chosen[0]] if chosen and len(curves[chosen[0]]) > 1 else ():
        axes.plot(x, np.r_[lead, repeat], color=looks[chosen[0]][0], lw=0.6, alpha=0.35, zorder=3)
    for model in reversed(chosen):
        color, dash = looks[model]
        mean = np.r_[lead, np.mean(curves[model], axis=0)]
        line = axes.plot(x, mean, color=color, ls=dash, lw=2, gid=model, zorder=4 + (dash != "-"))[0]
        entries.insert(0, (line, f"{plain(model, 30)}  {labels.get(model, '')}".rstrip()))
    axes.figure.legend(*zip(*entries), loc="outside lower left", ncols=1, handlelength=2.2)
