"""Distance between cells as features of an edge."""

import math

import torch
from torch import Tensor, nn


class DistanceEncoding(nn.Module):
    """Gaussian bumps over log(1 + distance), from contact to the radius of the graph.

    Shapes: distance_um (E,) float32 in micrometres -> (E, n_basis).
    """

    def __init__(self, radius_um: float, n_basis: int = 8) -> None:
        super().__init__()
        self.register_buffer("centre", torch.linspace(0.0, math.log1p(radius_um), n_basis))
        self.width = math.log1p(radius_um) / (n_basis - 1)

    def forward(self, distance_um: Tensor) -> Tensor:
        z = (torch.log1p(distance_um)[:, None] - self.centre) / self.width
        return torch.exp(-0.5 * z.square())
