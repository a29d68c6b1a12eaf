"""Edge attention on a GPU: `csrc/cuda/edge_attention.cu`, or by tiles where that pays."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import edge_attention_tiles as by_tiles
from metaniche.ops.cuda.attention import (
    NULL,
    NUMBERS,
    ORDER,
    PTR,
    SIZES,
    aligned,
    cells,
    channels_a_lane,
    lanes,
    numbers,
    per_edge,
    per_row,
    sizes,
)
from metaniche.ops.cuda.edge_attention_tiles import Tiles
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import INDPTR, Array, Kernel

SOURCE, THREADS = "edge_attention", 256
MOST_HEADS, MOST_CHANNELS_A_LANE = 32, 32

_CSR = (INDPTR, Array("indices", torch.int32, ("edges",)))
FORWARD = Kernel(
    SOURCE,
    "attention_forward",
    (*cells("q", "k", "v"), *_CSR, per_edge("bias"), NULL, *NUMBERS, *cells("out"), per_row("lse")),
    THREADS,
    registers=128,
)
BACKWARD_ROWS = Kernel(
    SOURCE,
    "attention_backward_rows",
    (
        *cells("q", "k", "v"),
        *_CSR,
        per_edge("bias"),
        *cells("out"),
        per_row("lse"),
        *cells("grad"),
        *NUMBERS,
        *cells("grad_q"),
        per_edge("grad_bias"),
        per_edge("weight"),
        per_row("delta"),
    ),
    THREADS,
    registers=160,
)
BACKWARD_COLUMNS = Kernel(
    SOURCE,
    "attention_backward_columns",
    (
        *cells("q", "grad"),
        PTR,
        Array("receivers", torch.int32, ("edges",)),
        ORDER,
        per_edge("grad_bias"),
        per_edge("weight"),
        *SIZES,
        *cells("grad_k", "grad_v"),
    ),
    THREADS,
    registers=128,
)
KERNELS = (FORWARD, BACKWARD_ROWS, BACKWARD_COLUMNS)


def defines(heads: int, width: int, dtype: torch.dtype, dropout: bool = False) -> dict[str, int | str]:
    """How the lanes of a warp share a row: as many to a head as leave one slot for every head."""
    slots = power_of_two(heads)
    return lanes(heads, width, dtype, 32 // slots) | dict(SLOTS=slots, DROPOUT=int(dropout), THREADS=THREADS)


# Variants with dropout are compiled at first use: only training needs them.
PACKED = tuple(
    defines(heads, width, dtype)
    for dtype in (torch.float32, torch.bfloat16)
    for heads in (1, 2, 4, 8)
    for width in (8, 16, 32, 64)
)


def unable(q_NHD: Tensor) -> str | None:
    """Why the kernels cannot run tensors of this kind, or None."""
    _, heads, width = q_NHD.shape
    if q_NHD.dtype not in (torch.float32, torch.bfloat16):
        return f"no kernel for {q_NHD.dtype}"
    if heads > MOST_HEADS or heads * width == 0:
        return f"no kernel for {heads} heads of {width} channels"
    if channels_a_lane(defines(heads, width, q_NHD.dtype)) > MOST_CHANNELS_A_LANE:
        return f"no kernel for {heads} heads of {width} channels: too many for the registers"
    return None


def forward(
    q, k, v, indptr, indices, bias, null, dropout: float = 0.0, seed: int = 0, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor]:
    """Output (N, H, D) as q and float32 log-sum-exp (N, H); q, k and v float32 or bfloat16, bias and null float32.

    By `tiles` where they are given; `edge_attention_tiles.chosen` says when they should be.
    """
    q, k, v = (aligned(x) for x in (q, k, v))
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
    rest = bias, null, *numbers(q, indices, dropout, seed), out, lse
    if tiles is None:
        how = _how(q, dropout)
        launch(FORWARD, how, _blocks(how, len(q)), q, k, v, indptr, indices, *rest)
    else:
        by_tiles.run(by_tiles.FORWARD, dropout > 0, (q, k, v), indptr, tiles, *rest)
    return out, lse


def backward(
    grad,
    q,
    k,
    v,
    indptr,
    indices,
    bias,
    null,
    out,
    lse,
    dropout: float = 0.0,
    seed: int = 0,
    tiles: Tiles | None = None,
    sender_tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, bias and null.

    Those of k and v are collected sender by sender: `sender_tiles` are the tiles of the graph by sender.
    """
    how = _how(q, dropout)
    grad, q, k, v, out = (aligned(x) for x in (grad, q, k, v, out))
    grad_q, grad_k, grad_v, grad_bias = (torch.empty_like(x) for x in (q, k, v, bias))
    weight, delta = torch.empty_like(bias), torch.empty_like(lse)
    rest = bias, out, lse, grad, *numbers(q, indices, dropout, seed), grad_q, grad_bias, weight, delta
    if tiles is None:
        launch(BACKWARD_ROWS, how, _blocks(how, len(q)), q, k, v, indptr, indices, *rest)
    else:
        by_tiles.run(by_tiles.BACKWARD_ROWS, dropout > 0, (q, k, v), indptr, tiles, *rest)
    ptr, receivers, order = by_sender(indptr, indices)
    rest = order, grad_bias, weight, *sizes(q, indices), grad_k, grad_v
    if sender_tiles is None:
        launch(BACKWARD_COLUMNS, how, _blocks(how, len(q)), q, grad, ptr, receivers, *rest)
    else:
        by_tiles.run(by_tiles.BACKWARD_COLUMNS, dropout > 0, (q, grad), ptr, sender_tiles, *rest)
    return grad_q, grad_k, grad_v, grad_bias, -((null - lse).exp() * delta).sum(0)


def _how(q_NHD: Tensor, dropout: float) -> dict[str, int | str]:
    return defines(*q_NHD.shape[1:], q_NHD.dtype, dropout > 0)


def _blocks(how: dict[str, int | str], n: int) -> int:
    return blocks_for(n, THREADS // (how["GROUP"] * how["SLOTS"]))
