"""CellGraph: who stands next to whom, the one contract between files and models."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from metaniche.errors import GraphError

RELATIONS = ("contact", "paracrine")


@dataclass(frozen=True)
class CellGraph:
    """Spatial neighbours of N cells in CSR form. A row is a receiver, its columns are the senders.

    Attributes
    ----------
    indptr
        (N + 1,) int64, row starts.
    indices
        (E,) int32, sender of each edge, ascending within a row, never the receiver itself.
    distance_um
        (E,) float32, centre-to-centre distance in micrometres.
    relation
        (E,) uint8, index into `relation_names`.
    pos_um
        (N, 2 or 3) float32, cell centres in micrometres.
    sample_ptr
        (S + 1,) int64: cells `sample_ptr[s]:sample_ptr[s + 1]` belong to sample s, and no edge leaves its sample.
    relation_names
        Names of the relations; by default contact and paracrine.
    weight
        (E,) float32, how many neighbours of its ring and receiver an edge stands for: those within reach over those kept,
        1 or above. None: each stands for itself.
    """

    indptr: Tensor
    indices: Tensor
    distance_um: Tensor
    relation: Tensor
    pos_um: Tensor
    sample_ptr: Tensor
    relation_names: tuple[str, ...] = RELATIONS
    weight: Tensor | None = None

    @property
    def n_cells(self) -> int:
        return self.indptr.numel() - 1

    @property
    def n_edges(self) -> int:
        return self.indices.numel()

    @property
    def n_samples(self) -> int:
        return self.sample_ptr.numel() - 1

    def receivers(self) -> Tensor:
        """(E,) int64, the row of every edge."""
        return rows_of(self.indptr, self.n_edges)

    def edge_index(self) -> Tensor:
        """(2, E) int64, sender over receiver: torch-geometric's orientation."""
        return torch.stack((self.indices.long(), self.receivers()))

    def select(self, relation: str) -> CellGraph:
        """The same cells with the edges of one relation only."""
        return self.keep(self.is_of(relation))

    def is_of(self, relation: str) -> Tensor:
        """(E,) bool, the edges of one relation."""
        if relation not in self.relation_names:
            raise GraphError(f"Expected a relation among {self.relation_names}, found {relation!r}.")
        return self.relation == self.relation_names.index(relation)

    def check_complete(self, what: str) -> None:
        """Raise GraphError where only a draw of the neighbours is there, for `what` does not weight edges."""
        if self.weight is not None:
            raise GraphError(
                f"Expected all neighbours within reach for {what}, found a draw of them. Build the graph with "
                "max_paracrine=None."
            )

    def weights(self) -> Tensor:
        """(E,) float32 `weight`, ones where each edge stands for itself."""
        return torch.ones_like(self.distance_um) if self.weight is None else self.weight

    def times_weight(self, of_edges: Tensor) -> Tensor:
        """(E, ...) numbers of edges times `weight`: their sums over kept neighbours estimate those over all."""
        return of_edges if self.weight is None else of_edges * _beside(self.weight, of_edges)

    def plus_log_weight(self, logits: Tensor) -> Tensor:
        """(E, ...) logits plus the logarithm of `weight`: a softmax over kept neighbours then estimates that over all."""
        return logits if self.weight is None else logits + _beside(self.weight.log(), logits)

    def keep(self, edges: Tensor) -> CellGraph:
        """The same cells with the edges of a mask (E,) only."""
        places = edges.nonzero()[:, 0]  # once for all: on a GPU the host has to wait for their number
        return replace(
            self,
            indptr=kept_pointers(self.indptr, edges),
            indices=self.indices[places],
            distance_um=self.distance_um[places],
            relation=self.relation[places],
            weight=None if self.weight is None else self.weight[places],
        )

    def subgraph(self, cells: Tensor, hearing: Tensor | None = None) -> CellGraph:
        """The graph induced by `cells` (ascending int64 ids). Costs O(N) bytes and the rows kept.

        Edges to cells outside are dropped; the weights of the others stay. Cells that are not `hearing` (a bool for each of
        them; None: all are) lose theirs, too.
        """
        rows, edges = self._edges_of(cells if hearing is None else cells[hearing])
        place = torch.full((self.n_cells,), -1, dtype=torch.int32, device=cells.device)
        place[cells] = torch.arange(cells.numel(), dtype=torch.int32, device=cells.device)
        local = place[self.indices[edges].long()]
        inside = local >= 0
        kept = edges[inside]
        degrees = torch.bincount(rows[inside], minlength=cells.numel() if hearing is None else int(hearing.sum()))
        if hearing is not None:
            degrees = torch.zeros_like(cells).masked_scatter_(hearing, degrees)
        sample = torch.bucketize(cells, self.sample_ptr[1:-1], right=True)
        return replace(
            self,
            indptr=_pointers(degrees),
            indices=local[inside],
            distance_um=self.distance_um[kept],
            relation=self.relation[kept],
            weight=None if self.weight is None else self.weight[kept],
            pos_um=self.pos_um[cells],
            sample_ptr=_pointers(torch.bincount(sample, minlength=self.n_samples)),
        )

    def senders_of(self, cells: Tensor) -> Tensor:
        """The cells (ascending int64 ids) that these hear, whether they are among them or not. Costs O(rows of `cells`)."""
        return torch.unique(self.indices[self._edges_of(cells)[1]]).long()

    def _edges_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Edges into `cells`: the position of their receiver in `cells`, and their own in the graph."""
        starts = self.indptr[cells]
        degrees = self.indptr[cells + 1] - starts
        rows = torch.repeat_interleave(torch.arange(cells.numel(), device=cells.device), degrees)
        first = degrees.cumsum(0) - degrees
        return rows, torch.arange(rows.numel(), device=cells.device) + (starts - first)[rows]

    def to(self, device: torch.device | str) -> CellGraph:
        """The same graph with every tensor on `device`."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by field name, as they are written to disk; `weight` where there is one."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "relation_names"}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def validate(self) -> CellGraph:
        """Check the whole contract and return self. Raises GraphError naming the first thing that is broken."""
        n, e = self.n_cells, self.n_edges
        expected = {
            "indptr": (torch.int64, (n + 1,)),
            "indices": (torch.int32, (e,)),
            "distance_um": (torch.float32, (e,)),
            "relation": (torch.uint8, (e,)),
            "pos_um": (torch.float32, (n, self.pos_um.shape[-1])),
            "sample_ptr": (torch.int64, (self.sample_ptr.numel(),)),
            **({} if self.weight is None else {"weight": (torch.float32, (e,))}),
        }
        for name, (dtype, shape) in expected.items():
            tensor = getattr(self, name)
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                raise GraphError(
                    f"Expected `{name}` to be {dtype} of shape {shape}, found {tensor.dtype} of {tuple(tensor.shape)}."
                )
        if self.pos_um.shape[-1] not in (2, 3):
            raise GraphError(f"Expected 2 or 3 coordinates per cell, found {self.pos_um.shape[-1]}.")
        for name, total in (("indptr", e), ("sample_ptr", n)):
            pointer = getattr(self, name)
            if pointer[0] != 0 or pointer[-1] != total or (pointer.diff() < 0).any():
                falls = int((pointer.diff() < 0).sum())
                raise GraphError(
                    f"Expected `{name}` to ascend from 0 to {total}, "
                    f"found {int(pointer[0])}..{int(pointer[-1])} with {falls} descents."
                )
        if not torch.isfinite(self.pos_um).all() or not torch.isfinite(self.distance_um).all():
            wrong = [int((~torch.isfinite(x)).sum()) for x in (self.pos_um, self.distance_um)]
            raise GraphError(
                f"Expected finite `pos_um` and `distance_um`, found {wrong[0]} and {wrong[1]} NaN or infinite values."
            )
        stray = 0 if self.weight is None else int((~((self.weight >= 1) & (self.weight < torch.inf))).sum())
        if stray:
            raise GraphError(f"Expected finite `weight` of 1 or above, found {stray} edges with another.")
        if e == 0:
            return self
        if self.indices.min() < 0 or self.indices.max() >= n:
            raise GraphError(
                f"Expected senders in [0, {n}), found {int(self.indices.min())}..{int(self.indices.max())}."
            )
        if int(self.relation.max()) >= len(self.relation_names):
            raise GraphError(f"Expected relations below {len(self.relation_names)}, found {int(self.relation.max())}.")
        # int32, as the indices are: twice as wide, all edges would take more than the graph itself.
        receivers, senders = torch.repeat_interleave(self.indptr.diff().int(), output_size=e), self.indices
        same_row = receivers[1:] == receivers[:-1]
        falls = torch.nonzero(same_row & (senders[1:] <= senders[:-1])).flatten()
        if falls.numel():
            raise GraphError(
                f"Expected senders to ascend strictly within each row, found {falls.numel()} that do not "
                f"(first: {int(senders[falls[0] + 1])} after {int(senders[falls[0]])} in row {int(receivers[falls[0]])})."
            )
        loops = torch.nonzero(receivers == senders).flatten()
        if loops.numel():
            raise GraphError(
                "Expected no self loops (a cell that is its own sender), "
                f"found {loops.numel()} (first: cell {int(receivers[loops[0]])})."
            )
        bounds = self.sample_ptr[1:-1].int()
        if not bounds.numel():
            return self
        ends = (torch.bucketize(cells, bounds, right=True, out_int32=True) for cells in (receivers, senders))
        across = torch.ne(*ends)
        if across.any():
            raise GraphError(f"Expected no edge between two samples, found {int(across.sum())}.")
        return self


