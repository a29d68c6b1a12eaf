"""In: the files that an evaluation left in its run folder. Out: figures, one self-contained HTML file and a model card.

May import errors, ops, io, metrics, graph, nn, data, models, training, predict and evaluation; it needs errors and io.keys only.
"""

from metaniche.report.html import build_report
from metaniche.report.model_card import ModelCard, fill_card

__all__ = ["ModelCard", "build_report", "fill_card"]
