"""The figures of one run, each with the words that stand under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metaniche.evaluation.conformal import coverage_table
from metaniche.io import keys
from metaniche.metrics.names import METRICS
from metaniche.metrics.shares import variance_shares
from metaniche.report import figures
from metaniche.report.exemplars import choose_exemplars
from metaniche.report.figures.style import data_uri
from metaniche.report.headline import best_baseline, clinical_model, primary_metric
from metaniche.report.run import Run
from metaniche.report.vocabulary import is_blank, with_interval

_MOST_HIGHLIGHTED = 4
_MOST_PAIRS = 10
_POTENTIAL_WORDS = (
    "Colour: metastatic potential of each malignant cell, what the predicted risk would be were the sample made of "
    "that cell alone, before clinical variables. Cells that are not malignant are pale, by type."
)
_PROBABILITY_WORDS = "Colour: the probability that the network gives each cell or spot by itself."


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI of a width in CSS pixels, its description for those who cannot see it, and its caption."""

    uri: str
    width: int
    alt: str
    caption: str


def comparison_pictures(run: Run) -> list[Picture]:
    """Forest plot of the primary metric."""
    metric = primary_metric(run)
    if metric is None:
        return []
    figure = figures.forest(
        run.table, metric.column, metric.label, metric.chance, ascending=metric.better == "lower", emphasis=run.model
    )
    caption = (
        "Points: estimates on held-out patients; bars: 95 % intervals over patients; the model of this report in bold."
    )
    return [_picture(figure, f"Forest plot of {metric.label} for every model", caption)]


def discrimination_pictures(run: Run) -> list[Picture]:
    """ROC and precision-recall of a yes-or-no task."""
    if run.predictions is None or "y" not in run.predictions:
        return []
    chosen = highlighted(run)
    auroc, auprc = (_labels(run, metric) for metric in ("auroc", "auprc"))
    return [
        _picture(
            figures.roc(run.predictions, chosen, run.kinds, auroc),
            "ROC curves of held-out predictions",
            "Mean over repeats; thin lines: single repeats of the first model. Figures and intervals as in the table.",
        ),
        _picture(
            figures.precision_recall(run.predictions, chosen, run.kinds, auprc),
            "Precision-recall curves of held-out predictions",
            "Stepwise, mean over repeats. The dotted line is what chance gives.",
        ),
    ]


def calibration_pictures(run: Run) -> list[Picture]:
    """Calibration of the model's probabilities, and its conformal sets."""
    if run.predictions is None or run.model is None:
        return []
    if "y" not in run.predictions:
        return _conformal_pictures(run)
    once = "once for each site whose label is known" if "site" in run.predictions else "once"
    several = run.predictions["unit_id"].nunique() > run.predictions["patient_id"].nunique()
    alone = ", as if the units of a patient were independent" if several else ""
    caption = (
        f"Each unit counts {once}, with its probability averaged over repeats. Points: bins of equally many units; bars: "
        f"Wilson 95 % intervals{alone}; below: how many units got which probability."
    )
    figure = figures.calibration(run.predictions, run.model)
    return [_picture(figure, "Calibration curve of held-out predictions", caption), *_conformal_pictures(run)]


def _conformal_pictures(run: Run) -> list[Picture]:
    """Coverage and abstention of the model, where there are folds to calibrate on."""
    if run.sets is None:
        return []
    judged = run.sets[run.sets["model"] == run.model].dropna(subset=["p0", "p1"])
    if judged.empty:
        return []
    caption = (
        "Sets of labels calibrated on the other folds, for either label by itself: at a promise of 90 % at most a tenth of "
        "the units should have a set without their label. A unit is decided when its set holds one label; the numbers are "
        "promises. Folds differ in their network, so that the promise is approximate."
    )
    if "site" in judged:
        caption += " A unit counts once for each site whose label is known."
    if run.task.get("level") == "sample":
        caption += " Samples of a patient are alike, and do not keep a promise as patients would."
    if run.is_survival:
        caption += (
            " The label is whether the event comes by the middle of the follow-up that is judged (where ECE is read); units "
            "count by the inverse of their chance to be observed so long, and not at all where they were not."
        )
    figure = figures.conformal(coverage_table(judged, tuple(np.linspace(0.02, 0.5, 25).round(2))))
    return [_picture(figure, "Coverage and abstention of conformal sets", caption)]


