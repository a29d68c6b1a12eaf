"""Edge attention on a GPU: `csrc/cuda/edge_attention.cu`."""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar

SOURCE, THREADS = "edge_attention", 256
MOST_HEADS, MOST_CHANNELS_A_LANE = 32, 32

_CELLS = ("n", "HEADS", "WIDTH")
_NUMBERS = (Scalar("n"), Scalar("edges"), Scalar("scale", "f32"))
_BIAS = Array("bias", torch.float32, ("edges", "HEADS"))
_LSE = Array("lse", torch.float32, ("n", "HEADS"))


def _cells(*names: str) -> tuple[Array, ...]:
    return tuple(Array(name, None, _CELLS, vector=True) for name in names)


_CSR = (Array("indptr", torch.int64, ("n+1",)), Array("indices", torch.int32, ("edges",)))
_CSC = (
    Array("ptr", torch.int64, ("n+1",)),
    Array("receivers", torch.int32, ("edges",)),
    Array("order", torch.int64, ("edges",)),
)
FORWARD = Kernel(
    SOURCE,
    "attention_forward",
    (*_cells("q", "k", "v"), *_CSR, _BIAS, Array("null", torch.float32, ("HEADS",)), *_NUMBERS, *_cells("out"), _LSE),
    THREADS,
    registers=128,
)
BACKWARD_ROWS = Kernel(
    SOURCE,
    "attention_backward_rows",
    (
        *_cells("q", "k", "v"),
        *_CSR,
        _BIAS,
        *_cells("out"),
        _LSE,
        *_cells("grad"),
        *_NUMBERS,
        *_cells("grad_q"),
        Array("grad_bias", torch.float32, ("edges", "HEADS")),
        Array("delta", torch.float32, ("n", "HEADS")),
    ),
    THREADS,
    registers=128,
)
BACKWARD_COLUMNS = Kernel(
    SOURCE,
    "attention_backward_columns",
    (
        *_cells("q", "k"),
        *_CSC,
        _BIAS,
        _LSE,
        *_cells("grad"),
        Array("grad_bias", torch.float32, ("edges", "HEADS")),
        *_NUMBERS,
        *_cells("grad_k", "grad_v"),
    ),
    THREADS,
    registers=128,
)
KERNELS = (FORWARD, BACKWARD_ROWS, BACKWARD_COLUMNS)


def _power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def defines(heads: int, width: int, dtype: torch.dtype) -> dict[str, int | str]:
    """How the lanes of a warp share a row: as many to a head as leave one slot for every head."""
    vec = math.gcd(width, 16 // dtype.itemsize)
    slots = _power_of_two(heads)
    group = min(32 // slots, _power_of_two(width // vec))
    value = VALUE_OF[dtype]
    return dict(VALUE=value, HEADS=heads, WIDTH=width, VEC=vec, GROUP=group, SLOTS=slots, THREADS=THREADS)


PACKED = tuple(
    defines(heads, width, dtype)
    for dtype in (torch.float32, torch.bfloat16)
    for heads in (1, 2, 4, 8)
    for width in (16, 32, 64)
)


def unable(q_NHD: Tensor) -> str | None:
    """Why the kernels cannot run tensors of this kind, or None."""
    _, heads, width = q_NHD.shape
    if q_NHD.dtype not in (torch.float32, torch.bfloat16):
        return f"no kernel for {q_NHD.dtype}"
    if heads > MOST_HEADS or heads * width == 0:
        return f"no kernel for {heads} heads of {width} channels"
    chosen = defines(heads, width, q_NHD.dtype)
    pieces = -(-width // (chosen["VEC"] * chosen["GROUP"]))
    if pieces * chosen["VEC"] > MOST_CHANNELS_A_LANE:
        return f"no kernel for {heads} heads of {width} channels: too many for the registers"
    return None


def forward(q, k, v, indptr, indices, bias, null) -> tuple[Tensor, Tensor]:
    """Output (N, H, D) as q and float32 log-sum-exp (N, H); q, k and v float32 or bfloat16, bias and null float32."""
    n, heads, width = q.shape
    how = defines(heads, width, q.dtype)
    q, k, v = (_aligned(x) for x in (q, k, v))
    out, lse = torch.empty_like(q), q.new_empty((n, heads), dtype=torch.float32)
    launch(
        FORWARD, how, _blocks(how, n), q, k, v, indptr, indices, bias, null, n, indices.numel(), _scale(width), out, lse
    )
    return out, lse


def backward(grad, q, k, v, indptr, indices, bias, null, out, lse) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, bias and null."""
    n, heads, width = q.shape
    how = defines(heads, width, q.dtype)
    sizes = n, indices.numel(), _scale(width)
    grad, q, k, v, out = (_aligned(x) for x in (grad, q, k, v, out))
    grad_q, grad_k, grad_v, grad_bias = (torch.empty_like(x) for x in (q, k, v, bias))
    delta = torch.empty_like(lse)
    rows = q, k, v, indptr, indices, bias, out, lse, grad, *sizes, grad_q, grad_bias, delta
    launch(BACKWARD_ROWS, how, _blocks(how, n), *rows)
    columns = q, k, *by_sender(indptr, indices), bias, lse, grad, grad_bias, *sizes, grad_k, grad_v
    launch(BACKWARD_COLUMNS, how, _blocks(how, n), *columns)
    return grad_q, grad_k, grad_v, grad_bias, -((null - lse).exp() * delta).sum(0)


def by_sender(indptr: Tensor, indices: Tensor, n_senders: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The edges by sender: (N + 1,) places, (E,) receivers and (E,) places in the CSR, ascending for each sender.

    There are as many senders as rows, or `n_senders`. Kept for as long as `indices` lives: the layers and steps of a
    training run share their graph.
    """
    n = indptr.numel() - 1
    n_senders = n if n_senders is None else n_senders
    state = indptr._version, indices._version, n_senders
    known = _transposed.get(indices)
    if known is not None and known[0]() is indptr and known[1] == state:
        return known[2]
    senders, order = torch.sort(indices, stable=True)
    ptr = torch.searchsorted(senders, torch.arange(n_senders + 1, device=indices.device, dtype=senders.dtype))
    rows = torch.arange(n, device=indices.device, dtype=torch.int32)
    receivers = rows.repeat_interleave(indptr.diff(), output_size=indices.numel())[order]
    found = ptr, receivers, order
    _transposed[indices] = weakref.ref(indptr), state, found
    return found


_transposed = WeakTensorKeyDictionary()


def _aligned(x: Tensor) -> Tensor:
    """A tensor that starts at a multiple of 16 bytes, as new ones do; a view may start anywhere."""
    return x if x.data_ptr() % 16 == 0 else x.clone()


def _blocks(how: dict[str, int | str], n: int) -> int:
    return blocks_for(n, THREADS // (how["GROUP"] * how["SLOTS"]))


def _scale(width: int) -> float:
    return 1 / math.sqrt(width)
