"""Cell types as the numbers that the ops sum by, and sums over the cells of each type: in one order, on any device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.ops import LigandReceptor, segment_sum, type_pair_sums


class TypeCodes(NamedTuple):
    """Cell types as numbers; cells without one have the last number, which has no name."""

    names: list[str]
    code_N: Tensor
    """(N,) int32."""
    n: int
    """How many numbers there are: one more than names where some cells have no type."""


def type_codes(cell_types: pd.Categorical, device: torch.device | str = "cpu") -> TypeCodes:
    """Numbers of the types in use, in their order."""
    cell_types = cell_types.remove_unused_categories()
    names, codes = list(map(str, cell_types.categories)), cell_types.codes.astype(np.int32)
    untyped = codes < 0
    numbers = torch.from_numpy(np.where(untyped, len(names), codes).astype(np.int32))
    return TypeCodes(names, numbers.to(device), len(names) + bool(untyped.any()))


def within_cells(ligand_NL: Tensor, receptor_NR: Tensor, lig_P: Tensor, rec_P: Tensor) -> LigandReceptor:
    """The product of both sides of each pair in every cell by itself: every cell is its own neighbour."""
    n, device = ligand_NL.shape[0], lig_P.device
    cells = torch.arange(n + 1, device=device)
    weight = torch.ones(n, device=device)
    return LigandReceptor(ligand_NL, receptor_NR, lig_P, rec_P, cells, cells[:n].to(torch.int32), weight)


def sums_by_type(x: Tensor, type_N: Tensor, n_types: int) -> np.ndarray:
    """(T, G) float64 sums over each type's cells of sparse expression."""
    gene = torch.arange(x.shape[1], dtype=torch.int32, device=type_N.device)
    ones = torch.ones(type_N.numel(), 1, device=type_N.device)
    return sums_within_types(within_cells(ones, x, torch.zeros_like(gene), gene), type_N, n_types)


def sums_within_types(problem: LigandReceptor, type_N: Tensor, n_types: int) -> np.ndarray:
    """(T, P) float64 signals between cells of the same type."""
    return type_pair_sums(problem, type_N, n_types)[0].diagonal().T.numpy(force=True)


class Groups(NamedTuple):
    """Which rows of a dense table belong to which of n groups, to sum them up."""

    order: Tensor
    """(M,) int64 rows, group by group."""
    pointers: Tensor
    """(n + 1,) int64"""

    @classmethod
    def of(cls, code_M: Tensor, n: int) -> Groups:
        sizes = torch.bincount(code_M, minlength=n)
        return cls(torch.argsort(code_M, stable=True), torch.cat((sizes.new_zeros(1), sizes.cumsum(0))))

    def sums(self, values: Tensor) -> Tensor:
        """(n, ...) float64 of values (M, ...)."""
        return segment_sum(values[self.order].double(), self.pointers)
