"""Where a risk comes from: terms, pairs, and whether the answer survives being tried. May import everything up to predict."""

from metaniche.explain.deletion import deletion_curves
from metaniche.explain.pairs import pair_contributions
from metaniche.explain.shares import variance_shares

__all__ = ["deletion_curves", "pair_contributions", "variance_shares"]
