"""Where a risk comes from: terms, pairs, and whether the answer survives being tried. May import everything up to predict."""

from metaniche.explain.deletion import deletion_curves
from metaniche.explain.edges import edge_deletion_curves
from metaniche.explain.explanation import Explanation, explained
from metaniche.explain.pairs import pair_contributions
from metaniche.explain.states import state_associations
from metaniche.metrics.shares import variance_shares

__all__ = [
    "Explanation",
    "deletion_curves",
    "edge_deletion_curves",
    "explained",
    "pair_contributions",
    "state_associations",
    "variance_shares",
]
