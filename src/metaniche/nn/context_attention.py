"""What a cell takes from its neighbours where no ligand-receptor pair is measured: learned keys over a learned range."""

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.length_scale import LengthScale, Range
from metaniche.ops.edge_attention import edge_attention


class ContextAttention(nn.Module):
    r"""Dot-product attention of receivers over senders, with the kernel of `LengthScale` and a null slot.

    .. math:: \alpha_{ij} \propto \kappa(d_{ij}) \, e^{q_i \cdot k_j / \sqrt{D}}

    Shapes: h (N, width) of receivers and senders -> (N, width).
    """

    def __init__(self, width: int, heads: int, length: Range | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.null = nn.Parameter(torch.zeros(heads))
        self.length = LengthScale(length, heads) if length else None

    def forward(self, h: Tensor, graph: CellGraph) -> Tensor:
        q, k, v = self.project(self.norm(h)).view(len(h), 3, self.heads, -1).unbind(1)
        bias = self.length(graph.distance_um) if self.length else v.new_zeros(graph.n_edges, self.heads)
        return edge_attention(q, k, v, graph.indptr, graph.indices, bias, self.null).flatten(1)
