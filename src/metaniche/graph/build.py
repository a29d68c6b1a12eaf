"""Build a CellGraph out of cell positions: contact and paracrine neighbours in micrometres."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from metaniche.errors import ConfigError, GraphError
from metaniche.graph.cellgraph import CellGraph, kept_pointers, rows_of
from metaniche.ops import Neighbors, delaunay_neighbors, knn_neighbors, radius_neighbors, thinned_neighbors

# Equal in ratio: a kernel of some tens of micrometres has about as much mass in each, and as many draws then tell it best.
RINGS = 3
BUILDERS = ("radius", "knn", "delaunay", "stored")
# Of an edge at most: 9 for sender, distance and relation, the others while edges are searched, merged and checked (measured).
EDGE_BYTES = 30
DRAWN_EDGE_BYTES = 38  # of a graph with weights: 13, and rings are merged
DELAUNAY_DEGREE = 6  # the mean in the plane; a stored graph is taken to be as dense
LARGE_BYTES = 1_000_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphConfig:
    """How neighbours are chosen.

    Parameters
    ----------
    builder
        radius: all cells within `contact_um` and up to `max_paracrine` within `radius_um`; knn; delaunay;
        stored: the graph that came with the data (`obsp["spatial_connectivities"]`).
    contact_um, radius_um
        Largest distance of the relations contact and paracrine; no edge is longer than `radius_um`.
    k
        Neighbours per cell of the knn builder.
    max_paracrine
        Paracrine senders kept per receiver by the radius builder (None: all). They are drawn in rings of equal ratio between
        `contact_um` and `radius_um`, the same number in each (the outer ones have what is left over), uniformly within a
        ring; `CellGraph.weight` says how many neighbours each stands for.
    seed
        Of that draw.
    """

    builder: str = "radius"
    contact_um: float = 20.0
    radius_um: float = 150.0
    k: int = 15
    max_paracrine: int | None = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if self.builder not in BUILDERS:
            raise ConfigError(f"Expected graph.builder in {BUILDERS}, found {self.builder!r}.")
        if not 0 < self.contact_um < self.radius_um < float("inf"):
            raise ConfigError(
                "Expected 0 < graph.contact_um < graph.radius_um in micrometres, found "
                f"contact_um={self.contact_um}, radius_um={self.radius_um}."
            )
        if self.k < 1 or (self.max_paracrine is not None and self.max_paracrine < 1):
            raise ConfigError(
                f"Expected graph.k and graph.max_paracrine >= 1, found k={self.k}, max_paracrine={self.max_paracrine}."
            )


def build_graph(
    pos_um: Tensor, sample_ptr: Tensor, config: GraphConfig, stored: sparse.csr_array | None = None
) -> CellGraph:
    """Connect cells of the same sample and label each edge contact (`d <= contact_um`) or paracrine.

    Parameters
    ----------
    pos_um
        (N, 2 or 3) float32 cell centres in micrometres.
    sample_ptr
        (S + 1,) int64, as in CellGraph.
    config
        Builder, distances of the relations and how many senders are kept.
    stored
        (N, N) sparse, for builder "stored": a non-zero at [i, j] makes j a sender of receiver i.

    Returns
    -------
    CellGraph, validated. Raises GraphError when the cells or the stored graph cannot be used.
    """
    needed = estimate_memory(pos_um.shape[0], pos_um, config)
    if needed > LARGE_BYTES:
        log.warning(
            "building a %s graph of %d cells takes about %.1f GB of memory",
            config.builder,
            pos_um.shape[0],
            needed / 1e9,
        )
    weight = None
    if config.builder == "radius":
        indptr, indices, distance, weight = _radius(pos_um, sample_ptr, config)
    else:
        if config.builder == "knn":
            found = knn_neighbors(pos_um, sample_ptr, config.k)
        elif config.builder == "delaunay":
            found = delaunay_neighbors(pos_um, sample_ptr)
        else:
            found = _stored(pos_um, sample_ptr, stored)
        indptr, indices, distance = _within(found, config.radius_um)
    relation = (distance > torch.tensor(config.contact_um, dtype=torch.float32)).to(torch.uint8)
    return CellGraph(indptr, indices, distance, relation, pos_um, sample_ptr, weight=weight).validate()


def estimate_memory(n_cells: int, area: float | Tensor, config: GraphConfig) -> int:
    """Bytes that building the graph of `n_cells` is expected to take at most, without building it; it keeps a third of them.

    `area` is the tissue area in um^2, or the cell positions (N, 2 or 3) in micrometres, whose occupied 100 um
    squares then stand for it. Density is taken as even, so clustered tissue needs more.
    """
    if isinstance(area, Tensor):
        area = _occupied_area(area)
    per_um2 = n_cells / max(float(area), 1.0)
    within = {r: np.pi * r**2 * per_um2 for r in (config.contact_um, config.radius_um)}
    contact, reachable = within[config.contact_um], within[config.radius_um]
    paracrine = max(reachable - contact, 0.0)
    per_edge = EDGE_BYTES
    if config.builder == "radius":
        degree = contact + min(paracrine, config.max_paracrine or np.inf)
        per_edge = DRAWN_EDGE_BYTES if config.max_paracrine else EDGE_BYTES
    else:
        degree = min(reachable, config.k if config.builder == "knn" else DELAUNAY_DEGREE)
    # Cells: position, row pointer, Hilbert order.
    return int(n_cells * (12 + 8 + 8 + min(degree, max(n_cells - 1, 0)) * per_edge))


def _occupied_area(pos_um: Tensor) -> float:
    """Area in um^2 of the 100 um squares that hold a cell."""
    squares = torch.floor(pos_um[:, :2].double() / 100.0).to(torch.int64)
    return 1e4 * len(torch.unique(squares, dim=0))


def _radius(pos_um: Tensor, sample_ptr: Tensor, config: GraphConfig) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """All contact and the kept paracrine neighbours in one CSR, with the weights of edges if any is not 1."""
    if config.max_paracrine is None:
        return *radius_neighbors(pos_um, sample_ptr, config.radius_um), None
    found, thinned = None, False
    # From the outermost in: of two that are merged, the smaller costs more.
    for inner, outer, most in _rings(config)[::-1]:
        (indptr, *edges), reachable = thinned_neighbors(
            pos_um, sample_ptr, outer, inner_um=inner, max_per_cell=most, seed=config.seed
        )
        kept = indptr.diff()
        thinned |= not torch.equal(kept, reachable)
        each = (reachable / kept.clamp(min=1)).float()
        ring = indptr, *edges, torch.repeat_interleave(each, kept, output_size=len(edges[0]))
        found = ring if found is None else _merged(ring, found)
    return *found[:3], found[3] if thinned else None


def _rings(config: GraphConfig) -> list[tuple[float, float, int | None]]:
    """(inner, outer, most kept) of the contacts' disc and of each ring around it; a ring begins where the last one ended."""
    low, high = config.contact_um, config.radius_um
    # Unique: between bounds that are nearly equal there is no room for three rings.
    bounds = np.unique(np.geomspace(low, high, min(RINGS, config.max_paracrine) + 1).clip(low, high)).tolist()
    share, left = divmod(config.max_paracrine, len(bounds) - 1)
    most = [share + (later <= left) for later in range(len(bounds) - 1, 0, -1)]
    return [(0.0, low, None), *zip(bounds, bounds[1:], most)]


