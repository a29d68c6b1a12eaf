"""Hilbert keys by Skilling's transpose algorithm, doi:10.1063/1.1751381."""

from __future__ import annotations

import numpy as np

BITS = 16


def hilbert_keys(pos: np.ndarray) -> np.ndarray:
    """(N,) int64 position of each point (N, D) along the curve through the bounding square or cube."""
    points = pos.astype(np.float64)
    low = points.min(axis=0)
    extent = (points - low).max() or 1.0
    axes = ((points - low) * ((2**BITS - 1) / extent)).astype(np.uint64).T.copy()
    _to_transpose(axes)
    return _interleave(axes).astype(np.int64)


def _to_transpose(axes: np.ndarray) -> None:
    """Turn coordinates (D, N) into the transposed Hilbert index, in place."""
    one = np.uint64(1)
    for shift in range(BITS - 1, 0, -1):
        bit = one << np.uint64(shift)
        mask = bit - one
        for axis in axes:
            inside = (axis & bit) != 0
            swapped = (axes[0] ^ axis) & mask
            axes[0] ^= np.where(inside, mask, swapped)
            axis ^= np.where(inside, np.uint64(0), swapped)
    for d in range(1, len(axes)):
        axes[d] ^= axes[d - 1]
    flip = np.zeros_like(axes[0])
    for shift in range(BITS - 1, 0, -1):
        bit = one << np.uint64(shift)
        flip ^= np.where((axes[-1] & bit) != 0, bit - one, np.uint64(0))
    axes ^= flip


def _interleave(axes: np.ndarray) -> np.ndarray:
    key = np.zeros(axes.shape[1], np.uint64)
    for shift in range(BITS - 1, -1, -1):
        for axis in axes:
            key = (key << np.uint64(1)) | ((axis >> np.uint64(shift)) & np.uint64(1))
    return key
