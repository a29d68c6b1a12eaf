"""NumPy arrays in, numbers out: discrimination, survival, calibration and patient bootstrap. May import errors only.

Every metric takes an optional `weight`, (n,) or (B, n): one weighting of the units per bootstrap resample, so that B
resamples cost one vectorised call. A metric that is undefined (one class, no comparable pair) is NaN, never an error.
"""

from metaniche.metrics.bootstrap import bootstrap_ci, paired_difference, resample_weights
from metaniche.metrics.calibration import calibration_slope, cox_calibration_slope, ece
from metaniche.metrics.discrimination import auprc, auroc, sensitivity_at_specificity
from metaniche.metrics.survival import concordance, harrell_c, integrated_brier, uno_c

__all__ = [
    "auprc",
    "auroc",
    "bootstrap_ci",
    "calibration_slope",
    "concordance",
    "cox_calibration_slope",
    "ece",
    "harrell_c",
    "integrated_brier",
    "paired_difference",
    "resample_weights",
    "sensitivity_at_specificity",
    "uno_c",
]