def _merged(near: tuple[Tensor, ...], far: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Two CSR (row pointers, columns, values of entries) of the same rows and disjoint columns as one, columns ascending."""
    first, second = (rows_of(indptr).mul_(indptr.numel()).add_(columns) for indptr, columns, *_ in (near, far))
    places = torch.searchsorted(second, first).add_(torch.arange(len(first), device=first.device))
    of_far = torch.ones(len(first) + len(second), dtype=torch.bool, device=first.device)
    del first, second
    of_far[places] = False
    entries = (
        ours.new_empty(len(of_far)).masked_scatter_(of_far, theirs).index_copy_(0, places, ours)
        for ours, theirs in zip(near[1:], far[1:])
    )
    return near[0] + far[0], *entries


def _within(found: Neighbors, radius_um: float) -> Neighbors:
    """The neighbours that are no farther than `radius_um`."""
    indptr, indices, distance = found
    keep = distance <= torch.tensor(radius_um, dtype=torch.float32)
    if bool(keep.all()):
        return found
    return kept_pointers(indptr, keep), indices[keep], distance[keep]


def _stored(pos_um: Tensor, sample_ptr: Tensor, stored: sparse.csr_array | None) -> Neighbors:
    """A stored adjacency as neighbours; diagonal and explicit zeros are left out."""
    n = pos_um.shape[0]
    if stored is None:
        raise GraphError(
            "Expected a stored graph for builder='stored', found none. "
            "Compute obsp['spatial_connectivities'] (squidpy.gr.spatial_neighbors) or choose another builder."
        )
    if stored.shape != (n, n):
        raise GraphError(
            f"Expected a stored graph of shape {(n, n)}, found {stored.shape}. Compute it again after leaving out cells."
        )
    links = sparse.coo_array(stored)
    keep = (links.data != 0) & (links.row != links.col)
    links = sparse.csr_array((np.ones(keep.sum(), bool), (links.row[keep], links.col[keep])), shape=(n, n))
    links.sum_duplicates()
    rows = np.repeat(np.arange(n), np.diff(links.indptr))
    of_receiver, of_sender = np.searchsorted(sample_ptr[1:-1].numpy(), [rows, links.indices], side="right")
    crossing = int((of_receiver != of_sender).sum())
    if crossing:
        raise GraphError(
            f"Expected a stored graph without edges between samples, found {crossing}. "
            "Compute the neighbours per sample (library_key in squidpy)."
        )
    pos = pos_um.numpy().astype(np.float64)
    distance = np.sqrt(((pos[rows] - pos[links.indices]) ** 2).sum(axis=1)).astype(np.float32)
    return (
        torch.from_numpy(links.indptr.astype(np.int64)),
        torch.from_numpy(links.indices.astype(np.int32)),
        torch.from_numpy(distance),
    )
