"""RelationalMIL: metaniche's network: who talks to whom, by relation and distance, pooled to the patient."""

from collections.abc import Sequence

from torch import Tensor, nn

from metaniche.graph import RELATIONS, CellGraph
from metaniche.models.mil import MIL
from metaniche.nn.distance import DistanceEncoding
from metaniche.nn.relational_attention import RelationalAttention


class RelationalMIL(MIL):
    """Relational attention over contact and paracrine neighbours, then gated additive pooling.

    Inductive: nothing in it belongs to a slide, so it reads slides it has never seen.

    Parameters
    ----------
    layers, heads
        Rounds of message passing and attention heads.
    relations
        Relations of the CellGraph that are read; others are ignored.
    radius_um
        Largest distance the distance encoding resolves.
    attention_dropout
        Probability that an edge goes unheard by a head in a training step.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        n_clinical: int = 0,
        *,
        width: int = 32,
        dropout: float = 0.2,
        layers: int = 2,
        heads: int = 4,
        relations: Sequence[str] = RELATIONS,
        radius_um: float = 150.0,
        n_basis: int = 8,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__(n_features, n_outputs, n_clinical, width=width, dropout=dropout)
        self.relations, self.hops = tuple(relations), layers
        self.distance = DistanceEncoding(radius_um, n_basis)
        self.rounds = nn.ModuleList(
            RelationalAttention(width, heads, self.relations, n_basis, dropout, attention_dropout)
            for _ in range(layers)
        )
        self.mixers = nn.ModuleList(_mixer(width, dropout) for _ in range(layers))

    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        edges = {}
        for relation in self.relations:
            part = graph.select(relation)
            edges[relation] = (part, self.distance(part.distance_um))
        for attend, mix in zip(self.rounds, self.mixers):
            h = attend(h, edges)
            h = h + mix(h)
        return h


def _mixer(width: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 2 * width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, width),
    )
