"""Spatial neighbours of cells in CSR form: row = receiver, columns = senders in ascending order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, dense, native
from metaniche.ops.cuda import nearest as cuda_nearest
from metaniche.ops.cuda import neighbors as cuda
from metaniche.ops.reference import neighbors as reference

Neighbors = tuple[Tensor, Tensor, Tensor]
CPU = torch.device("cpu")


def radius_neighbors(
    pos_um: Tensor,
    sample_ptr: Tensor,
    radius_um: float,
    *,
    inner_um: float = 0.0,
    max_per_cell: int | None = None,
    seed: int = 0,
) -> Neighbors:
    """Neighbours j != i of the same sample with `inner_um < d <= radius_um`.

    The rule is evaluated on `d = sqrt(dx^2 + dy^2 (+ dz^2))` in float64, added in axis order, of the float32
    coordinates. With `inner_um=0` co-located cells (d = 0) are neighbours too.

    Parameters
    ----------
    pos_um
        (N, 2 or 3) float32 cell centres.
    sample_ptr
        (S + 1,) int64; cells `sample_ptr[s]:sample_ptr[s + 1]` belong to sample s.
    max_per_cell
        A row with more neighbours keeps the `max_per_cell` of smallest hash(seed, i, j), i and j counted
        within the sample: a uniform subset that depends neither on other samples nor on threads or blocks.

    Returns
    -------
    indptr (N + 1,) int64, indices (E,) int32, distance_um (E,) float32, on the device of `pos_um`.

    Raises
    ------
    GraphError
        On a wrong shape or dtype, non-finite coordinates, or a radius that is not positive.
    """
    found, _ = thinned_neighbors(pos_um, sample_ptr, radius_um, inner_um=inner_um, max_per_cell=max_per_cell, seed=seed)
    return found


def thinned_neighbors(
    pos_um: Tensor,
    sample_ptr: Tensor,
    radius_um: float,
    *,
    inner_um: float = 0.0,
    max_per_cell: int | None = None,
    seed: int = 0,
) -> tuple[Neighbors, Tensor]:
    """`radius_neighbors`, and (N,) int64 how many neighbours each row had before it was thinned.

    Arguments and errors as there.
    """
    check_cells(pos_um, sample_ptr)
    if not (np.isfinite(radius_um) and 0 <= inner_um < radius_um):
        raise GraphError(
            f"Expected 0 <= inner_um < radius_um in micrometres, found inner_um={inner_um}, radius_um={radius_um}."
        )
    if max_per_cell is not None and max_per_cell < 1:
        raise GraphError(f"Expected max_per_cell >= 1 or None for all neighbours, found {max_per_cell}.")
    bounds = float(radius_um), float(inner_um)
    chosen = runner("radius_neighbors", pos_um)
    if chosen == "cuda":
        cells = dense(pos_um, sample_ptr.to(pos_um.device))
        *found, reachable = cuda.thinned_neighbors(*cells, *bounds, max_per_cell, seed)
        return tuple(found), reachable
    pos, ptr = host_arrays(pos_um, sample_ptr)
    if chosen == "cpu":
        *found, reachable = native().radius_neighbors(pos, ptr, *bounds, max_per_cell or 0, seed % 2**64)
    else:
        *found, reachable = reference.thinned_neighbors(pos, ptr, *bounds, max_per_cell, seed)
    return _tensors(found, pos_um.device), torch.from_numpy(reachable).to(pos_um.device)


def knn_neighbors(pos_um: Tensor, sample_ptr: Tensor, k: int) -> Neighbors:
    """The `k` nearest other cells of the same sample; equal distances go to the lower index.

    A sample of n <= k cells gives n - 1 neighbours. Arguments, returns and errors as in `radius_neighbors`.
    """
    check_cells(pos_um, sample_ptr)
    if k < 1:
        raise GraphError(f"Expected k >= 1 neighbours, found {k}.")
    chosen = runner("knn_neighbors", pos_um, cuda_nearest.unable(k))
    if chosen == "cuda":
        return cuda_nearest.knn_neighbors(*dense(pos_um, sample_ptr.to(pos_um.device)), int(k))
    find = _native_knn if chosen == "cpu" else reference.knn_neighbors
    return _tensors(find(*host_arrays(pos_um, sample_ptr), int(k)), pos_um.device)


def delaunay_neighbors(pos_um: Tensor, sample_ptr: Tensor) -> Neighbors:
    """Neighbours in the Delaunay triangulation of each sample (symmetric).

    Co-located cells share the edges of their site and are joined to one another. A sample of up to three cells
    is complete. Arguments, returns and errors as in `radius_neighbors`; GraphError also for a sample on a line.
    """
    check_cells(pos_um, sample_ptr)
    return _tensors(reference.delaunay_neighbors(*host_arrays(pos_um, sample_ptr)), pos_um.device)


def check_cells(pos_um: Tensor, sample_ptr: Tensor) -> None:
    """Raise GraphError unless the cells of a neighbour search are as `radius_neighbors` says."""
    if pos_um.ndim != 2 or pos_um.shape[1] not in (2, 3) or pos_um.dtype != torch.float32:
        raise GraphError(
            f"Expected `pos_um` to be float32 of shape (N, 2 or 3), found {pos_um.dtype} of {tuple(pos_um.shape)}."
        )
    if sample_ptr.dtype != torch.int64 or sample_ptr.ndim != 1 or sample_ptr.numel() < 1:
        raise GraphError(
            "Expected `sample_ptr` to be int64 of shape (S + 1,), "
            f"found {sample_ptr.dtype} of {tuple(sample_ptr.shape)}."
        )
    n, ptr = pos_um.shape[0], sample_ptr.cpu()
    if ptr[0] != 0 or ptr[-1] != n or (ptr.diff() < 0).any():
        raise GraphError(f"Expected `sample_ptr` to ascend from 0 to the {n} cells, found {ptr.tolist()[:8]}.")
    if n > np.iinfo(np.int32).max:
        raise GraphError(f"Expected fewer than 2**31 cells in one call, found {n}. Search sample by sample.")
    if not torch.isfinite(pos_um).all():
        bad = torch.nonzero(~torch.isfinite(pos_um).all(dim=1)).flatten()
        raise GraphError(
            f"Expected finite `pos_um`, found {bad.numel()} cells with NaN or infinite coordinates "
            f"(first: {bad[:3].tolist()}). Drop these cells before building a graph."
        )


def runner(op: str, pos_um: Tensor, unable_on_gpu: str | None = None) -> str:
    """What runs a search over these cells; without a kernel for their GPU they are searched on the CPU."""
    chosen = choose(op, pos_um.device, unable_on_gpu if pos_um.device.type == "cuda" else None)
    return chosen if pos_um.device.type == "cpu" or chosen == "cuda" else choose(op, CPU)


def host_arrays(pos_um: Tensor, sample_ptr: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The cells as float32 and int64 arrays on the CPU."""
    return pos_um.detach().cpu().contiguous().numpy(), sample_ptr.cpu().contiguous().numpy()


