"""Queries, keys and values of attention out of one layer."""

from torch import Tensor, nn
from torch.nn import functional as F

from metaniche.nn.heads import head_width


class QueryKeyValue(nn.Linear):
    """Queries, keys and values of `heads` equal heads: h (N, width) -> three times (N, heads, width // heads).

    One weight, as one layer of three times the width has it, whose thirds are applied one after the other: cut out of one
    product, the three would have their gradients joined into a fourth tensor of that size before it goes on.

    Raises ConfigError where the width cannot be shared out among the heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, 3 * width)
        self.head_shape = heads, head_width(width, heads)

    def forward(self, h: Tensor) -> tuple[Tensor, ...]:
        thirds = zip(self.weight.chunk(3), self.bias.chunk(3))
        return tuple(F.linear(h, weight, bias).view(-1, *self.head_shape) for weight, bias in thirds)
