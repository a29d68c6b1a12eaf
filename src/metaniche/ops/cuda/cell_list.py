"""Cells sorted into square bins on a GPU, sample after sample; read by `csrc/cuda/cell_list.h`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.cuda.boxes import boxes, sample_of
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import Argument, Array, Kernel, Scalar

SOURCE, THREADS = "neighbors", 256
# See cell_list.h.
ROUNDING = 1e-6

GRIDS = (
    Array("low", torch.float64, ("samples", "DIM")),
    Array("side", torch.float64, ("samples",)),
    Array("bins", torch.int64, ("samples", "DIM")),
    Array("base", torch.int64, ("samples",)),
)
CELLS = (Array("axes", torch.float32, ("DIM", "n")), Array("ids", torch.int32, ("n",)))
SAMPLE = Array("sample", torch.int32, ("n",))
LOOKUP = (Array("occupied", torch.int64, ("n_occupied",)), Array("starts", torch.int32, ("n_starts",)))
COUNTS = (Scalar("n"), Scalar("samples"))
LOOKUP_COUNTS = (Scalar("n_occupied"), Scalar("n_starts"))
SAMPLE_PTR = Array("sample_ptr", torch.int64, ("samples+1",))
# What a search is given: `CellList.search`.
SEARCH = (*CELLS, SAMPLE, *GRIDS, *LOOKUP, *COUNTS, *LOOKUP_COUNTS)
# What it gives: beside the rows' bounds.
EDGES = (Array("columns", torch.int32, ("edges",)), Array("lengths", torch.float32, ("edges",)))
Neighbors = tuple[Tensor, Tensor, Tensor]

BIN_KEYS = Kernel(
    SOURCE,
    "bin_keys",
    (
        Array("pos", torch.float32, ("n", "DIM")),
        SAMPLE,
        *GRIDS,
        *COUNTS,
        Array("keys", torch.int64, ("n",)),
    ),
    THREADS,
    registers=48,
)


@dataclass(frozen=True)
class CellList:
    """The sorted cells of all samples. Cells of one sample stay together, in the place of their sample."""

    axes: Tensor  # (D, N) coordinates
    ids: Tensor  # (N,) int32 number of each sorted cell
    sample: Tensor  # (N,) int32 sample of each cell, sorted or not
    sample_ptr: Tensor  # (S + 1,) int64
    side: np.ndarray  # (S,)
    grids: tuple[Tensor, Tensor, Tensor, Tensor]
    occupied: Tensor  # int64 keys of the occupied bins; none where every bin has a start
    starts: Tensor  # int32 first cell of each bin, and the end
    dense: bool

    @property
    def search(self) -> tuple[Argument, ...]:
        """The values of SEARCH."""
        sizes = len(self.ids), len(self.side), self.occupied.numel(), self.starts.numel()
        return self.axes, self.ids, self.sample, *self.grids, self.occupied, self.starts, *sizes


def cell_list(pos: Tensor, sample_ptr: Tensor, sides: np.ndarray) -> CellList:
    """Bins of at least `sides` (S,) micrometres for each sample; no bin has a capacity."""
    (n, dim), samples = pos.shape, sample_ptr.numel() - 1
    sample = sample_of(sample_ptr, n)
    low, high = boxes(pos, sample_ptr).cpu().numpy()
    side, bins, base, total = _grids(low, high - low, sides)
    grids = _together((low, side, bins, base), pos.device)
    keys = sample_ptr.new_empty(n)
    how = defines(dim, dense=True)
    launch(BIN_KEYS, how, blocks_for(n, THREADS), pos, sample, *grids, n, samples, keys)
    # A sort of 32-bit keys takes half the passes.
    keys, order = torch.sort(keys.int() if total < 2**31 else keys, stable=True)
    dense = total <= 4 * n + 1024 * samples
    if dense:
        occupied = sample_ptr.new_empty(0)
        bins = torch.arange(total + 1, device=pos.device, dtype=keys.dtype)
        starts = torch.searchsorted(keys, bins, out_int32=True)
    else:
        occupied, counts = torch.unique_consecutive(keys.long(), return_counts=True)
        starts = torch.cat((counts.new_zeros(1), counts.cumsum(0))).int()
    axes = pos[order].t().contiguous()
    return CellList(axes, order.int(), sample, sample_ptr, side, grids, occupied, starts, dense)


def _together(arrays: tuple[np.ndarray, ...], device: torch.device) -> tuple[Tensor, ...]:
    """The arrays of 8-byte numbers on the device, in one copy."""
    whole = torch.from_numpy(np.concatenate([x.ravel().view(np.int64) for x in arrays])).to(device)
    parts = whole.split([x.size for x in arrays])
    return tuple(part.view(torch.from_numpy(x).dtype).view(x.shape) for part, x in zip(parts, arrays))


def offsets(degree: Tensor) -> Tensor:
    return torch.cat((degree.new_zeros(1), degree.cumsum(0)))


def edges_of(indptr: Tensor) -> tuple[Tensor, Tensor]:
    n = int(indptr[-1])
    return indptr.new_empty(n, dtype=torch.int32), indptr.new_empty(n, dtype=torch.float32)


def fitting_sides(pos: Tensor, sample_ptr: Tensor, wanted: float) -> np.ndarray:
    """(S,) sides of bins that hold about `wanted` cells each; axes thinner than a bin count as one bin."""
    low, high = boxes(pos, sample_ptr).cpu().numpy()
    extents = np.sort(high - low, axis=1)
    sizes = sample_ptr.diff().cpu().numpy()
    return np.array([_fitting_side(extent, n, wanted) for extent, n in zip(extents, sizes)])


def crowding(cells: CellList) -> np.ndarray:
    """(S,) cells that an occupied bin of each sample holds on average."""
    ptr = cells.sample_ptr
    if cells.dense:
        filled = torch.cat((ptr.new_zeros(1), (cells.starts.diff() > 0).cumsum(0)))
        ends = torch.cat((cells.grids[3], ptr.new_tensor([cells.starts.numel() - 1])))
        occupied = filled[ends].diff()
    else:
        occupied = torch.searchsorted(cells.occupied, cells.grids[3])
        occupied = torch.cat((occupied, occupied.new_tensor([cells.occupied.numel()]))).diff()
    return (ptr.diff() / occupied.clamp(min=1)).cpu().numpy()


def defines(dim: int, dense: bool, lanes: int = 8) -> dict[str, int]:
    """8 lanes a row: a run of three bins holds about 15 cells where a cell has 15 neighbours."""
    return {"DIM": dim, "DENSE": int(dense), "LANES": lanes, "THREADS": THREADS}


def _grids(low: np.ndarray, extent: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Side, bins an axis and first key of each sample's grid, and the number of all bins; keys stay below 2^62."""
    samples, dim = low.shape
    most = 2 ** ((62 - max(samples - 1, 0).bit_length()) // dim)
    side = np.maximum(sides, extent.max(axis=1, initial=0.0) / (most - 2))
    side = np.where(side > 0, side, 1.0)
    bins = (extent / side[:, None]).astype(np.int64) + 1
    ends = np.cumsum(bins.prod(axis=1))
    base = np.concatenate(([0], ends[:-1])).astype(np.int64)
    return side, bins, base, int(ends[-1]) if samples else 0


def _fitting_side(extent: np.ndarray, n: int, wanted: float) -> float:
    dim = len(extent)
    for thin in range(dim):
        side = (wanted / max(n, 1) * extent[thin:].prod()) ** (1 / (dim - thin))
        if 0 < side <= extent[thin]:
            return side
    return extent[-1]
