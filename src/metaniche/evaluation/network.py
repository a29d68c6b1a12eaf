"""NetworkEstimator: a network in the harness of the simple models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pandas as pd

from metaniche.data.cohort import CohortConfig
from metaniche.data.sample import PreparedSample
from metaniche.data.splits import inner_folds
from metaniche.data.task import Targets
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.tissue_controls import TISSUES
from metaniche.graph import GraphConfig
from metaniche.io import keys
from metaniche.io.write import write_parquet
from metaniche.models.bundle import Bundle
from metaniche.predict import Predictor, Scores
from metaniche.training.calibrate import with_baseline, with_shrunken_hazards, with_temperature
from metaniche.training.fit import FitConfig, TrainerFactory, fit_bundle


@dataclass
class NetworkEstimator:
    """Trains `config` on the training patients of a fold and scores the others.

    `graph` and `cohort` say how the samples were connected and read. They are no part of the repr that names a fold, which
    names the prepared cohort anyway.
    Trained networks are scored on `device`.
    `trainer` is what of the trainer decides a fit, such as its precision, in words.
    With `calibrate` inner folds a temperature (binary tasks and Cox) is fitted on the risks of training patients that were held
    out in turn; the network itself is trained on all of them.
    `tissue` names a control of `evaluation.tissue_controls.TISSUES` in which every sample is taken apart first.
    With `cells_dir`, the cells of each sample are kept there as a table, the first time the sample is scored by a network
    that was not trained on its patient.
    """

    name: str
    config: FitConfig
    graph: GraphConfig = field(repr=False)
    cohort: CohortConfig = field(repr=False)
    role: str = "model"
    trainer: str = ""
    calibrate: int = 0
    tissue: str = ""
    make_trainer: TrainerFactory | None = field(default=None, repr=False)
    device: str = field(default="auto", repr=False)
    cells_dir: Path | None = field(default=None, repr=False)
    _predictor: Predictor | None = field(default=None, init=False, repr=False)
    _trained_on: set[str] = field(default_factory=set, init=False, repr=False)

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> Self:
        seen = self._seen(samples)
        bundle = self._fit(seen, targets, clinical, seed)
        task = targets.task
        if self.calibrate and task.level != "cell":
            bundle = self._calibrated(bundle, seen, targets, clinical, seed)
        self._predictor, self._trained_on = Predictor(bundle, self.device), set(targets.patients)
        return self

    def _fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> Bundle:
        return fit_bundle(
            samples,
            targets,
            self.config,
            graph=self.graph,
            cohort=self.cohort,
            patients=clinical,
            make_trainer=self.make_trainer,
            seed=seed,
            device=self.device,
        )

    def _calibrated(
        self,
        bundle: Bundle,
        samples: Sequence[PreparedSample],
        targets: Targets,
        clinical: pd.DataFrame | None,
        seed: int,
    ) -> Bundle:
        kind = targets.task.kind
        if kind not in ("binary", "cox"):
            return bundle
        risks = self._held_out_in_turn(samples, targets, clinical, seed)
        if kind == "binary":
            risk = pd.concat([pd.Series(dtype=float), *risks])
            return with_temperature(bundle, risk, targets.table.loc[risk.index, "y"])
        shrunken = with_shrunken_hazards(bundle, risks, targets.table)
        if shrunken is bundle:
            return bundle
        train = [s for s in samples if s.patient_id in set(targets.patients)]
        return with_baseline(shrunken, train, targets, clinical, self.device)

    def _held_out_in_turn(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> list[pd.Series]:
        """Risks of each inner fold's units, by a network that was not trained on them; empty where none can be held out."""
        risks = []
        for fold in inner_folds(targets, self.calibrate, seed):
            predictor = Predictor(self._fit(samples, targets.of(fold.train), clinical, seed), self.device)
            held_out = [s for s in samples if s.patient_id in set(fold.test)]
            risk = predictor.score(held_out, clinical, coverage_floor=0.0).units["risk"]
            risks.append(risk[risk.index.isin(targets.table.index)])
        return risks

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        if self.config.pretrain.encoder is not None:
            self.config.pretrain.encoder.check_unseen(samples, self.cohort.name)
        scores = self._predictor.score(self._seen(samples), clinical, coverage_floor=0.0)
        self._keep_cells(scores)
        task = self._predictor.task
        if task.level == "cell":
            return Prediction(cell_risk(scores).reindex(unit_ids))
        sites = scores.units[list(task.sites)] if task.kind == "sites" else None
        return Prediction(scores.units["risk"], scores.survival, sites)

    def _seen(self, samples: Sequence[PreparedSample]) -> list[PreparedSample]:
        return [TISSUES[self.tissue](s) for s in samples] if self.tissue else list(samples)

    def _keep_cells(self, scores: Scores) -> None:
        if self.cells_dir is None:
            return
        unseen = scores.cells[~scores.cells[keys.PATIENT].isin(self._trained_on)]
        for sample_id, cells in unseen.groupby(keys.SAMPLE):
            path = self.cells_dir / f"{sample_id}.parquet"
            if not path.exists():
                write_parquet(cells, path)


def cell_risk(scores: Scores) -> pd.Series:
    """The potential of every cell, by unit id of a cell-level task."""
    ids = scores.cells[keys.SAMPLE] + ":" + scores.cells["cell_id"]
    return pd.Series(scores.cells[keys.POTENTIAL].to_numpy(float), index=pd.Index(ids, name="unit_id"))
