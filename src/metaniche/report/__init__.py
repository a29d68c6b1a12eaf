"""In: the files that an evaluation left in its run folder. Out: figures, one self-contained HTML file and a model card.

May import every room up to evaluation; it needs errors, io and metrics only, so a report is built without torch.
"""

from metaniche.report.html import build_report
from metaniche.report.model_card import ModelCard, fill_card

__all__ = ["ModelCard", "build_report", "fill_card"]
