"""Batch: the cells of some patients, their graph and their labels, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metaniche.graph import CellGraph, concat


class Rows(Protocol):
    """Rows of a matrix, made when they are asked for."""

    def __getitem__(self, cells: Tensor | slice) -> Tensor: ...


class Piece(NamedTuple):
    """A sample, or a window of it.

    Attributes
    ----------
    x
        (n, F) float32; a tensor, or whatever gives one when it is indexed with cells or a slice, see `units.RowsOf`.
    graph
        CellGraph of the n cells.
    candidates
        (n,) bool, the cells that are pooled to the unit.
    labels
        (n,) float32, labels of cells, NaN where there is none.
    signals
        (n, S) float32 in [0, 1), see PairFeatures; S is 0 for networks that hear none.
    surroundings
        (n,) bool, cells that are soil to others: those that are not malignant, which may be none; all where nobody knows.
    inside
        (n,) bool, the cells of a window; the others are its halo: whom these hear, not pooled and not learned from. None: all.
    """

    x: Tensor | Rows
    graph: CellGraph
    candidates: Tensor
    labels: Tensor
    signals: Tensor | Rows
    surroundings: Tensor
    inside: Tensor | None = None


@dataclass(frozen=True)
class Bag:
    """What a network sees of one unit (patient or sample): one or more pieces of tissue and the unit's label.

    Attributes
    ----------
    index
        Position of the unit among all training units.
    pieces
        At least one; their cells are one bag.
    target
        (T,) float32: y; or time, event; or one column per site, NaN where missing. Empty for cell-level tasks.
    clinical
        (C,) float32.
    """

    index: int
    pieces: Sequence[Piece]
    target: np.ndarray
    clinical: np.ndarray


@dataclass(frozen=True)
class Batch:
    """B bags as tensors; the cells of a bag are contiguous.

    Attributes
    ----------
    x
        (N, F) float32.
    graph
        CellGraph of all N cells, a sample per piece.
    bag_ptr
        (B + 1,) int64.
    candidates
        (N,) bool, the cells that are pooled to the unit: all of them, or the malignant ones, see `data.units.make_bags`.
    cell_target
        (N,) float32, labels of cells, NaN where there is none.
    target
        (B, T) float32, see Bag.
    clinical
        (B, C) float32.
    index
        (B,) int64, see Bag.
    signals, surroundings
        (N, S) float32 and (N,) bool, see Piece.
    inside
        (N,) bool, see Piece; None where no piece has a halo.
    """

    x: Tensor
    graph: CellGraph
    bag_ptr: Tensor
    candidates: Tensor
    cell_target: Tensor
    target: Tensor
    clinical: Tensor
    index: Tensor
    signals: Tensor
    surroundings: Tensor
    inside: Tensor | None = None

    @property
    def tissue(self) -> tuple:
        """What a network is called with."""
        of_cells = self.signals, self.surroundings, self.inside
        return self.x, self.graph, self.bag_ptr, self.candidates, self.clinical, *of_cells

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if part is not None})


def collate(bags: Sequence[Bag]) -> Batch:
    """Stack bags block-diagonally."""
    pieces = [piece for bag in bags for piece in bag.pieces]
    sizes = [sum(piece.graph.n_cells for piece in bag.pieces) for bag in bags]
    return Batch(
        x=torch.cat([p.x[:] for p in pieces]),
        graph=concat([p.graph for p in pieces]),
        bag_ptr=torch.tensor([0, *sizes]).cumsum(0),
        candidates=torch.cat([p.candidates for p in pieces]),
        cell_target=torch.cat([p.labels for p in pieces]),
        target=torch.from_numpy(np.stack([bag.target for bag in bags])).float(),
        clinical=torch.from_numpy(np.stack([bag.clinical for bag in bags])).float(),
        index=torch.tensor([bag.index for bag in bags]),
        signals=torch.cat([p.signals[:] for p in pieces]),
        surroundings=torch.cat([p.surroundings for p in pieces]),
        inside=_inside(pieces),
    )


def _inside(pieces: Sequence[Piece]) -> Tensor | None:
    if all(p.inside is None for p in pieces):
        return None
    return torch.cat([torch.ones_like(p.candidates) if p.inside is None else p.inside for p in pieces])
