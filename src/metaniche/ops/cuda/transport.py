"""Kernel products of collective transport on a GPU, for all cells at once: `csrc/cuda/transport.cu`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

SOURCE, THREADS = "transport", 256
MOST_ENTRIES = 4  # edges a row reads at once: neighbourhoods are short


def _masses(*names: str) -> tuple[Array, ...]:
    return tuple(Array(name, torch.float64, ("n", "width")) for name in names)


_EDGES = (
    Array("indptr", torch.int64, ("n+1",)),
    Array("neighbours", torch.int32, ("edges",)),
    Array("kernel", torch.float64, ("edges",)),
)
_SIZES = Scalar("n"), Scalar("edges"), Scalar("width")
_SLACK = Scalar("slack", "f64")
SPREAD = Kernel(
    SOURCE,
    "transport_spread",
    (
        Array("x", torch.float64, ("n", "from_width")),
        Array("pair_ptr", torch.int64, ("to_width+1",)),
        Array("joined", torch.int32, ("pairs",)),
        *(Scalar(name) for name in ("n", "from_width", "to_width", "pairs")),
        Array("out", torch.float64, ("n", "to_width")),
    ),
    THREADS,
)
SENDERS = Kernel(
    SOURCE,
    "transport_senders",
    (*_EDGES, *_masses("arriving", "mass"), *_SIZES, _SLACK, *_masses("share", "u")),
    THREADS,
    registers=48,
)
SENDERS_STEP = Kernel(
    SOURCE,
    "transport_senders_step",
    (*_EDGES, *_masses("arriving", "mass", "share"), *_SIZES, *_masses("answer")),
    THREADS,
    registers=48,
)
RECEIVERS = Kernel(
    SOURCE,
    "transport_receivers",
    (*_EDGES, *_masses("arriving", "v"), *_SIZES, _SLACK, *_masses("total")),
    THREADS,
    registers=48,
)
RECEIVERS_STEP = Kernel(
    SOURCE,
    "transport_receivers_step",
    (*_EDGES, *_masses("arriving", "v", "total", "step"), *_SIZES, *_masses("curved")),
    THREADS,
    registers=48,
)
AMOUNTS = Kernel(
    SOURCE,
    "transport_amounts",
    (
        *_EDGES,
        Array("u", torch.float64, ("n", "own_width")),
        Array("v", torch.float64, ("n", "other_width")),
        Array("own_column", torch.int32, ("pairs",)),
        Array("other_column", torch.int32, ("pairs",)),
        *(Scalar(name) for name in ("n", "edges", "own_width", "other_width", "pairs")),
        Array("amounts", torch.float64, ("n", "pairs")),
    ),
    THREADS,
    registers=48,
)
KERNELS = (SPREAD, SENDERS, SENDERS_STEP, RECEIVERS, RECEIVERS_STEP, AMOUNTS)


def defines(width: int) -> dict[str, int]:
    """Lanes along the columns; where these are few, up to four lanes to a column along the edges."""
    columns = min(32, power_of_two(width))
    return dict(COLUMNS=columns, ENTRIES=min(MOST_ENTRIES, 32 // columns), THREADS=THREADS)


PACKED = tuple(defines(width) for width in (1, 2, 4, 8, 16, 32))

Edges = tuple[Tensor, Tensor, Tensor]  # a CSR and the kernel of each of its edges


def turned(indptr: Tensor, indices: Tensor, kernel: Tensor) -> Edges:
    """The edges by sender, receivers ascending."""
    ptr, receivers, order = by_sender(indptr, indices)
    return ptr, receivers, kernel[order]


@dataclass(frozen=True)
class Joined:
    """For each column of one side the columns of the other that pairs join it with."""

    ptr: Tensor
    columns: Tensor

    @classmethod
    def of(cls, own: np.ndarray, other: np.ndarray, width: int, device: torch.device) -> Joined:
        order = np.lexsort((other, own))
        ptr = np.concatenate(([0], np.bincount(own, minlength=width).cumsum()))
        columns = other[order].astype(np.int32)
        return cls(torch.from_numpy(ptr).to(device), torch.from_numpy(columns).to(device))

    def spread(self, x: Tensor) -> Tensor:
        """(N, width) sums of `x` over the joined columns."""
        n, width = len(x), self.ptr.numel() - 1
        out = x.new_empty((n, width))
        sizes = n, x.shape[1], width, self.columns.numel()
        launch(SPREAD, defines(width), blocks_for(n * width, THREADS), x, self.ptr, self.columns, *sizes, out)
        return out


def senders(edges: Edges, arriving: Tensor, mass: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """u / mass and u, both 0 where there is no mass."""
    share, u = torch.empty_like(mass), torch.empty_like(mass)
    _run(SENDERS, edges, (arriving, mass), slack, share, u)
    return share, u


def senders_step(edges: Edges, arriving: Tensor, mass: Tensor, share: Tensor) -> Tensor:
    """How much u falls when log v goes a step, `arriving` = v * step over the pairs."""
    answer = torch.empty_like(mass)
    _run(SENDERS_STEP, edges, (arriving, mass, share), answer)
    return answer


def receivers(edges: Edges, arriving: Tensor, v: Tensor, slack: float) -> Tensor:
    """What each receiver gets and keeps."""
    total = torch.empty_like(v)
    _run(RECEIVERS, edges, (arriving, v), slack, total)
    return total


def receivers_step(edges: Edges, arriving: Tensor, v: Tensor, total: Tensor, step: Tensor) -> Tensor:
    """The dual's Hessian times `step`."""
    curved = torch.empty_like(v)
    _run(RECEIVERS_STEP, edges, (arriving, v, total, step), curved)
    return curved


def amounts(u_NC: Tensor, v_ND: Tensor, own: Tensor, other: Tensor, edges: Edges) -> Tensor:
    """(N, P) float64 sums over each row of the plans `u[row] * kernel * v[neighbour]`; `own`, `other` (P,) int32."""
    n, pairs = len(u_NC), own.numel()
    out, how = u_NC.new_empty((n, pairs)), defines(pairs)
    sizes = n, edges[1].numel(), u_NC.shape[1], v_ND.shape[1], pairs
    launch(AMOUNTS, how, _blocks(how, n, pairs), *edges, u_NC, v_ND, own, other, *sizes, out)
    return out


def _run(kernel: Kernel, edges: Edges, masses: tuple[Tensor, ...], *rest: float | Tensor) -> None:
    n, width = masses[0].shape
    how = defines(width)
    launch(kernel, how, _blocks(how, n, width), *edges, *masses, n, edges[1].numel(), width, *rest)


def _blocks(how: dict[str, int], n: int, width: int) -> tuple[int, int]:
    return blocks_for(n, THREADS // (how["COLUMNS"] * how["ENTRIES"])), blocks_for(width, how["COLUMNS"])
