"""In: DataFrames of predictions, tables, cells. Out: matplotlib Figures in one style. No pyplot and no global state."""

from metaniche.report.figures.communication import chord, length_scale, pair_dotplot, sender_receiver_heatmap
from metaniche.report.figures.comparison import forest, permutation_control
from metaniche.report.figures.discrimination import calibration, precision_recall, roc
from metaniche.report.figures.explanation import associations, deletion, shares
from metaniche.report.figures.patients import signals_of_patients
from metaniche.report.figures.search import search_history
from metaniche.report.figures.signal_map import edge_map, vector_field
from metaniche.report.figures.spatial import spatial_map
from metaniche.report.figures.survival import kaplan_meier, risk_groups
from metaniche.report.figures.training import training_curve
from metaniche.report.figures.uncertainty import conformal

__all__ = [
    "associations",
    "calibration",
    "chord",
    "conformal",
    "deletion",
    "edge_map",
    "forest",
    "kaplan_meier",
    "length_scale",
    "pair_dotplot",
    "permutation_control",
    "precision_recall",
    "risk_groups",
    "roc",
    "search_history",
    "sender_receiver_heatmap",
    "shares",
    "signals_of_patients",
    "spatial_map",
    "training_curve",
    "vector_field",
]
