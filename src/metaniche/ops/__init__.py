"""Tensors in, tensors out: the performance core. All names here are public, whether or not a room of this package calls them.

`reference/` holds the plain implementation of every op under its name. May import errors only.
"""

from metaniche.ops.autocorrelation import Autocorrelation, bivariate_moran, geary, moran
from metaniche.ops.backend import use_backend
from metaniche.ops.csr_encoder import csr_encoder
from metaniche.ops.edge_attention import edge_attention
from metaniche.ops.edge_null import EdgeNull, edge_scores_null, neighborhood_enrichment
from metaniche.ops.expression import complex_expression
from metaniche.ops.hilbert import hilbert_order
from metaniche.ops.label_null import (
    MomentNull,
    PermutationNull,
    cluster_means_null,
    cluster_means_permutations,
)
from metaniche.ops.ligrec import (
    LigandReceptor,
    hill,
    received_by_pair,
    received_signal,
    sent_by_pair,
    sent_signal,
    type_pair_sums,
)
from metaniche.ops.neighbors import Neighbors, delaunay_neighbors, knn_neighbors, radius_neighbors, thinned_neighbors
from metaniche.ops.pair_logits import pair_logits
from metaniche.ops.segment import segment_max, segment_mean, segment_softmax, segment_sum
from metaniche.ops.transport import Transport, transport

__all__ = [
    "Autocorrelation",
    "EdgeNull",
    "LigandReceptor",
    "MomentNull",
    "Neighbors",
    "PermutationNull",
    "Transport",
    "bivariate_moran",
    "cluster_means_null",
    "cluster_means_permutations",
    "complex_expression",
    "csr_encoder",
    "delaunay_neighbors",
    "edge_attention",
    "edge_scores_null",
    "geary",
    "hilbert_order",
    "hill",
    "knn_neighbors",
    "moran",
    "neighborhood_enrichment",
    "pair_logits",
    "radius_neighbors",
    "received_by_pair",
    "received_signal",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "sent_by_pair",
    "sent_signal",
    "thinned_neighbors",
    "transport",
    "type_pair_sums",
    "use_backend",
]
