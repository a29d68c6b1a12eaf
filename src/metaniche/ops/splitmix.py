"""The hash of `csrc/common/hash.h`, splitmix64 of Steele, Lea and Flood (2014), doi:10.1145/2660193.2660195, thrice."""

from __future__ import annotations

import numpy as np
from torch import Tensor

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def of_int(z: int) -> int:
    """Of a whole number in [0, 2^64), which torch.compile follows as it does not numpy's."""
    z = (z + GOLDEN) % 2**64
    z = (z ^ z >> 30) * FIRST % 2**64
    z = (z ^ z >> 27) * SECOND % 2**64
    return z ^ z >> 31


def of_array(z: np.ndarray) -> np.ndarray:
    """Of each uint64."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(SECOND)
    return z ^ (z >> np.uint64(31))


def of_tensor(z: Tensor) -> Tensor:
    """Of each int64, which overflows as uint64 does; shifts must not bring the sign along."""
    z = z + signed(GOLDEN)
    z = (z ^ (z >> 30 & 2**34 - 1)) * signed(FIRST)
    z = (z ^ (z >> 27 & 2**37 - 1)) * signed(SECOND)
    return z ^ (z >> 31 & 2**33 - 1)


def signed(n: int) -> int:
    """The int64 of the same bits as a uint64."""
    return n - 2**64 if n >= 2**63 else n
