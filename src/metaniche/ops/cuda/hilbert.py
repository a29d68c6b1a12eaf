"""Hilbert order on a GPU: keys by `csrc/cuda/hilbert.cu`, order by torch's stable sort."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.cuda.boxes import boxes, sample_of
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

SOURCE, THREADS = "hilbert", 256
STEPS = 2**16

KEYS = Kernel(
    SOURCE,
    "hilbert_keys",
    (
        Array("pos", torch.float32, ("n", "DIM")),
        Array("sample", torch.int32, ("n",)),
        Array("low", torch.float64, ("samples", "DIM")),
        Array("scale", torch.float64, ("samples",)),
        Scalar("n"),
        Scalar("samples"),
        Array("keys", torch.int64, ("n",)),
    ),
    THREADS,
    registers=48,
)
KERNELS = (KEYS,)
PACKED = tuple({"DIM": dim, "THREADS": THREADS} for dim in (2, 3))


def hilbert_order(pos: Tensor, sample_ptr: Tensor) -> Tensor:
    """See `metaniche.ops.hilbert_order`; both tensors on the GPU."""
    sample = sample_of(sample_ptr, len(pos))
    keys = hilbert_keys(pos, sample_ptr, sample)
    if pos.shape[1] == 2:  # of 32 bits; a sort of these takes half the passes
        keys = (keys - 2**31).int()
    order = torch.argsort(keys, stable=True)
    if sample_ptr.numel() > 2:
        order = order[torch.argsort(sample[order], stable=True)]
    return order


def hilbert_keys(pos: Tensor, sample_ptr: Tensor, sample: Tensor) -> Tensor:
    """(N,) int64 position of each cell along the curve through the square (cube) of its sample."""
    (n, dim), samples = pos.shape, sample_ptr.numel() - 1
    low, high = boxes(pos, sample_ptr)
    extent = (high - low).amax(dim=1)
    scale = (STEPS - 1) / extent.masked_fill(extent == 0, 1.0)
    keys = sample_ptr.new_empty(n)
    launch(KEYS, PACKED[dim - 2], blocks_for(n, THREADS), pos, sample, low, scale, n, samples, keys)
    return keys
