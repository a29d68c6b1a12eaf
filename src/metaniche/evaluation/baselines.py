"""The opponents: a summary of the tissue, or the clinical variables, under a ridge, Cox or forest model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError
from metaniche.evaluation.cell_summaries import CellSummary
from metaniche.evaluation.estimator import Estimator, Prediction
from metaniche.evaluation.fusion import Fused
from metaniche.evaluation.learners import ForestClassifier, ForestHazard, Learner, PenalisedCox, RidgeLogistic
from metaniche.evaluation.memo import Memo
from metaniche.evaluation.sites import per_label
from metaniche.evaluation.summaries import Block, Composition, Density, Neighbourhoods, Pseudobulk

_BLOCKS = Memo()


@dataclass
class Heads:
    """One learner, or for a task of several sites one per site, fitted on the units whose label is known."""

    learner: Learner
    fitted: dict[str, Learner] = field(default_factory=dict, init=False, repr=False)
    task: Task | None = field(default=None, init=False, repr=False)

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> Heads:
        self.task, self.fitted = targets.task, {}
        for name, part in per_label(targets).items():
            self.fitted[name] = copy.deepcopy(self.learner).fit(x.loc[part.table.index], part, seed)
        return self

    def predict(self, x: pd.DataFrame) -> Prediction:
        if self.task.kind == "sites":
            sites = pd.DataFrame({name: head.risk(x) for name, head in self.fitted.items()}, index=x.index)
            return Prediction(sites.mean(axis=1), sites=sites)
        head = self.fitted["y"]
        scale = (float(np.mean(head.train_risk)), float(np.std(head.train_risk)))
        return Prediction(pd.Series(head.risk(x), index=x.index), head.survival(x), train_scale=scale)


@dataclass
class SummaryModel:
    """A block of tissue features under a learner; both see training patients only."""

    name: str
    block: Block
    learner: Learner
    role: str = "baseline"
    n_variables: int = field(default=0, init=False, repr=False)
    fitted_block: Block | None = field(default=None, init=False, repr=False)
    heads: Heads | None = field(default=None, init=False, repr=False)
    level: str = field(default="patient", init=False, repr=False)

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> SummaryModel:
        self.level, units = targets.task.level, tuple(targets.table.index)
        key = (repr(self.block), self.level, units, seed)
        self.fitted_block, x = _BLOCKS.get(key, samples, lambda: _fitted(self.block, samples, self.level, units, seed))
        self.n_variables = x.shape[1]
        self.heads = Heads(self.learner).fit(x, targets, seed)
        return self

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        return self.heads.predict(self.fitted_block.transform(samples, self.level, unit_ids))


def _fitted(
    block: Block, samples: Sequence[PreparedSample], level: str, units: Sequence[str], seed: int
) -> tuple[Block, pd.DataFrame]:
    fitted = copy.deepcopy(block).fit(samples, seed)
    return fitted, fitted.transform(samples, level, units)


@dataclass
class ClinicalModel:
    """The clinical variables alone: numbers and one-hot categories, medians and levels from training patients."""

    learner: Learner
    name: str = "clinical"
    role: str = "clinical"
    n_variables: int = field(default=0, init=False, repr=False)
    features: ClinicalFeatures | None = field(default=None, init=False, repr=False)
    heads: Heads | None = field(default=None, init=False, repr=False)
    level: str = field(default="patient", init=False, repr=False)

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> ClinicalModel:
        if clinical is None or clinical.shape[1] == 0:
            raise ConfigError(f"Model {self.name!r} needs clinical variables; task {targets.task.name!r} names none.")
        self.level = targets.task.level
        self.features = ClinicalFeatures.fit(clinical, list(clinical.columns))
        self.n_variables = len(self.features.names)
        self.heads = Heads(self.learner).fit(self._table(samples, clinical, targets.table.index), targets, seed)
        return self

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        return self.heads.predict(self._table(samples, clinical, unit_ids))

    def _table(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame, unit_ids: Sequence[str]
    ) -> pd.DataFrame:
        patient = _patient_of(samples, self.level, unit_ids)
        values = self.features.transform(clinical.reindex(patient))
        return pd.DataFrame(values, index=pd.Index(list(unit_ids), name="unit_id"), columns=self.features.names)


_PLAIN = ("composition CLR", "pseudobulk", "own + neighbour mean")


def standard_baselines(task: Task, feature_kind: str, has_types: bool, has_clinical: bool) -> list[Estimator]:
    """Every simple opponent that the cohort's data allow, and with clinical variables `clinical + X` of each.

    Parameters
    ----------
    feature_kind
        "counts", "intensity" or "none", as in PreparedSample.
    has_types
        Do the samples carry cell types.
    """
    linear, forest = (PenalisedCox, ForestHazard) if task.is_survival else (RidgeLogistic, ForestClassifier)
    label = "Cox" if task.is_survival else "ridge"
    measured = feature_kind != "none"
    blocks = _cell_blocks(has_types, measured) if task.level == "cell" else _tissue_blocks(has_types, measured)
    models: list[Estimator] = []
    for name, block in blocks.items():
        models.append(SummaryModel(f"{name} ({label})", block, linear()))
        models.append(SummaryModel(f"{name} (forest)", block, forest()))
    if not models:
        raise ConfigError("No baseline can be built: the cohort has neither cell types nor measured features.")
    if not has_clinical:
        return models
    clinical = ClinicalModel(linear())
    fused = [Fused(m, clinical) for m in models]
    return [clinical, ClinicalModel(forest(), "clinical (forest)", "baseline"), *models, *fused]


def fused_with(models: Sequence[Estimator], networks: Sequence[Estimator]) -> list[Fused]:
    """`clinical + network`, and the network beside the plainest account of the tissue: what does it add to either?

    The plain model is named before anything is fitted: composition, where there are cell types, else pseudobulk; of cells,
    their own features and the mean of their neighbours'.
    """
    linear = [m for m in models if not m.name.endswith("(forest)")]
    clinical = [m for m in linear if m.role == "clinical"]
    plain = [m for name in _PLAIN for m in linear if m.name.startswith(f"{name} (")]
    return [Fused(network, other) for other in (*clinical[:1], *plain[:1]) for network in networks]


def _tissue_blocks(has_types: bool, measured: bool) -> dict[str, Block]:
    blocks: dict[str, Block] = {}
    if has_types:
        blocks |= {"composition": Composition(), "composition CLR": Composition(clr=True)}
    blocks["density"] = Density()
    if measured:
        blocks["pseudobulk"] = Pseudobulk()
    if has_types or measured:
        blocks["neighbourhoods"] = Neighbourhoods(use_types=has_types)
    return blocks


def _cell_blocks(has_types: bool, measured: bool) -> dict[str, Block]:
    if not (has_types or measured):
        return {}
    kinds = {"use_types": has_types, "use_expression": measured}
    return {
        "own features": CellSummary(own=True, neighbours=False, **kinds),
        "neighbour mean": CellSummary(own=False, neighbours=True, **kinds),
        "own + neighbour mean": CellSummary(own=True, neighbours=True, **kinds),
    }


def _patient_of(samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> list[str]:
    if level == "patient":
        return list(unit_ids)
    owner = {s.sample_id: s.patient_id for s in samples}
    if level == "cell":
        owner = {f"{s.sample_id}:{cell}": s.patient_id for s in samples for cell in s.cells.index}
    return [owner[u] for u in unit_ids]
