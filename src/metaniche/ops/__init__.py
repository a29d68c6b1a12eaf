"""Tensors in, tensors out: the performance core.

`reference/` holds the plain implementation of every op under its name. May import errors only.
"""

from metaniche.ops.autocorrelation import Autocorrelation, bivariate_moran, geary, moran
from metaniche.ops.csr_encoder import csr_encoder
from metaniche.ops.edge_attention import edge_attention
from metaniche.ops.hilbert import hilbert_order
from metaniche.ops.neighbors import Neighbors, delaunay_neighbors, knn_neighbors, radius_neighbors
from metaniche.ops.segment import segment_max, segment_mean, segment_softmax, segment_sum
from metaniche.ops.transport import Transport, transport

__all__ = [
    "Autocorrelation",
    "Neighbors",
    "Transport",
    "bivariate_moran",
    "csr_encoder",
    "delaunay_neighbors",
    "edge_attention",
    "geary",
    "hilbert_order",
    "knn_neighbors",
    "moran",
    "radius_neighbors",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "transport",
]