def survival_pictures(run: Run) -> list[Picture]:
    """Kaplan-Meier curves by held-out risk."""
    if run.predictions is None or not {"time", "event"} <= set(run.predictions) or run.model is None:
        return []
    groups = figures.risk_groups(run.predictions, run.model)
    caption = (
        "Patients in groups of equal size by held-out risk (mean over repeats of the rank within a repeat). Bands: "
        "95 % intervals; ticks: censored. The log-rank p takes the groups as given, not as made from predictions."
    )
    if run.task.get("competing"):
        caption += " Competing events are censored here, so that the curves fall below the share without the event."
    figure = figures.kaplan_meier(groups, _time_label(run), f"Event-free, by held-out risk of {run.model}")
    return [_picture(figure, "Kaplan-Meier curves by predicted risk group", caption)]


def map_pictures(run: Run) -> list[Picture]:
    """Metastatic potential, and attention where it was kept, of the patients at both ends of risk."""
    if run.cells is None or keys.POTENTIAL not in run.cells or not run.cells[keys.POTENTIAL].notna().any():
        return []
    chosen = choose_exemplars(run)
    of_cells = run.task.get("level") == "cell"
    label = "Probability of each cell or spot" if of_cells else None
    figure = figures.spatial_map(run.cells, chosen.samples, chosen.titles, label=label)
    colour = _PROBABILITY_WORDS if of_cells else _POTENTIAL_WORDS
    words = f"{colour} {chosen.rule} Each sample was mapped by a network that had not seen its patient."
    pictures = [_picture(figure, "Maps of metastatic potential", words, "png")]
    if keys.ATTENTION in run.cells and run.cells[keys.ATTENTION].notna().any():
        mean = run.cells.groupby(keys.SAMPLE)[keys.ATTENTION].transform("mean")
        relative = run.cells.assign(**{keys.ATTENTION: run.cells[keys.ATTENTION] / mean})
        figure = figures.spatial_map(relative, chosen.samples, chosen.titles, keys.ATTENTION)
        words = (
            "The same samples by attention, relative to the mean of the sample: which cells the prediction was pooled "
            "from. Attention is not an explanation."
        )
        pictures.append(_picture(figure, "Maps of attention", words, "png"))
    return pictures


def explanation_pictures(run: Run) -> list[Picture]:
    """Where the risk of held-out units comes from, and whether the ranking of pairs survives being tried."""
    if run.terms is None or len(run.terms) < 3:
        return []
    words = (
        "The logit, before clinical variables, is a sum of these terms; a share is what a term moves of its differences "
        "between held-out units. This is what the network computes, not what caused the outcome."
    )
    made = [_picture(figures.shares(variance_shares(run.terms), "Terms"), "Share of each term in the risk", words)]
    if run.states is not None and not run.states.empty:
        words = (
            "How the potential of held-out malignant cells goes with their states, within patients; 95 % intervals over "
            "patients. An association: the network may have read something else that goes with a state."
        )
        figure = figures.associations(run.states, "Cell states")
        made.append(_picture(figure, "Cell states and the potential", words))
    return [*made, *_pair_pictures(run), *_edge_pictures(run)]


