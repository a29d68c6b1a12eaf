"""Ligand-receptor signals between neighbouring cells: per cell, per pair and between cell types; never E x P."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, native
from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import ligrec as cuda
from metaniche.ops.expression import Expression, check_indices, check_not_negative
from metaniche.ops.grouped import grouped
from metaniche.ops.reference import ligrec as reference
from metaniche.ops.segment import check_graph

# Cells whose signals by pair are in memory at once.
ROWS_A_BLOCK = {"cpu": 4096, "cuda": 32_768}


@dataclass(frozen=True)
class LigandReceptor:
    """Everything that a ligand-receptor signal is made of.

    The signal of the edge j -> i and pair p is

    .. math:: s_{ijp} = w_{ij} L_{j,lig(p)} R_{i,rec(p)} \\quad \\text{or} \\quad
        s_{ijp} = w_{ij} \\frac{(LR)^n}{K^n + (LR)^n}

    the second where `half_saturation` K is given. The first is separable, and with transformed expression so are
    the other common scores: the geometric mean is the product of `sqrt(L)` and `sqrt(R)`, saturation of each side
    that of `hill(L)` and `hill(R)`. They cost E times the ligands of a cell. Saturated mass action does not
    separate; it is computed for each edge, at the pairs where both sides are expressed.

    Shapes
    ------
    N cells, E edges, L ligands, R receptors, P pairs.
    """

    ligand_NL: Tensor
    """(N, L) float32, dense or torch.sparse_csr; complexes are columns (see `complex_expression`)."""
    receptor_NR: Tensor
    """(N, R) float32, dense or torch.sparse_csr."""
    lig_P: Tensor
    """(P,) int32 column of each pair's ligand."""
    rec_P: Tensor
    """(P,) int32 column of each pair's receptor."""
    indptr: Tensor
    """(N + 1,) int64; row = receiver."""
    indices: Tensor
    """(E,) int32 senders."""
    weight_E: Tensor
    """(E,) float32 weight of each edge, such as a decay with distance."""
    half_saturation: float | None = None
    """K, in the unit of the product L R; None for the product itself."""
    exponent: float = 1.0
    """n of the Hill function."""

    def weights_alone(self) -> LigandReceptor:
        """The same edges with one pair that every cell has as 1 on both sides: their signals are the weights."""
        ones = torch.ones(self.indptr.numel() - 1, 1, device=self.indptr.device)
        column = torch.zeros(1, dtype=torch.int32, device=self.indptr.device)
        return replace(self, ligand_NL=ones, receptor_NR=ones, lig_P=column, rec_P=column, half_saturation=None)


def received_signal(problem: LigandReceptor, group_P: Tensor | None = None, n_groups: int | None = None) -> Tensor:
    """What each cell receives, summed over its senders and over the pairs of each group.

    .. math:: received_{ig} = \\sum_{p \\in g} \\sum_j s_{ijp}

    Parameters
    ----------
    problem
        See `LigandReceptor` for the signal s.
    group_P
        (P,) int32 group, such as a pathway, of each pair; None puts all pairs in one group.
    n_groups
        G; by default the largest group + 1.

    Returns
    -------
    (N, G) float32, the same on every run and for any number of threads. Not differentiable; see `pair_logits`.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together, or expression is negative or not finite with
        `half_saturation`.

    Source: mass action and Hill function as in Jin et al. 2021, doi:10.1038/s41467-021-21246-9.
    """
    return _by_group(_received(problem), group_P, n_groups)


def sent_signal(problem: LigandReceptor, group_P: Tensor | None = None, n_groups: int | None = None) -> Tensor:
    """What each cell sends, summed over its receivers and over the pairs of each group.

    .. math:: sent_{jg} = \\sum_{p \\in g} \\sum_i s_{ijp}

    Arguments, returns and errors as in `received_signal`.
    """
    return _by_group(_sent(problem), group_P, n_groups)


