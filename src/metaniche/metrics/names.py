"""Metrics by name: how they are called, which direction is better, where chance stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How to speak of one metric column.

    Attributes
    ----------
    better
        "higher", "lower" or "near 1".
    chance
        Value of a model that knows nothing, or None.
    """

    column: str
    label: str
    better: str = "higher"
    chance: float | None = None
    words: str = ""


_NAMED = (
    Metric("auroc_within", "AUROC within patients", chance=0.5, words="AUROC among each patient's own units, averaged"),
    Metric("auroc", "AUROC", chance=0.5, words="chance that a unit with the outcome ranks above one without"),
    Metric("auprc", "AUPRC", words="mean precision over recall; chance is the prevalence"),
    Metric("sens_at_90_spec", "Sensitivity at 90 % spec.", words="share with the outcome found at 10 % false alarms"),
    Metric("sens_at_95_spec", "Sensitivity at 95 % spec.", words="share with the outcome found at 5 % false alarms"),
    Metric("harrell_c", "Harrell's C", chance=0.5, words="chance that the earlier event has the higher risk"),
    Metric("uno_c", "Uno's C", chance=0.5, words="as Harrell's C, corrected for censoring"),
    Metric("ibs", "Integrated Brier score", better="lower", words="mean squared error of predicted survival"),
    Metric("calibration_slope", "Calibration slope", better="near 1", words="below 1: predictions too extreme"),
    Metric("ece", "Calibration error (ECE)", better="lower", words="mean gap of predicted and observed frequency"),
)
METRICS = {metric.column: metric for metric in _NAMED}