def _pair_pictures(run: Run) -> list[Picture]:
    """Which pairs move the risk, and what is left without them."""
    if run.pairs is None or run.pairs.empty or run.curves is None:
        return []
    named = run.pairs.assign(pair=run.pairs["ligand"] + " - " + run.pairs["receptor"])
    by_pair = named.pivot_table(index="unit_id", columns="pair", values="contribution", aggfunc="sum", fill_value=0)
    whole = run.terms.sum(axis=1)
    by_pair = by_pair.reindex(whole.index, fill_value=0)  # in units without a row no pair says anything
    words = (
        "Of the same differences, what each ligand-receptor pair moves: the ten largest. Pairs that are expressed together "
        "cannot be told apart."
    )
    top = variance_shares(by_pair, whole).head(_MOST_PAIRS)
    made = [_picture(figures.shares(top, "Ligand-receptor pairs"), "Share of the pairs that move most", words)]
    words = (
        "The risk's differences, before clinical variables, that are left as pairs fall silent, first those that rank first; "
        "and as they come back. A ranking that means something leaves the random ones (grey, smallest to largest) at once; "
        "those by the same network with its weights shuffled should not. Pairs are ranked and taken away in the same units: "
        "this tests whether the ranking describes the network, not whether a pair matters in the tumour."
    )
    words += _left(run.curves, run.curves["n_pairs"] == 1, "the pair that ranks first")
    return [*made, _picture(figures.deletion(run.curves), "Deletion and insertion curves of pairs", words)]


def _edge_pictures(run: Run) -> list[Picture]:
    """What is left without the edges along which most is heard."""
    if run.edge_curves is None or run.edge_curves.empty:
        return []
    words = (
        "What is left of the signals term as edges fall silent, and as they come back: in every unit a share of the edges "
        "along which something is heard, first those that by the network's own account add most to the risk. The other orders "
        "have edges of the same relation and nearly the same length at every place (where edges stand for several neighbours, "
        "for about as many); above 1, what is gone worked against the rest."
    )
    words += _left(run.edge_curves, run.edge_curves["share"] == 0.1, "the tenth that ranks first")
    return [_picture(figures.deletion(run.edge_curves), "Deletion and insertion curves of edges", words)]


def _left(curves: pd.DataFrame, step: pd.Series, what: str) -> str:
    """The deletion curves at one step in words, where it is among theirs."""
    found = curves[step & (curves["curve"] == "deletion")]
    if found.empty:
        return ""
    row = found.iloc[0]
    return (
        f" Without {what} {row['left']:.2f} is left; ranked with shuffled weights {row['shuffled']:.2f}, at random "
        f"{row['random']:.2f} ({row['random_low']:.2f} to {row['random_high']:.2f})."
    )


def control_pictures(run: Run) -> list[Picture]:
    """The control with permuted labels beside the figure with the labels as they are."""
    control = run.info.get("permutation_control") or {}
    if is_blank(control.get("estimate")):
        return []
    row, name = run.row(control.get("model", run.model)), control.get("metric", "auroc")
    label = METRICS[name].label if name in METRICS else name
    observed = None
    if row is not None and not is_blank(row.get(name)):
        observed = tuple(row.get(c, float("nan")) for c in (name, f"{name}_low", f"{name}_high"))
    n = len(control.get("values") or ())
    caption = f"Small points: the {n} permutations." if n else ""
    figure = figures.permutation_control(control, observed, label)
    return [_picture(figure, f"{label} with labels as they are and permuted", caption)]


def training_pictures(run: Run) -> list[Picture]:
    """Loss by epoch."""
    if run.history is None:
        return []
    return [_picture(figures.training_curve(run.history), "Training and validation loss by epoch", "")]


def highlighted(run: Run) -> list[str] | None:
    """The model, the best simple baseline, the clinical model, and what the model is fused with; each once."""
    metric = primary_metric(run)
    if metric is None:
        return None
    others = [best_baseline(run, metric), clinical_model(run, metric)]
    fused = [m for m, kind in run.kinds.items() if kind == "fused" and str(run.model) in m]
    names = [run.model, *(row["model"] for row in others if row is not None), *fused]
    return list(dict.fromkeys(names))[:_MOST_HIGHLIGHTED]


def _picture(figure: Figure, alt: str, caption: str, kind: str = "svg") -> Picture:
    return Picture(data_uri(figure, kind), round(96 * figure.get_figwidth()), alt, caption)


def _labels(run: Run, metric: str) -> dict[str, str] | None:
    if run.table is None or metric not in run.table:
        return None
    return {row["model"]: with_interval(row, metric) for _, row in run.table.iterrows()}


def _time_label(run: Run) -> str:
    return f"Time ({run.task['time']})" if run.task.get("time") else "Time"
