"""What turns logits into statements: Breslow's baseline for Cox, a temperature where held-out units allow it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from metaniche.data.outcome import breslow
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets
from metaniche.data.units import target_columns
from metaniche.models.bundle import Bundle
from metaniche.predict import Predictor

log = logging.getLogger(__name__)

MIN_CALIBRATION_UNITS = 10  # fewer held-out units cannot fit even one number
TEMPERATURE_BOUNDS = (-1.5, 2.0)  # of its logarithm


def with_baseline(
    bundle: Bundle, train: Sequence[PreparedSample], targets: Targets, patients: pd.DataFrame | None
) -> Bundle:
    """A Cox bundle with the baseline hazard of its own training units (Breslow 1972)."""
    risk = Predictor(bundle).score(train, patients, coverage_floor=0.0).units["risk"]
    table = targets.table.loc[risk.index.intersection(targets.table.index)]
    time, hazard = breslow(
        risk[table.index].to_numpy(), *(table[c].to_numpy(float) for c in target_columns(targets.task))
    )
    return replace(bundle, calibration={"baseline": {"time": time, "hazard": hazard}})


def with_temperature(
    bundle: Bundle, held_out: Sequence[PreparedSample], targets: Targets, patients: pd.DataFrame | None
) -> Bundle:
    """A bundle of a binary task with the temperature that suits held-out units best (Guo et al. 2017, arXiv 1706.04599).

    The bundle as it is where fewer than MIN_CALIBRATION_UNITS were held out, or only one class of them.
    """
    if len(targets.table) < MIN_CALIBRATION_UNITS or targets.table["y"].nunique() < 2:
        return bundle
    risk = Predictor(bundle).score(held_out, patients, coverage_floor=0.0).units["risk"]
    y = targets.table["y"].reindex(risk.index)
    logit = np.log(risk / (1 - risk))[y.notna()]
    y = y.dropna()

    def loss(log_temperature: float) -> float:
        z = logit / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, z) - y * z))

    best = minimize_scalar(loss, bounds=TEMPERATURE_BOUNDS, method="bounded")
    if min(abs(best.x - bound) for bound in TEMPERATURE_BOUNDS) < 1e-2:
        log.warning(
            "The temperature ended at its bound, %.1f: the held-out patients do not support calibrated risks.",
            np.exp(best.x),
        )
    return replace(bundle, calibration={"temperature": float(np.exp(best.x)), "n_calibration": len(y)})
