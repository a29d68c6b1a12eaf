"""AnnData in, CellGraph out (and tables of neighbours in micrometres). May import errors, ops and io."""

from metaniche.graph.build import GraphConfig, build_graph, estimate_memory
from metaniche.graph.cellgraph import RELATIONS, CellGraph, concat

__all__ = ["RELATIONS", "CellGraph", "GraphConfig", "build_graph", "concat", "estimate_memory"]
