"""Estimator: the one shape of every model in the comparison, simple or deep; and what it hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd

from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets
from metaniche.errors import InputError

ROLES = ("clinical", "baseline", "model")


@dataclass
class Prediction:
    """What an estimator says about some units.

    Attributes
    ----------
    risk
        Indexed by unit id, higher is worse: probability for binary tasks, mean probability over several sites, any
        increasing scale (log-risk) for survival.
    survival
        Survival tasks: a row per unit, an ascending column per time, probability of no event by that time. Read as
        linear between its times, 1 at time 0 and constant after the last.
    sites
        Tasks of several sites: a row per unit, a column per site, probabilities.
    train_scale
        Mean and standard deviation of the risk over the training units, out of fold where that is cheap. Survival tasks need
        it, to compare risks of different folds and for `X + network`; without it, the fitted estimator predicts its training
        units once more.
    """

    risk: pd.Series
    survival: pd.DataFrame | None = None
    sites: pd.DataFrame | None = None
    train_scale: tuple[float, float] | None = None

    def check(self, unit_ids: Sequence[str], *, where: str) -> Prediction:
        """Put the units in the given order. Raises InputError where one is missing or a risk is not finite."""
        wanted = pd.Index(list(unit_ids), name="unit_id")
        absent = wanted.difference(self.risk.index)
        if len(absent):
            raise InputError(
                f"{where}: expected a risk for {len(wanted)} units, found none for {len(absent)} (first: {absent[0]})."
            )
        risk = self.risk.reindex(wanted).astype(float)
        if not np.isfinite(risk).all():
            bad = risk.index[~np.isfinite(risk)]
            raise InputError(
                f"{where}: expected finite risks, found {len(bad)} that are not (first: {bad[0]}). Did the fit diverge?"
            )
        frames = [None if f is None else f.reindex(wanted) for f in (self.survival, self.sites)]
        return Prediction(risk, *frames, self.train_scale)


@runtime_checkable
class Estimator(Protocol):
    """A model that the harness can fit and ask.

    `repr(estimator)` is its configuration, without addresses: a saved fold is used again only where it is the same.
    `role` is clinical (the clinical variables alone), baseline (a simple opponent) or model (what is put to the test).
    """

    name: str
    role: str

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> Self:
        """Fit on training samples, their labelled units, and their patients' clinical variables (index: patient id)."""
        ...

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        """Predict units that the samples hold."""
        ...
