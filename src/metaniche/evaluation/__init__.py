"""Prepared cohorts and tasks in; out-of-fold predictions, the comparison table and its controls out.

May import errors, io, ops, metrics, graph, nn, data, models, training and predict.
"""

from metaniche.evaluation.baselines import ClinicalModel, SummaryModel, fused_with, standard_baselines
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.estimator import Estimator, Prediction
from metaniche.evaluation.fusion import Fused
from metaniche.evaluation.permutation import PermutationControl, permutation_control
from metaniche.evaluation.predictions import CrossValidation
from metaniche.evaluation.table import comparison_table, repeat_table

__all__ = [
    "ClinicalModel",
    "CrossValidation",
    "Estimator",
    "Fused",
    "PermutationControl",
    "Prediction",
    "SummaryModel",
    "comparison_table",
    "cross_validate",
    "fused_with",
    "permutation_control",
    "repeat_table",
    "standard_baselines",
]
