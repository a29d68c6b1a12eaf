"""PreparedSample: one sample, ready for models: its CellGraph, its raw features and its cell table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from metaniche.graph import CellGraph
from metaniche.io import keys


@dataclass(frozen=True)
class PreparedSample:
    """One sample after reading, checking and graph building. Nothing in it was fitted on any data.

    Attributes
    ----------
    sample_id, patient_id
        Names from the cohort's sample table.
    graph
        CellGraph of this sample alone (`n_samples == 1`); its cells are in Hilbert order.
    x
        (N, G) float32, raw counts or marker intensities as read; G may be 0. Dense array or CSR.
    features
        The G feature names (gene symbols or markers).
    feature_kind
        "counts", "intensity" or "none" (cell types only).
    cells
        (N rows) one row per cell in graph order, indexed by cell id. Holds, where the source says so, `is_malignant` (bool),
        and where it has them `cell_type`, `clone_id` and cell-level annotations, as pandas categoricals (missing = not given).
    file_order
        (N,) int64, position of each row in the file it was read from.
    """

    sample_id: str
    patient_id: str
    graph: CellGraph
    x: np.ndarray | sparse.csr_array
    features: tuple[str, ...]
    feature_kind: str
    cells: pd.DataFrame
    file_order: np.ndarray

    @property
    def n_cells(self) -> int:
        return self.graph.n_cells

    @property
    def is_malignant(self) -> np.ndarray:
        """(N,) bool; where nobody says which cells are malignant, any may be."""
        return self.cells[keys.MALIGNANT].to_numpy(bool) if self.knows_malignant else np.ones(self.n_cells, dtype=bool)

    @property
    def knows_malignant(self) -> bool:
        """Whether the source says which cells are malignant, by their types or by name; all of them may be."""
        return keys.MALIGNANT in self.cells

    @property
    def cell_types(self) -> pd.Categorical | None:
        """The cell types in graph order, or None where the source has none."""
        return self.cells[keys.CELL_TYPE].array if keys.CELL_TYPE in self.cells else None

    def take(self, cells: np.ndarray) -> PreparedSample:
        """The sample with only these cells (ascending positions), and the edges between them."""
        return replace(
            self,
            graph=self.graph.subgraph(torch.from_numpy(cells)),
            x=self.x[cells],
            cells=self.cells.iloc[cells],
            file_order=self.file_order[cells],
        )


def types_in(samples: Sequence[PreparedSample]) -> tuple[str, ...]:
    """The cell types that occur in these samples, sorted."""
    named = [s.cell_types.remove_unused_categories() for s in samples if s.cell_types is not None]
    return tuple(sorted({str(name) for column in named for name in column.categories}))


def shared_features(samples: Sequence[PreparedSample]) -> tuple[str, ...]:
    """The features that all of these samples measure, in the order of the first."""
    shared = set(samples[0].features).intersection(*(s.features for s in samples[1:]))
    return tuple(name for name in samples[0].features if name in shared)
