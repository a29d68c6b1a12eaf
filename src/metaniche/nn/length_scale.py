"""A length over which a signal fades, learned between two bounds."""

import math

import torch
from torch import Tensor, nn

from metaniche.errors import ConfigError

# The parameter is a logit of where the length stands between the bounds; a step of the optimiser should move it visibly.
STEP = 12.0


class LengthScale(nn.Module):
    r"""Logarithm of a kernel of distance, for each of `heads` lengths.

    .. math:: \log \kappa(d) = -d / \ell - 2 \log (\ell / start), \quad \ell = low \, (high / low)^{\sigma(12 \rho)}

    The second term keeps the kernel's mass in the plane, whatever its length: without it a longer range is a louder
    signal, and training lengthens it for the sake of loudness.

    Shapes: distance_um (E,) float32 in micrometres -> (E, heads).
    """

    def __init__(self, start_um: float, low_um: float, high_um: float, heads: int = 1) -> None:
        super().__init__()
        if not 0 < low_um < start_um < high_um:
            raise ConfigError(
                f"Expected lengths with 0 < low < start < high in um, found {low_um}, {start_um} and {high_um}."
            )
        self.start_um, self.low_um, self.span = start_um, low_um, math.log(high_um / low_um)
        share = math.log(start_um / low_um) / self.span
        self.place = nn.Parameter(torch.full((heads,), math.log(share / (1 - share)) / STEP))

    @property
    def length_um(self) -> Tensor:
        """(heads,) in micrometres."""
        return self.low_um * torch.exp(self.span * torch.sigmoid(STEP * self.place))

    def forward(self, distance_um: Tensor) -> Tensor:
        length = self.length_um
        return -distance_um[:, None] / length - 2 * torch.log(length / self.start_um)
