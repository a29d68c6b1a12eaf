"""Windows of tissue drawn from bags, and bags whole: every draw is a function of (seed, epoch, step, rank) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        Windows of tissue per unit and step, the same for every patient whatever its number of slides or cells. They are pooled
        together, so that of several those with more pooled cells count more, as in no whole unit; of one all do alike.
    window_cells
        Cells in a window: a cell and its nearest neighbours in space. Whom they hear beyond it comes along and is not pooled.
    batch_size
        Units per step (over all ranks).
    """

    windows: int = 1
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
    """Training batches by number: item `epoch * steps + step` holds `batch_size` units with freshly drawn windows.

    `hops` is how far the network hears, in steps of the graph, see `Windows`.
    """

    def __init__(
        self,
        bags: Sequence[Bag],
        config: SamplingConfig,
        seed: int,
        rank: int = 0,
        world: int = 1,
        *,
        hops: int = 0,
    ) -> None:
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
        self.hops = hops
        self._windows: dict[int, Windows] = {}
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
        if bag.index not in self._windows:
            self._windows[bag.index] = Windows(bag, self.hops)
        # Where a window is the whole bag, once is enough.
        once = len(bag.pieces) == 1 and bag.pieces[0].graph.n_cells <= self.config.window_cells
        windows = range(1 if once else self.config.windows)
        pieces = [self._windows[bag.index].draw(self.config.window_cells, rng) for _ in windows]
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
    """Windows of a unit's tissue, in which cells hear what they hear where the unit is scored whole.

    Every cell that is pooled (every labelled one where cells have labels, any cell where neither is known) is the centre of a
    window with the same chance, so that samples count by these cells, as they do in the whole unit. Around a window lies a
    halo: the cells that those of the window hear. It is neither pooled nor learned from. In a network that hears in one hop the
    window's cells are then exactly as in the whole; in several hops the halo, which is one hop deep, hears within itself and
    the window, so that what lies farther away is missing. A network that hears nobody gets no halo.
    """

    def __init__(self, bag: Bag, hops: int) -> None:
        self.bag, self.hops = bag, hops
        self._centres = _centres(bag.pieces)
        self._everyone = not any(piece.candidates.any() for piece in bag.pieces)  # is pooled
        self._before = np.cumsum([0, *map(len, self._centres)])
        self._trees: dict[int, cKDTree] = {}

    def draw(self, n_cells: int, rng: np.random.Generator) -> Piece:
        """A random centre and the cells nearest to it, with their halo; a piece of no more than `n_cells` whole."""
        drawn = int(rng.integers(self._before[-1]))
        number = int(np.searchsorted(self._before, drawn, side="right")) - 1
        piece = self.bag.pieces[number]
        if self._everyone:
            piece = piece._replace(candidates=torch.ones_like(piece.candidates))
        if piece.graph.n_cells <= n_cells:
            return piece
        window = self._nearest(number, self._centres[number][drawn - int(self._before[number])], n_cells)
        return _around(piece, window, self.hops) if self.hops else _cut(piece, window)

    def _nearest(self, number: int, centre: Tensor, n_cells: int) -> Tensor:
        pos_um = self.bag.pieces[number].graph.pos_um
        if len(pos_um) <= SCANNED_CELLS:
            nearest = torch.topk((pos_um - pos_um[centre]).square().sum(1), n_cells, largest=False).indices
        else:
            if number not in self._trees:
                self._trees[number] = cKDTree(pos_um.numpy())
            nearest = torch.from_numpy(self._trees[number].query(pos_um[centre].numpy(), n_cells)[1])
        return nearest.sort().values


def _centres(pieces: Sequence[Piece]) -> list[Tensor]:
    """Of each piece the cells (k,) int64 on which windows may be centred."""
    for masks in ([torch.isfinite(p.labels) for p in pieces], [p.candidates for p in pieces]):
        if any(mask.any() for mask in masks):
            return [mask.nonzero()[:, 0] for mask in masks]
    return [torch.arange(p.graph.n_cells) for p in pieces]


def _cut(piece: Piece, cells: Tensor, hearing: Tensor | None = None) -> Piece:
    """These cells (ascending) of a piece, and the edges between them, into those that are `hearing`."""
    of_cells = {name: part[cells] for name, part in piece._asdict().items() if name != "graph" and part is not None}
    return piece._replace(**of_cells, graph=piece.graph.subgraph(cells, hearing))


def _around(piece: Piece, window: Tensor, hops: int) -> Piece:
    """The cells of a window and their halo."""
    cells = torch.unique(torch.cat((window, piece.graph.senders_of(window))))
    inside = torch.isin(cells, window, assume_unique=True)
    # In one hop nobody asks what the halo hears.
    found = _cut(piece, cells, inside if hops == 1 else None)
    return found._replace(
        candidates=found.candidates & inside,
        labels=found.labels.masked_fill(~inside, torch.nan),
        inside=inside,
    )