def received_by_pair(problem: LigandReceptor, rows: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """What each cell receives by each pair, in blocks of `rows` cells: (first cell, (rows, P) float32).

    None: 4096 cells on the CPU, 32768 on a GPU, whatever the number of pairs.
    """
    return _by_pair(_received(problem), rows)


def sent_by_pair(problem: LigandReceptor, rows: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """What each cell sends by each pair, in blocks as those of `received_by_pair`: (first cell, (rows, P) float32)."""
    return _by_pair(_sent(problem), rows)


def type_pair_sums(problem: LigandReceptor, type_N: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """Signals summed by the type of the sender, the type of the receiver and the pair.

    .. math:: sum_{abp} = \\sum_{ij: type(j) = a, type(i) = b} s_{ijp}

    Memory beside the result is O(T P) for each thread, on a GPU O(E) and the sums of every pair for a few thousand
    pieces of the edges.

    Parameters
    ----------
    problem
        See `LigandReceptor` for the signal s.
    type_N
        (N,) int32 cell type in [0, T).
    n_types
        T.

    Returns
    -------
    (T, T, P) float64 sums and (T, T) int64 numbers of edges, sender type first; the same on every run and for any
    number of threads.

    Raises
    ------
    GraphError
        As `received_signal`, and for types out of range.
    """
    check = _received(problem)
    if n_types < 1 or type_N.numel() != check.n_cells:
        raise GraphError(
            f"Expected n_types >= 1 and a type for each of the {check.n_cells} cells, "
            f"found {n_types} and {type_N.numel()} types."
        )
    # Whatever the device: with a type out of range, edges would be counted for other types.
    check_indices(type_N, n_types, "type_N", on_device=True)
    chosen = choose("type_pair_sums", check.device, check.unable())
    if chosen == "reference":
        return reference.type_pair_sums(check, type_N, n_types)
    if chosen == "cuda":
        return cuda.type_pair_sums(check, type_N, n_types)
    sums = torch.empty(n_types, n_types, check.near_P.numel(), dtype=torch.float64)
    edges = torch.empty(n_types, n_types, dtype=torch.int64)
    slot_P = torch.arange(check.near_P.numel(), dtype=torch.int32)
    native().ligrec_type_sums(*check.native(slot_P), type_N.contiguous(), sums, edges)
    return sums, edges


def hill(x_NG: Tensor, half_saturation: float, exponent: float = 1.0) -> Tensor:
    """`x^n / (K^n + x^n)` of every value, dense or torch.sparse_csr: saturation of one side, which is separable.

    Differentiable in the values; at 0 the slope is that of the right side (infinite for an exponent below 1).
    """
    _check_hill(half_saturation, exponent)
    x = Expression.of(x_NG, "x_NG")
    check_not_negative(x, "x_NG")
    # Powers of at most 1, of values and in their slopes; what `where` leaves out must be finite, too.
    low = x.values <= half_saturation
    rising = (torch.where(low, x.values, half_saturation) / half_saturation) ** exponent
    falling = (half_saturation / torch.where(low, half_saturation, x.values)) ** exponent
    values = torch.where(low, rising / (1 + rising), 1 / (1 + falling))
    if x.ptr is None:
        return values
    return torch.sparse_csr_tensor(x_NG.crow_indices(), x_NG.col_indices(), values, x_NG.shape, check_invariants=False)


@dataclass(frozen=True)
class Signal:
    """A checked problem seen from its rows: near is what a row's own cell expresses, far what its neighbours do."""

    far: Expression
    near: Expression
    far_P: Tensor
    near_P: Tensor
    indptr: Tensor
    indices: Tensor
    weight_E: Tensor
    half_saturation: float | None
    exponent: float

    @property
    def n_cells(self) -> int:
        return self.near.shape[0]

    @property
    def device(self) -> torch.device:
        return self.indices.device

    def unable(self) -> str | None:
        """Why no native code of the device can run the problem, or None."""
        if self.device.type != "cuda":
            return None
        return cuda.unable(self.far.shape[1], self.near_P.numel())

    def native(self, slot_P: Tensor) -> tuple:
        """The arguments that every native function shares; `slot_P` is the place of each pair in the output."""
        inverse_half = 0.0 if self.half_saturation is None else 1 / self.half_saturation
        pairs = pairs_by_gene(self.near_P, self.far_P, slot_P, self.near.shape[1])
        graph = self.indptr.contiguous(), self.indices.contiguous(), self.weight_E.detach().contiguous()
        return self.far.native(), self.near.native(), pairs, *graph, inverse_half, self.exponent


def pairs_by_gene(gene_P: Tensor, partner_P: Tensor, slot_P: Tensor, n_genes: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs as CSR rows of their gene: (n_genes + 1,) pointers, then partner and slot of each pair."""
    ptr, order = grouped(gene_P, n_genes)
    return ptr, partner_P[order].contiguous(), slot_P[order].contiguous()


def _received(problem: LigandReceptor) -> Signal:
    far = Expression.of(problem.ligand_NL, "ligand_NL").float32()
    near = Expression.of(problem.receptor_NR, "receptor_NR").float32()
    n = near.shape[0]
    if far.shape[0] != n:
        raise GraphError(f"Expected ligands and receptors of the same cells, found {far.shape[0]} and {n} cells.")
    if problem.lig_P.shape != problem.rec_P.shape:
        raise GraphError(
            "Expected a ligand and a receptor for each pair, "
            f"found `lig_P` {tuple(problem.lig_P.shape)} and `rec_P` {tuple(problem.rec_P.shape)}."
        )
    check_indices(problem.lig_P, far.shape[1], "lig_P")
    check_indices(problem.rec_P, near.shape[1], "rec_P")
    check_graph(problem.indptr, problem.indices, n)
    weight = problem.weight_E
    if weight.shape != problem.indices.shape or not weight.is_floating_point():
        raise GraphError(
            f"Expected `weight_E` of {tuple(problem.indices.shape)} in float32, "
            f"found {tuple(weight.shape)} {weight.dtype}."
        )
    if problem.half_saturation is not None:
        _check_hill(problem.half_saturation, problem.exponent)
        check_not_negative(far, "ligand_NL")
        check_not_negative(near, "receptor_NR")
    graph = problem.indptr, problem.indices, weight.to(torch.float32)
    saturation = problem.half_saturation, problem.exponent
    return Signal(far, near, problem.lig_P, problem.rec_P, *graph, *saturation)


def _sent(problem: LigandReceptor) -> Signal:
    """The same signals on the transposed graph, where senders are rows."""
    x = _received(problem)
    indptr, receivers, edges = by_sender(x.indptr, x.indices)
    swapped = replace(x, far=x.near, near=x.far, far_P=x.near_P, near_P=x.far_P)
    return replace(swapped, indptr=indptr, indices=receivers, weight_E=x.weight_E[edges])


def _by_group(signal: Signal, group_P: Tensor | None, n_groups: int | None) -> Tensor:
    if group_P is None:
        group_P, n_groups = torch.zeros_like(signal.near_P), 1
    if group_P.shape != signal.near_P.shape:
        raise GraphError(
            f"Expected a group for each of the {signal.near_P.numel()} pairs, found {tuple(group_P.shape)}."
        )
    if n_groups is None:
        n_groups = int(group_P.max()) + 1 if group_P.numel() else 0
    check_indices(group_P, n_groups, "group_P")
    return _rows(signal, group_P, n_groups)(0, signal.n_cells)


def _by_pair(signal: Signal, rows: int | None) -> Iterator[tuple[int, Tensor]]:
    rows = ROWS_A_BLOCK.get(signal.device.type, 4096) if rows is None else rows
    if rows < 1:
        raise GraphError(f"Expected blocks of at least one row, found {rows}.")
    n_pairs = signal.near_P.numel()
    slot_P = torch.arange(n_pairs, dtype=torch.int32, device=signal.device)
    # Native code would make CSR rows of dense ones again for every block.
    sums = _rows(replace(signal, far=signal.far.sparse(), near=signal.near.sparse()), slot_P, n_pairs)

    def blocks() -> Iterator[tuple[int, Tensor]]:
        for first in range(0, signal.n_cells, rows):
            yield first, sums(first, min(rows, signal.n_cells - first))

    return blocks()


def _rows(signal: Signal, slot_P: Tensor, n_slots: int) -> Callable[[int, int], Tensor]:
    """A function of a first row and a count: (count, n_slots) float32 sums of these rows over the pairs of each slot."""
    chosen = choose("ligrec_signal", signal.device, signal.unable())
    if chosen == "reference":
        return partial(reference.signal, signal, slot_P, n_slots)
    if chosen == "cuda":
        return cuda.signal(signal, slot_P, n_slots)
    given = signal.native(slot_P)

    def sums(first: int, count: int) -> Tensor:
        out = torch.empty(count, n_slots)
        native().ligrec_signal(*given, first, out)
        return out

    return sums


def _check_hill(half_saturation: float, exponent: float) -> None:
    if not (1e-30 < half_saturation < 1e30 and 0 < exponent < float("inf")):
        raise GraphError(
            "Expected a half saturation in (1e-30, 1e30) and an exponent above 0, "
            f"found half_saturation={half_saturation}, exponent={exponent}."
        )
