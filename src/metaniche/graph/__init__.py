"""Positions in micrometres in, CellGraph out. May import errors and ops."""

from metaniche.graph.build import GraphConfig, build_graph, estimate_memory
from metaniche.graph.cellgraph import RELATIONS, CellGraph, concat, kept_pointers, rows_of

__all__ = [
    "RELATIONS",
    "CellGraph",
    "GraphConfig",
    "build_graph",
    "concat",
    "estimate_memory",
    "kept_pointers",
    "rows_of",
]
