"""What a cell takes from its neighbours where no ligand-receptor pair is measured: learned keys over a learned range."""

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.length_scale import LengthScale, Range
from metaniche.nn.query_key_value import QueryKeyValue
from metaniche.ops.edge_attention import edge_attention
from metaniche.ops.pair_logits import pair_logits
from metaniche.ops.segment import segment_softmax


class ContextAttention(nn.Module):
    r"""Dot-product attention of receivers over senders, with the kernel of `LengthScale` and a null slot.

    Edges count as often as their weight in the graph says.

    .. math:: \alpha_{ij} \propto \kappa(d_{ij}) \, e^{q_i \cdot k_j / \sqrt{D}}

    Shapes: h (N, width) of receivers and senders -> (N, width).
    """

    def __init__(self, width: int, heads: int, length: Range | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = QueryKeyValue(width, heads)
        self.null = nn.Parameter(torch.zeros(heads))
        self.length = LengthScale(length, heads) if length else None

    def forward(self, h: Tensor, graph: CellGraph) -> Tensor:
        q, k, v = self.project(self.norm(h))
        return edge_attention(q, k, v, graph.indptr, graph.indices, self._bias(graph), self.null).flatten(1)

    def along(self, h: Tensor, graph: CellGraph, weight: Tensor) -> Tensor:
        """What each edge adds to a linear read-out of `forward`, weight (K, width) -> (E, K); over edges it sums to that."""
        q, k, v = self.project(self.norm(h))
        dim = torch.arange(q[0].numel(), dtype=torch.int32, device=q.device)
        # A dot product per head is a mass action in which every dimension meets itself, in its head: never E x H x D.
        own = torch.block_diag(*q.new_full((self.heads, 1, q.shape[2]), q.shape[2] ** -0.5))  # (heads, heads * D)
        dots = pair_logits(k.flatten(1), q.flatten(1), own, dim, dim, graph.indptr, graph.indices)
        logits = dots + self._bias(graph)
        among = segment_softmax(logits, graph.indptr)
        log_sum = logits - among.log()  # over the senders of a receiver
        attention = among * torch.sigmoid(log_sum - self.null)
        said = torch.einsum("nhd,khd->hnk", v, weight.view(len(weight), self.heads, -1))
        return sum(attention[:, head, None] * said[head][graph.indices.long()] for head in range(self.heads))

    def _bias(self, graph: CellGraph) -> Tensor:
        """(E, heads)."""
        if self.length:
            return graph.plus_log_weight(self.length(graph.distance_um))
        return graph.plus_log_weight(self.null.new_zeros(graph.n_edges, self.heads))
