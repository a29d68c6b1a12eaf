"""Prepared samples, fitted features and targets -> a bag per unit, for training and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from metaniche.data.batch import Bag, Piece
from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.features import Features
from metaniche.data.pairs import PairFeatures
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError

POOLS = ("all", "malignant")
# Of features and signals of all cells that are worked out once; where they take more, each window's are when it is drawn.
KEPT_BYTES = 2_000_000_000


@dataclass(frozen=True)
class RowsOf:
    """(n, F) float32 of a sample's cells, worked out for the rows that are asked for."""

    taken: Taken
    transform: Callable[[PreparedSample], np.ndarray]

    def __getitem__(self, cells: torch.Tensor | slice) -> torch.Tensor:
        if isinstance(cells, slice):
            return torch.from_numpy(self.transform(self.taken.sample)[cells])
        return torch.from_numpy(self.transform(self.taken(cells)))


class Taken:
    """The last cells that were taken of a sample: features and signals of a window ask for the same ones."""

    def __init__(self, sample: PreparedSample) -> None:
        self.sample, self._cells, self._part = sample, None, None

    def __call__(self, cells: torch.Tensor) -> PreparedSample:
        if cells is not self._cells:
            self._cells, self._part = cells, self.sample.take(cells.numpy())
        return self._part


def make_bags(
    samples: Sequence[PreparedSample],
    features: Features,
    task: Task,
    *,
    targets: Targets | None = None,
    clinical: tuple[ClinicalFeatures, pd.DataFrame] | None = None,
    pairs: PairFeatures | None = None,
    pool: str = "all",
) -> list[Bag]:
    """One Bag per patient (sample-level tasks: per sample), in the order of first appearance.

    With `targets`, only labelled units are made and carry their labels; cell-level labels become each piece's labels.
    `clinical` is a fitted transform and the patient table it reads. `pool` says which cells are pooled to the unit:
    all of them (every cell stands for its niche) or the malignant ones. `pairs` for networks that hear them. What would take
    more than KEPT_BYTES stays on disk, as the samples do, until it is looked at.
    """
    check_pool(pool)
    by_unit = samples_by_unit(samples, task)
    if targets is not None and task.level != "cell":
        by_unit = {u: s for u, s in by_unit.items() if u in targets.table.index}
    width = len(features.names) + (len(pairs.names) if pairs else 0)
    keep = 4 * width * sum(s.n_cells for members in by_unit.values() for s in members) <= KEPT_BYTES
    bags = []
    for index, (unit, members) in enumerate(by_unit.items()):
        labels = targets if task.level == "cell" else None
        pieces = [_piece(s, features, pairs, labels, pool, keep) for s in members]
        bags.append(Bag(index, pieces, _target(unit, targets), _clinical(members[0].patient_id, clinical)))
    return bags


def check_pool(pool: str) -> None:
    """Raise ConfigError for a pool that `make_bags` does not know."""
    if pool not in POOLS:
        raise ConfigError(f"Expected pool to be one of {POOLS}, found {pool!r}. all pools every cell of the unit.")


def unit_of(sample: PreparedSample, task: Task) -> str:
    """The unit a sample belongs to: its patient, or itself for sample-level tasks."""
    return sample.sample_id if task.level == "sample" else sample.patient_id


def samples_by_unit(samples: Sequence[PreparedSample], task: Task) -> dict[str, list[PreparedSample]]:
    """The samples of each unit, units in the order in which `make_bags` returns them without targets."""
    found: dict[str, list[PreparedSample]] = {}
    for sample in samples:
        found.setdefault(unit_of(sample, task), []).append(sample)
    return found


def _piece(
    sample: PreparedSample,
    features: Features,
    pairs: PairFeatures | None,
    cell_targets: Targets | None,
    pool: str,
    keep: bool,
) -> Piece:
    labels = np.full(sample.n_cells, np.nan, dtype=np.float32)
    if cell_targets is not None:
        table = cell_targets.table
        own = table.loc[table["sample_id"] == sample.sample_id, "y"]
        labels = own.reindex([f"{sample.sample_id}:{c}" for c in sample.cells.index]).to_numpy(np.float32)
    candidates = sample.is_malignant if pool == "malignant" else np.ones(sample.n_cells, dtype=bool)
    around = ~sample.is_malignant if sample.knows_malignant else np.ones(sample.n_cells, dtype=bool)
    taken = Taken(sample)
    x = RowsOf(taken, features.transform)
    signals = RowsOf(taken, pairs.transform) if pairs else torch.zeros(sample.n_cells, 0)
    return Piece(
        x[:] if keep else x,
        sample.graph,
        torch.from_numpy(candidates.copy()),
        torch.from_numpy(labels.copy()),
        signals[:] if keep else signals,
        torch.from_numpy(around),
    )


def _target(unit: str, targets: Targets | None) -> np.ndarray:
    if targets is None or targets.task.level == "cell":
        return np.zeros(0, dtype=np.float32)
    return targets.table.loc[unit, target_columns(targets.task)].to_numpy(np.float32)


def target_columns(task: Task) -> list[str]:
    """Label columns of a task's target table, in the order of `Bag.target`."""
    survival = ["time", "event", *(["competing"] if task.competing else [])]
    return {"binary": ["y"], "sites": list(task.sites)}.get(task.kind, survival)


def _clinical(patient: str, clinical: tuple[ClinicalFeatures, pd.DataFrame] | None) -> np.ndarray:
    if clinical is None:
        return np.zeros(0, dtype=np.float32)
    fitted, table = clinical
    return fitted.transform(table.reindex([patient]))[0]
