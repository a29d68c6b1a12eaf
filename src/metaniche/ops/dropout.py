"""Dropout without a stored mask: whether an entry is kept is a hash of its place, drawn again in the backward pass."""

from __future__ import annotations

from metaniche.ops import splitmix


def check_dropout(dropout: float, seed: int) -> None:
    """ValueError unless `dropout` is in [0, 1) and `seed` in [0, 2^63)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"Expected dropout in [0, 1), found {dropout}.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"Expected a seed in [0, 2^63), found {seed}.")


def draw(dropout: float, seed: int) -> tuple[int, int, float]:
    """Where the hash of an entry starts, below which hash it is dropped, and what the kept ones are multiplied by."""
    return splitmix.of_int(seed), int(dropout * 2.0**64), 1 / (1 - dropout)