def _native_knn(pos: np.ndarray, sample_ptr: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample by sample: every row has the same length there."""
    sizes = np.diff(sample_ptr)
    degrees = np.repeat(np.minimum(k, np.maximum(sizes - 1, 0)), sizes)
    indptr = np.concatenate(([0], np.cumsum(degrees)))
    indices, distance = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    for start, stop in zip(sample_ptr[:-1].tolist(), sample_ptr[1:].tolist()):
        n, rows = stop - start, slice(indptr[start], indptr[stop])
        points, shape = pos[start:stop], (n, min(k, n - 1))
        if n <= 1:
            continue
        columns, lengths = indices[rows].reshape(shape), distance[rows].reshape(shape)
        given_up = np.empty(n, np.uint8)
        native().knn_neighbors(points, shape[1], columns, lengths, given_up)
        # Cells of very uneven density: a tree finds their neighbours sooner than a grid.
        left = np.flatnonzero(given_up)
        if len(left):
            columns[left], lengths[left] = reference.nearest(points.astype(np.float64), left, shape[1])
        columns += start
    return indptr, indices, distance


def _tensors(arrays: Iterable[np.ndarray], device: torch.device) -> Neighbors:
    indptr, indices, distance = (torch.from_numpy(x).to(device) for x in arrays)
    return indptr, indices, distance
