"""Attention of a receiver over its senders, one set of weights per relation."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.query_key_value import QueryKeyValue
from metaniche.ops.dropout import check_dropout
from metaniche.ops.edge_attention import edge_attention


class RelationalAttention(nn.Module):
    r"""Message passing in which every relation speaks for itself and may be silent.

    .. math:: h_i' = h_i + W_o \,\Vert_r \sum_{j \in N_r(i)} \alpha^r_{ij} V_r h_j, \quad
              \alpha^r_{ij} \propto \exp(q_i \cdot k_j / \sqrt{d} + b_r(d_{ij}))

    A null slot with a learned logit takes part in each softmax and carries no value, so that "no signal" can win.
    Edges count as often as their weight in the graph says.
    `dropout` falls on what a cell hears altogether, `attention_dropout` on single edges and heads.

    Shapes: h (N, width), edges: relation -> (CellGraph of that relation, distance features (E_r, n_basis)) -> (N, width).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        relations: Sequence[str],
        n_basis: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout(attention_dropout, 0)
        self.attention_dropout = attention_dropout
        self.norm = nn.LayerNorm(width)
        self.project = nn.ModuleDict({r: QueryKeyValue(width, heads) for r in relations})
        self.bias = nn.ModuleDict({r: nn.Linear(n_basis, heads, bias=False) for r in relations})
        self.null = nn.ParameterDict({r: nn.Parameter(torch.zeros(heads)) for r in relations})
        self.out = nn.Linear(width * len(relations), width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, edges: Mapping[str, tuple[CellGraph, Tensor]]) -> Tensor:
        normed = self.norm(h)
        messages = []
        for relation, projection in self.project.items():
            graph, basis = edges[relation]
            q, k, v = projection(normed)
            bias, null = graph.plus_log_weight(self.bias[relation](basis)), self.null[relation]
            message = edge_attention(q, k, v, graph.indptr, graph.indices, bias, null, **self._dropped())
            messages.append(message.flatten(1))
        return h + self.dropout(self.out(torch.cat(messages, dim=1)))

    def _dropped(self) -> dict:
        """Dropout of one softmax; its seed comes from torch's generator, as every other draw of a training step."""
        if not self.training or self.attention_dropout == 0:
            return {}
        return {"dropout": self.attention_dropout, "seed": int(torch.randint(2**63 - 1, ()))}
