"""Units and the niches drawn from them: every draw is a function of (seed, epoch, step, rank) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from metaniche.data.batch import Bag, Batch, collate
from metaniche.errors import ConfigError
from metaniche.graph import CellGraph

Piece = tuple[Tensor, CellGraph, Tensor, Tensor]  # see Bag.pieces


@dataclass(frozen=True)
class SamplingConfig:
    """How training sees tissue.

    Parameters
    ----------
    windows
        Windows of tissue per unit and step, the same for every patient whatever its number of slides or cells.
    window_cells
        Cells in a window: a cell and its nearest neighbours in space.
    batch_size
        Units per step (over all ranks).
    """

    windows: int = 4
    window_cells: int = 256
    batch_size: int = 8

    def __post_init__(self) -> None:
        for name, least in (("windows", 1), ("window_cells", 2), ("batch_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"Expected data.sampling.{name} to be a whole number of at least {least}, found {value!r}."
                )


class NicheBatches(Dataset):
    """Training batches by number: item `epoch * steps + step` holds `batch_size` units with freshly drawn windows."""

    def __init__(self, units: Sequence[Bag], config: SamplingConfig, seed: int, rank: int = 0, world: int = 1) -> None:
        if not units:
            raise ConfigError("Expected at least one training unit, found none.")
        if config.batch_size < world:
            raise ConfigError(f"Expected batch_size >= number of processes, found {config.batch_size} and {world}.")
        self.units, self.config, self.seed, self.rank, self.world = units, config, seed, rank, world
        self.per_step = min(config.batch_size, len(units)) // world * world or world
        self.steps = -(-len(units) // self.per_step)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, number: int) -> Batch:
        epoch, step = divmod(number, self.steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.units))
        # The last step wraps around, so that every rank has as many units at every step.
        members = np.resize(order, self.steps * self.per_step)[step * self.per_step : (step + 1) * self.per_step]
        rng = np.random.default_rng([self.seed, epoch, step, self.rank])
        return collate([self._draw(self.units[i], rng) for i in members[self.rank :: self.world]])

    def _draw(self, unit: Bag, rng: np.random.Generator) -> Bag:
        pieces = []
        for _ in range(self.config.windows):
            pieces.append(cut_window(unit.pieces[rng.integers(len(unit.pieces))], self.config.window_cells, rng))
            if len(unit.pieces) == 1 and pieces[0][0].shape[0] == unit.pieces[0][0].shape[0]:
                break  # the window is the whole unit: once is enough
        return Bag(unit.index, pieces, unit.target, unit.clinical)


class WholeUnits(Dataset):
    """Every unit whole, one per item; for validation and prediction."""

    def __init__(self, units: Sequence[Bag]) -> None:
        self.units = units

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, number: int) -> Batch:
        return collate([self.units[number]])


class EpochSampler(Sampler[int]):
    """Numbers of one epoch's batches; `set_epoch` is called by the trainer before each epoch."""

    def __init__(self, steps: int) -> None:
        self.steps, self.epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from range(self.epoch * self.steps, (self.epoch + 1) * self.steps)

    def __len__(self) -> int:
        return self.steps


def cut_window(piece: Piece, n_cells: int, rng: np.random.Generator) -> Piece:
    """A random candidate cell (a labelled one where cells have labels) and the cells nearest to it, with their graph."""
    x, graph, candidates, labels = piece
    if graph.n_cells <= n_cells:
        return piece
    eligible = torch.isfinite(labels)
    if not eligible.any():
        eligible = candidates if candidates.any() else torch.ones_like(candidates)
    eligible = eligible.nonzero().squeeze(1)
    centre = eligible[int(rng.integers(eligible.numel()))]
    distance = (graph.pos_um - graph.pos_um[centre]).square().sum(1)
    cells = torch.topk(distance, n_cells, largest=False).indices.sort().values
    return x[cells], graph.subgraph(cells), candidates[cells], labels[cells]
