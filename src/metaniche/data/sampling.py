"""Windows of tissue drawn from bags, and bags whole: every draw is a function of (seed, epoch, step, rank) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from metaniche.data.batch import Bag, Batch, Piece, collate
from metaniche.errors import ConfigError

SCANNED_CELLS = 50_000  # of a piece that every window looks through; a larger one gets a tree


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


class WindowBatches(Dataset):
    """Training batches by number: item `epoch * steps + step` holds `batch_size` units with freshly drawn windows."""

    def __init__(self, bags: Sequence[Bag], config: SamplingConfig, seed: int, rank: int = 0, world: int = 1) -> None:
        if not bags:
            raise ConfigError(
                "Expected at least one training unit, found none. Check that patients with a label have samples."
            )
        if config.batch_size < world:
            raise ConfigError(
                f"Expected at least one unit per process and step, found data.sampling.batch_size={config.batch_size} for "
                f"{world} processes. Raise it, or use fewer devices (trainer.devices, trainer.num_nodes)."
            )
        self.bags, self.config, self.seed, self.rank, self.world = bags, config, seed, rank, world
        self._windows: dict[tuple[int, int], Windows] = {}
        self.per_step = min(config.batch_size, len(bags)) // world * world or world
        self.steps = -(-len(bags) // self.per_step)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, number: int) -> Batch:
        epoch, step = divmod(number, self.steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.bags))
        # The last step wraps around, so that every rank has as many units at every step.
        members = np.resize(order, self.steps * self.per_step)[step * self.per_step : (step + 1) * self.per_step]
        rng = np.random.default_rng([self.seed, epoch, step, self.rank])
        return collate([self._draw(self.bags[i], rng) for i in members[self.rank :: self.world]])

    def _draw(self, bag: Bag, rng: np.random.Generator) -> Bag:
        pieces = []
        for _ in range(self.config.windows):
            number = int(rng.integers(len(bag.pieces)))
            windows = self._windows.setdefault((bag.index, number), Windows(bag.pieces[number]))
            pieces.append(windows.cut(self.config.window_cells, rng))
            if len(bag.pieces) == 1 and pieces[0].graph.n_cells == bag.pieces[0].graph.n_cells:
                break  # the window is the whole bag: once is enough
        return Bag(bag.index, pieces, bag.target, bag.clinical)


class WholeBags(Dataset):
    """Every bag whole, one per item; for validation."""

    def __init__(self, bags: Sequence[Bag]) -> None:
        self.bags = bags

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, number: int) -> Batch:
        return collate([self.bags[number]])


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


class Windows:
    """Windows of one piece of tissue."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece

    def cut(self, n_cells: int, rng: np.random.Generator) -> Piece:
        """A random candidate cell (a labelled one where cells have labels) and the cells nearest to it, with their graph."""
        piece, pos_um = self.piece, self.piece.graph.pos_um
        if piece.graph.n_cells <= n_cells:
            return piece
        centre = pos_um[self._centres[int(rng.integers(self._centres.numel()))]]
        if self._tree is None:
            nearest = torch.topk((pos_um - centre).square().sum(1), n_cells, largest=False).indices
        else:
            nearest = torch.from_numpy(self._tree.query(centre.numpy(), n_cells)[1])
        cells = nearest.sort().values
        columns = (column if name == "graph" else column[cells] for name, column in zip(piece._fields, piece))
        return Piece(*columns)._replace(graph=piece.graph.subgraph(cells))

    @cached_property
    def _centres(self) -> Tensor:
        labelled, candidates = torch.isfinite(self.piece.labels), self.piece.candidates
        if not labelled.any():
            labelled = candidates if candidates.any() else torch.ones_like(candidates)
        return labelled.nonzero().squeeze(1)

    @cached_property
    def _tree(self) -> cKDTree | None:
        graph = self.piece.graph
        return cKDTree(graph.pos_um.numpy()) if graph.n_cells > SCANNED_CELLS else None
