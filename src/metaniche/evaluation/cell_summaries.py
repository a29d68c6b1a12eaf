"""What simple models see of a cell or spot: what it is, and the mean of what its neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from metaniche.data.features import FeatureConfig, Features
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, InputError
from metaniche.evaluation.memo import Memo
from metaniche.evaluation.summaries import neighbour_mean

_FEATURES = Memo()


@dataclass
class CellSummary:
    """A row per cell: its own types and expression components (`own`), their mean over its `neighbours`, or both.

    Types, genes, scales and components are fitted on the training samples.
    """

    own: bool = True
    neighbours: bool = False
    use_types: bool = True
    use_expression: bool = True
    n_top: int = 1000
    n_components: int = 30
    features: Features | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.own or self.neighbours):
            raise ConfigError("CellSummary needs own=True, neighbours=True or both; found neither.")

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> CellSummary:
        config = FeatureConfig(self.use_types, self.use_expression, self.n_top, self.n_components)
        self.features = _FEATURES.get((config, seed), samples, lambda: Features.fit(samples, config, seed))
        return self

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        """A row per unit `sample_id:cell_id`; raises InputError where the samples do not hold one."""
        wanted = pd.Index(list(unit_ids), name="unit_id")
        tables = []
        for sample in samples:
            units = pd.Index([f"{sample.sample_id}:{cell}" for cell in sample.cells.index])
            rows = np.flatnonzero(units.isin(wanted))
            if rows.size:
                tables.append(pd.DataFrame(self._rows(sample)[rows], index=units[rows], columns=self._names()))
        found = pd.concat(tables) if tables else pd.DataFrame(columns=self._names())
        absent = wanted.difference(found.index)
        if len(absent):
            raise InputError(
                f"Expected every cell to predict in the samples, found {len(absent)} absent "
                f"(first: {absent[0]}). Pass the samples that hold them; a unit is named sample_id:cell_id."
            )
        return found.loc[wanted]

    def _rows(self, sample: PreparedSample) -> np.ndarray:
        x = self.features.transform(sample)
        parts = [x] if self.own else []
        if self.neighbours:
            parts.append(neighbour_mean(sample.graph, x, include_self=False))
        return np.concatenate(parts, axis=1)

    def _names(self) -> list[str]:
        own = list(self.features.names) if self.own else []
        return own + ([f"neighbours {n}" for n in self.features.names] if self.neighbours else [])
