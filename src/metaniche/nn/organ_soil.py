"""What a cell could hear in an organ where it is not yet: its receptors against the ligands of a reference profile."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaniche.errors import ConfigError
from metaniche.nn.pair_attention import STEP


class OrganSoil(nn.Module):
    r"""The soil of distant organs: of cell i and site k

    .. math:: o_{ik} = \beta \left( m_{ik} - \langle m_{ik'} \rangle_{k'} \right), \quad
              m_{ik} = \sum_p w_p O_{kp} R_{ip}, \quad w = \mathrm{softmax}(\theta) \, scale

    with receptors R and ligands O of the organ saturated, in [0, 1). Only what organs differ in is said: a receptor whose
    ligand waits everywhere is the seed's. Sites without profile hear nothing, and nothing is compared with them. Weights of
    pairs compete, as in `PairAttention`. Nothing is N x P: the sum over pairs of a receptor is taken first.

    Parameters
    ----------
    ligand
        K lists of P levels, None for a site without profile.
    receptor, scale
        (P,) column of each pair's receptor in `signals`, and its scale.

    Shapes: signals (N, S) -> (N, K).
    """

    def __init__(
        self, ligand: Sequence[Sequence[float] | None], receptor: Sequence[int], scale: Sequence[float]
    ) -> None:
        super().__init__()
        there = [levels is not None for levels in ligand]
        if sum(there) < 2:  # one has none to differ from
            raise ConfigError(f"Expected profiles of two sites or more, found {sum(there)}.")
        levels = [list(each) if each is not None else [0.0] * len(receptor) for each in ligand]
        self.register_buffer("ligand", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.register_buffer("there", torch.tensor(there), persistent=False)
        self.register_buffer("receptor", torch.tensor(receptor, dtype=torch.long), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.raw_weight = nn.Parameter(torch.zeros(len(receptor)))
        self.slope = nn.Parameter(torch.tensor(0.5))

    @property
    def weight(self) -> Tensor:
        """(P,) weight of each pair, 0 or above."""
        return torch.softmax(STEP * self.raw_weight, dim=0) * self.scale

    def forward(self, signals: Tensor) -> Tensor:
        by_pair = self.weight * self.ligand
        by_receptor = by_pair.new_zeros(len(by_pair), signals.shape[1]).index_add(1, self.receptor, by_pair)
        met = signals @ by_receptor.T
        mean = met[:, self.there].mean(dim=1, keepdim=True)
        return self.slope * torch.where(self.there, met - mean, torch.zeros_like(met))
