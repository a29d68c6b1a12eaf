"""How much is heard on average, taken out of what is heard: its shape can be learned, not its volume."""

import torch
from torch import Tensor, nn

MOMENTUM = 0.05
SILENCE = 1e-3  # mean amount below which nothing is made louder


class Loudness(nn.Module):
    r"""Divide what each head hears by its mean over cells, :math:`y_{nh} = x_{nh} / \langle x_{nh} \rangle_n`.

    In training the mean is the batch's, with gradients, so that a longer range or a heavier weight gains nothing by being
    louder everywhere; afterwards it is the running mean of training. Nothing is centred: silence stays silence.

    Shapes: (N, heads) of 0 or above -> (N, heads). `inside` (N,) bool: the cells that count for the mean; None: all.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(heads))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, heard: Tensor, inside: Tensor | None = None) -> Tensor:
        if not self.training:
            return heard * self.factor
        here = heard.mean(0) if inside is None else (heard * inside[:, None]).sum(0) / inside.sum()
        self.batches += 1
        # The first batches are averaged: nothing is left of where the mean starts.
        self.mean.lerp_(here.detach().to(self.mean.dtype), (1 / self.batches).clamp(min=MOMENTUM))
        return heard / (here + SILENCE)

    @property
    def factor(self) -> Tensor:
        """(heads,) what is heard is multiplied by after training."""
        return 1 / (self.mean + SILENCE)
