"""What stands around a cell, whatever the cell itself is: neighbours averaged over learned ranges."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.heads import head_width
from metaniche.nn.length_scale import LengthScale, Range
from metaniche.ops.edge_attention import edge_attention


class Neighbourhood(nn.Module):
    r"""Kernel averages of the neighbours at several ranges.

    .. math:: s_i = \Vert_h \sum_j \alpha^h_{ij} V_h h_j, \quad
              \alpha^h_{ij} = \frac{e^{-d_{ij} / \ell_h}}{e^{null_h} + \sum_{j'} e^{-d_{ij'} / \ell_h}}

    Edges count as often as their weight in the graph says. The receiver has no say in the weights, so that nothing of its own
    enters; crowded surroundings leave less to the null slot than empty ones.

    Parameters
    ----------
    lengths
        One per head.

    Shapes: h (N, width), graph of the edges that count -> (N, width).
    """

    def __init__(self, width: int, lengths: Sequence[Range]) -> None:
        super().__init__()
        self.heads, self.head_width = len(lengths), head_width(width, len(lengths))
        self.value = nn.Linear(width, width)
        self.null = nn.Parameter(torch.zeros(self.heads))
        self.lengths = nn.ModuleList(LengthScale(length) for length in lengths)

    def forward(self, h: Tensor, graph: CellGraph) -> Tensor:
        values = self.value(h).view(-1, self.heads, self.head_width)
        bias = graph.plus_log_weight(torch.cat([length(graph.distance_um) for length in self.lengths], dim=1))
        still = torch.zeros_like(values)
        return edge_attention(still, still, values, graph.indptr, graph.indices, bias, self.null).flatten(1)