def concat(graphs: list[CellGraph]) -> CellGraph:
    """Stack graphs block-diagonally, in order. Raises GraphError if their relations differ."""
    if not graphs:
        raise GraphError("Expected at least one graph to stack, found none.")
    names = {g.relation_names for g in graphs}
    if len(names) > 1:
        raise GraphError(f"Expected graphs with the same relations, found {sorted(names)}.")
    cells = torch.tensor([0, *[g.n_cells for g in graphs]]).cumsum(0).tolist()
    edges = torch.tensor([0, *[g.n_edges for g in graphs]]).cumsum(0).tolist()
    first = torch.zeros(1, dtype=torch.int64, device=graphs[0].indptr.device)
    return CellGraph(
        indptr=torch.cat([first, *[g.indptr[1:] + e for g, e in zip(graphs, edges)]]),
        indices=torch.cat([g.indices + n for g, n in zip(graphs, cells)]),
        distance_um=torch.cat([g.distance_um for g in graphs]),
        relation=torch.cat([g.relation for g in graphs]),
        pos_um=torch.cat([g.pos_um for g in graphs]),
        sample_ptr=torch.cat([first, *[g.sample_ptr[1:] + n for g, n in zip(graphs, cells)]]),
        relation_names=graphs[0].relation_names,
        weight=None if all(g.weight is None for g in graphs) else torch.cat([g.weights() for g in graphs]),
    )


def rows_of(indptr: Tensor, n_entries: int | None = None) -> Tensor:
    """(E,) int64 row of every entry of a CSR matrix; its number, where it is known, saves a wait for the device."""
    return torch.repeat_interleave(indptr.diff(), output_size=n_entries)


def kept_pointers(indptr: Tensor, keep: Tensor) -> Tensor:
    """(R + 1,) int64 row pointers when only the entries of the mask `keep` (E,) stay."""
    kept = indptr.new_zeros(keep.numel() + 1)
    torch.cumsum(keep, 0, out=kept[1:])
    return kept[indptr]


def _beside(weight: Tensor, of_edges: Tensor) -> Tensor:
    """(E,) as (E, 1, ...), in the dtype of what it is joined with."""
    return weight.to(of_edges.dtype).view(-1, *[1] * (of_edges.ndim - 1))


def _pointers(counts: Tensor) -> Tensor:
    """Row pointers of rows with these sizes: (R,) -> (R + 1,) int64."""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0))).to(torch.int64)
