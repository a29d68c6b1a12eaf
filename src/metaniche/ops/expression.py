"""Expression of cells as the ligand-receptor ops read it, dense or sparse, and that of complexes from their subunits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, native
from metaniche.ops.cuda import expression as cuda
from metaniche.ops.reference import expression as reference
from metaniche.ops.segment import check_rows

HOW = ("minimum", "geometric_mean")
ENTRIES_A_BLOCK = 1 << 22


@dataclass(frozen=True)
class Expression:
    """Expression of N cells: dense, or the CSR rows of a sparse matrix."""

    values: Tensor
    """(N, G), or (nnz,) where `ptr` and `columns` are given."""
    shape: tuple[int, int]
    ptr: Tensor | None = None
    """(N + 1,) int64."""
    columns: Tensor | None = None
    """(nnz,) int32, ascending within each row."""

    @classmethod
    def of(cls, x_NG: Tensor, name: str) -> Expression:
        """Check a dense or `torch.sparse_csr` matrix; GraphError says what is wrong with `name`."""
        if x_NG.ndim != 2 or x_NG.dtype not in (torch.float32, torch.float64):
            raise GraphError(
                f"Expected `{name}` of shape (cells, genes) in float32, found {x_NG.dtype} of {tuple(x_NG.shape)}."
            )
        if x_NG.layout == torch.strided:
            return cls(x_NG, tuple(x_NG.shape))
        if x_NG.layout != torch.sparse_csr:
            raise GraphError(f"Expected `{name}` to be dense or torch.sparse_csr, found {x_NG.layout}.")
        ptr, columns = x_NG.crow_indices().to(torch.int64), x_NG.col_indices().to(torch.int32)
        check_rows(ptr, columns.numel())
        _check_columns(ptr, columns, x_NG.shape[1], name)
        return cls(x_NG.values(), tuple(x_NG.shape), ptr, columns)

    def float32(self) -> Expression:
        return Expression(self.values.to(torch.float32), self.shape, self.ptr, self.columns)

    def to(self, device: torch.device) -> Expression:
        tensors = self.values, self.ptr, self.columns
        values, ptr, columns = (None if tensor is None else tensor.to(device) for tensor in tensors)
        return Expression(values, self.shape, ptr, columns)

    def sparse(self) -> Expression:
        """The same expression as CSR rows."""
        if self.ptr is not None:
            return self
        ptr, columns, values = reference.nonzero(self.values)
        return Expression(values, self.shape, ptr, columns)

    def native(self) -> tuple:
        """(values, ptr, columns, genes, cells) as native code reads them."""
        n, genes = self.shape
        flat = self.values.detach().contiguous().view(-1)
        if self.ptr is None:
            return flat, None, None, genes, n
        return flat, self.ptr.contiguous(), self.columns.contiguous(), genes, n


def complex_expression(x_NG: Tensor, ptr: Tensor, genes: Tensor, how: str = "minimum") -> Tensor:
    """Expression of every complex of each cell, from that of its subunits.

    .. math:: x_{ic} = \\min_{s \\in c} x_{is} \\quad \\text{or} \\quad \\big(\\prod_{s \\in c} x_{is}\\big)^{1/|c|}

    A complex with a subunit at 0 is at 0, as CellPhoneDB (minimum) and CellChat (geometric mean) have it. A single
    gene is a complex of one subunit. Not differentiable.

    Parameters
    ----------
    x_NG
        (N, G) float32 expression, dense or torch.sparse_csr.
    ptr, genes
        (C + 1,) int64 and (S,) int32: complex c consists of the columns `genes[ptr[c]:ptr[c + 1]]`.
    how
        minimum or geometric_mean.

    Returns
    -------
    (N, C) float32 in the layout of `x_NG`.

    Raises
    ------
    GraphError
        On a complex without subunits, a gene that is not there, or expression that is negative or not finite under
        a geometric mean.

    Sources: Efremova et al. 2020, doi:10.1038/s41596-020-0292-x; Jin et al. 2021, doi:10.1038/s41467-021-21246-9.
    """
    if how not in HOW:
        raise GraphError(f"Expected `how` in {HOW}, found {how!r}.")
    x = Expression.of(x_NG, "x_NG").float32()
    check_rows(ptr, genes.numel())
    check_indices(genes, x.shape[1], "genes")
    if (ptr.diff() == 0).any():
        empty = torch.nonzero(ptr.diff() == 0).flatten()
        raise GraphError(f"Expected every complex to have a subunit, found none for {empty[:5].tolist()}.")
    if how == "geometric_mean":
        check_not_negative(x, "x_NG")
    geometric = how == "geometric_mean"
    chosen = choose("complex_expression", x.values.device)
    if chosen == "reference":
        return reference.complex_expression(x, ptr, genes, geometric)
    if chosen == "cuda":
        return cuda.complex_expression(x, ptr.contiguous(), genes.contiguous(), geometric)
    return _native_complexes(x, ptr.contiguous(), genes.contiguous(), geometric)


def check_indices(index: Tensor, stop: int, name: str, *, on_device: bool = False) -> None:
    """GraphError unless `index` is one-dimensional int32 within [0, stop).

    Values are looked at on the CPU only, where it costs no wait, unless asked for.
    """
    if index.dtype != torch.int32 or index.ndim != 1:
        raise GraphError(f"Expected `{name}` to be int32 of one dimension, found {index.dtype} {tuple(index.shape)}.")
    if (on_device or index.device.type == "cpu") and index.numel():
        low, high = torch.stack(torch.aminmax(index)).tolist()
        if low < 0 or high >= stop:
            raise GraphError(f"Expected `{name}` in [0, {stop}), found {low}..{high}.")


def type_counts(type_N: Tensor, n_types: int) -> Tensor:
    """(T,) int64 cells of each type; GraphError on a type that is not in [0, T), on any device."""
    if type_N.numel() and type_N.amin() < 0:
        raise GraphError(f"Expected `type_N` in [0, {n_types}), found {int(type_N.min())}. Leave such cells out.")
    counts = torch.bincount(type_N, minlength=n_types)
    if counts.numel() != n_types:
        raise GraphError(f"Expected `type_N` in [0, {n_types}), found {int(type_N.max())}.")
    return counts


def check_not_negative(x: Expression, name: str) -> None:
    """GraphError when any value is below 0, NaN or infinite; values are looked at on the CPU only."""
    if x.values.device.type != "cpu" or not x.values.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(x.values.detach()))
    if not 0 <= low <= high < float("inf"):  # NaN passes through
        raise GraphError(
            f"Expected `{name}` not to be negative here and to be finite, found values from {low:.3g} to {high:.3g}. "
            "Pass counts or log-normalised counts, not z-scores, and leave out what was not measured."
        )


def _native_complexes(x: Expression, ptr: Tensor, genes: Tensor, geometric: bool) -> Tensor:
    n, c = x.shape[0], ptr.numel() - 1
    if x.ptr is None:
        out = torch.empty(n, c)
        native().complex_dense(x.values.detach().contiguous(), ptr, genes, geometric, out)
        return out
    counts = torch.empty(n, dtype=torch.int64)
    native().complex_counts(x.native(), ptr, genes, geometric, counts)
    out_ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    columns, values = torch.empty(int(out_ptr[-1]), dtype=torch.int32), torch.empty(int(out_ptr[-1]))
    native().complex_fill(x.native(), ptr, genes, geometric, out_ptr, columns, values)
    return reference.csr(out_ptr, columns, values, (n, c))


def _check_columns(ptr: Tensor, columns: Tensor, width: int, name: str) -> None:
    check_indices(columns, width, f"{name}.col_indices()")
    if columns.device.type != "cpu" or columns.numel() < 2:
        return
    starts = torch.zeros(columns.numel() + 1, dtype=torch.bool)
    starts[ptr] = True
    for first in range(0, columns.numel() - 1, ENTRIES_A_BLOCK):
        part = columns[first : first + ENTRIES_A_BLOCK + 1]
        falls = torch.nonzero((part.diff() <= 0) & ~starts[first + 1 : first + part.numel()]).flatten()
        if not falls.numel():
            continue
        raise GraphError(
            f"Expected the columns of `{name}` to ascend within each row without repetition, "
            f"found entry {first + 1 + int(falls[0])} out of order. Sum duplicates and sort the matrix first."
        )
