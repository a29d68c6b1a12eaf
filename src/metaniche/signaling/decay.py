"""How far a signal reaches: the weight of an edge by its length, a rule for each signaling type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from metaniche.errors import ConfigError

KINDS = ("exponential", "gaussian", "cut")


@dataclass(frozen=True)
class Decay:
    """Weight of an edge of length d.

    Parameters
    ----------
    kind
        exponential: `exp(-d / length)`; gaussian: `exp(-d^2 / (2 length^2))`; cut: 1 up to the length, 0 beyond.
    length_um
        The length scale in micrometres.
    """

    kind: str
    length_um: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 0 < self.length_um < float("inf"):
            raise ConfigError(
                f"Expected a decay of kind {KINDS} and a length above 0 um, found {self.kind!r} and {self.length_um}."
            )

    def weights(self, distance_um: Tensor) -> Tensor:
        """(E,) float32 in [0, 1]."""
        d = distance_um.to(torch.float32) / self.length_um
        if self.kind == "cut":
            return (d <= 1).to(torch.float32)
        return torch.exp(-d) if self.kind == "exponential" else torch.exp(-(d**2) / 2)


# Orders of magnitude, for want of measured ranges: cells in touch are up to 20 um apart; chemokines and growth factors
# act over some cell diameters (Francis and Palsson 1997, doi:10.1073/pnas.94.23.12258; Oyler-Yaniv et al. 2017,
# doi:10.1016/j.immuni.2017.03.011); matrix stays near the cell that made it; small molecules and vesicles go farther.
DECAYS: Mapping[str, Decay] = MappingProxyType(
    {
        "contact": Decay("cut", 20.0),
        "ecm": Decay("exponential", 20.0),
        "secreted": Decay("exponential", 40.0),
        "non_protein": Decay("exponential", 60.0),
        "ev": Decay("exponential", 60.0),
        "unknown": Decay("exponential", 40.0),
    }
)
