"""Positions in micrometres in, CellGraph out. May import errors and ops."""

from metaniche.graph.build import GraphConfig, build_graph, estimate_memory
from metaniche.graph.cellgraph import RELATIONS, CellGraph, concat

__all__ = ["RELATIONS", "CellGraph", "GraphConfig", "build_graph", "concat", "estimate_memory"]
