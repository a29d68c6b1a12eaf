"""Hilbert order against the reference, sample by sample."""

import numpy as np
import torch

from metaniche.ops.cuda import hilbert as op
from metaniche.ops.reference.hilbert import hilbert_keys

SIZES = (300, 0, 1, 41)


def cells(dim, device, seed=0):
    """Samples of several sizes, one of them empty; some cells share a place."""
    rng = np.random.default_rng(seed)
    pos = rng.normal(0, 100, (sum(SIZES), dim)).astype(np.float32)
    pos[10:20] = pos[10]
    ptr = np.concatenate(([0], np.cumsum(SIZES)))
    return torch.from_numpy(pos).to(device), torch.from_numpy(ptr).to(device)


def check(device, dim):
    pos, ptr = cells(dim, device)
    expected = [
        first + np.argsort(hilbert_keys(pos[first:last].cpu().numpy()), kind="stable")
        for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist())
        if last > first
    ]
    assert op.hilbert_order(pos, ptr).tolist() == np.concatenate(expected).tolist()


def plane(device):
    check(device, 2)


def space(device):
    check(device, 3)


def one_place(device):
    pos = torch.full((5, 2), 3.0, device=device)
    assert op.hilbert_order(pos, torch.tensor([0, 5], device=device)).tolist() == list(range(5))


CASES = SHORT = (plane, space, one_place)
