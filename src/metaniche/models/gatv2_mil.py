"""GATv2MIL: torch-geometric's GATv2 with distance features, the field's usual graph network."""

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.models.mil import MIL
from metaniche.nn.distance import DistanceEncoding
from metaniche.nn.heads import head_width


class GATv2MIL(MIL):
    """Two GATv2 layers (Brody et al. 2022, arXiv 2105.14491) over all neighbours, then gated additive pooling."""

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
        radius_um: float = 150.0,
        n_basis: int = 8,
    ) -> None:
        from torch_geometric.nn import GATv2Conv  # takes longer to load than all of metaniche

        super().__init__(n_features, n_outputs, n_clinical, width=width, dropout=dropout)
        self.hops = layers
        self.distance = DistanceEncoding(radius_um, n_basis)
        self.convs = nn.ModuleList(
            GATv2Conv(width, head_width(width, heads), heads=heads, edge_dim=n_basis, add_self_loops=False)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        edge_index, edge_attr = graph.edge_index(), self.distance(graph.distance_um)
        for conv, norm in zip(self.convs, self.norms):
            h = h + torch.relu(conv(norm(h), edge_index, edge_attr))
        return h
