"""NicheGIN: graph isomorphism network over 3-hop niches, mean-pooled; the design of SPACE-GM on torch-geometric."""

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.models.mil import MIL


class NicheGIN(MIL):
    """Three GIN layers over all neighbours, then the mean over the candidates (Wu et al. 2022, 10.1038/s41551-022-00951-w).

    A cell's embedding after three layers is its 3-hop niche, and the patient's logit the mean of niche logits, as in the
    original.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        n_clinical: int = 0,
        *,
        width: int = 32,
        dropout: float = 0.2,
        layers: int = 3,
    ) -> None:
        from torch_geometric.nn import GINConv  # takes longer to load than all of metaniche

        super().__init__(n_features, n_outputs, n_clinical, width=width, dropout=dropout)
        self.hops = layers
        self.pool.stay_uniform()
        self.convs = nn.ModuleList(
            GINConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)), train_eps=True)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        edge_index = graph.edge_index()
        for conv, norm in zip(self.convs, self.norms):
            h = torch.relu(norm(conv(h, edge_index)))
        return h

    def pooled(self, h: Tensor, bag_ptr: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.pool.mean(h, bag_ptr, candidates)
