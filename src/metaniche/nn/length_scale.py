"""A length over which a signal fades, learned between two bounds."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaniche.errors import ConfigError

# The parameter is a logit of where the length stands between the bounds; a step of the optimiser should move it visibly.
STEP = 12.0


class Range(NamedTuple):
    """Where a length starts, its bounds, and the distance beyond which there are no edges; in micrometres."""

    start_um: float
    low_um: float
    high_um: float
    radius_um: float


class LengthScale(nn.Module):
    r"""Logarithm of a kernel of distance, for each of `heads` lengths.

    .. math:: \log \kappa(d) = -d / \ell - \log \frac{m(\ell)}{m(start)}, \quad \ell = low \, (high / low)^{\sigma(12 \rho)}

    with :math:`m(\ell) = \ell^2 (1 - (1 + R / \ell) e^{-R / \ell})`, the kernel's mass over a disc of the graph's radius R. So
    the mass stays, whatever the length: without that a longer range is a louder signal, and training lengthens it for the
    sake of loudness.

    Shapes: distance_um (E,) float32 in micrometres -> (E, heads).
    """

    def __init__(self, between: Range, heads: int = 1) -> None:
        super().__init__()
        start, low, high, self.radius_um = between
        if not 0 < low < start < high or not 0 < self.radius_um < float("inf"):
            raise ConfigError(f"Expected lengths with 0 < low < start < high and a radius, found {between}.")
        self.low_um, self.span = low, math.log(high / low)
        share = math.log(start / low) / self.span
        self.place = nn.Parameter(torch.full((heads,), math.log(share / (1 - share)) / STEP))
        self.register_buffer("start_mass", self._log_mass(torch.tensor(float(start))), persistent=False)

    @property
    def length_um(self) -> Tensor:
        """(heads,) in micrometres."""
        return self.low_um * torch.exp(self.span * torch.sigmoid(STEP * self.place))

    def forward(self, distance_um: Tensor) -> Tensor:
        length = self.length_um
        return -distance_um[:, None] / length - (self._log_mass(length) - self.start_mass)

    def _log_mass(self, length: Tensor) -> Tensor:
        reach = self.radius_um / length
        return 2 * length.log() + torch.log(-torch.expm1(-reach) - reach * torch.exp(-reach))
