"""How much is heard on average, taken out of what is heard: its shape can be learned, not its volume."""

import torch
from torch import Tensor, nn

MOMENTUM = 0.05
SILENCE = 1e-3  # mean amount below which nothing is made louder


class Loudness(nn.Module):
    r"""Divide the messages of each head by the mean amount that cells hear.

    .. math:: y_{nhd} = x_{nhd} / \langle m_{nh} \rangle_n

    In training the mean is the batch's, with gradients, so that a longer range or a heavier weight gains nothing by being
    louder everywhere; afterwards it is the running mean of training. Nothing is centred: no message stays no message.

    Shapes: messages (N, heads, D), amount (N, heads) of 0 or above -> (N, heads, D).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(heads))

    def forward(self, messages: Tensor, amount: Tensor) -> Tensor:
        if self.training:
            here = amount.mean(0)
            self.mean.lerp_(here.detach().to(self.mean.dtype), MOMENTUM)
        else:
            here = self.mean
        return messages * self._factor(here)[:, None]

    @property
    def factor(self) -> Tensor:
        """(heads,) what messages are multiplied by after training."""
        return self._factor(self.mean)

    @staticmethod
    def _factor(mean: Tensor) -> Tensor:
        return 1 / (mean + SILENCE)
