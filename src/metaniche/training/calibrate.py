"""What turns logits into statements: Breslow's baseline for Cox, a temperature where held-out units allow it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar

from metaniche.data.outcome import breslow
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets
from metaniche.data.units import target_columns
from metaniche.models.bundle import Bundle
from metaniche.models.novelty import Novelty
from metaniche.predict import Predictor
from metaniche.training.losses import cox_loss

log = logging.getLogger(__name__)

MIN_CALIBRATION_UNITS = 10  # fewer held-out units cannot fit even one number
MIN_CALIBRATION_EVENTS = 10
RISK_FLOOR = 1e-7  # a risk of 0 or 1 has no logit
TEMPERATURE_BOUNDS = (-1.5, 2.0)  # of its logarithm; hazards are never drawn apart


def with_baseline(
    bundle: Bundle,
    train: Sequence[PreparedSample],
    targets: Targets,
    patients: pd.DataFrame | None,
    device: torch.device | str = "auto",
) -> Bundle:
    """A Cox bundle with the baseline hazard of its own training units (Breslow 1972)."""
    risk = Predictor(bundle, device).score(train, patients, coverage_floor=0.0).units["risk"]
    table = targets.table.loc[risk.index.intersection(targets.table.index)]
    time, hazard = breslow(
        risk[table.index].to_numpy(), *(table[c].to_numpy(float) for c in target_columns(targets.task))
    )
    return replace(bundle, calibration=bundle.calibration | {"baseline": {"time": time, "hazard": hazard}})


def with_novelty(
    bundle: Bundle,
    train: Sequence[PreparedSample],
    patients: pd.DataFrame | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
) -> Bundle:
    """A bundle that can say how unlike its training cells new cells are (see `models.novelty`)."""
    embedding = Predictor(bundle, device).score(train, patients, coverage_floor=0.0).embedding
    novelty = Novelty.fit(np.concatenate(list(embedding.values())), seed)
    return replace(bundle, calibration=bundle.calibration | {"novelty": novelty.state()})


def calibrated_on(
    bundle: Bundle,
    held_out: Sequence[PreparedSample],
    targets: Targets,
    patients: pd.DataFrame | None,
    device: torch.device | str = "auto",
) -> Bundle:
    """`with_temperature` of the units of `targets`, whose patients the bundle was not trained on."""
    risk = Predictor(bundle, device).score(held_out, patients, coverage_floor=0.0).units["risk"]
    return with_temperature(bundle, risk, targets.table["y"].reindex(risk.index))


def with_temperature(bundle: Bundle, risk: pd.Series, y: pd.Series) -> Bundle:
    """A bundle of a binary task with the temperature that suits these risks of held-out units best (Guo et al. 2017,
    arXiv 1706.04599).

    The bundle as it is where fewer than MIN_CALIBRATION_UNITS were held out, or only one class of them.
    """
    known = y.notna()
    risk, y = np.clip(risk[known], RISK_FLOOR, 1 - RISK_FLOOR), y[known]
    if len(y) < MIN_CALIBRATION_UNITS or y.nunique() < 2:
        return bundle
    logit = np.log(risk / (1 - risk))

    def loss(temperature: float) -> float:
        z = logit / temperature
        return float(np.mean(np.logaddexp(0, z) - y * z))

    return _with_best(bundle, loss, len(y), TEMPERATURE_BOUNDS[0])


def with_shrunken_hazards(bundle: Bundle, risks: Sequence[pd.Series], table: pd.DataFrame) -> Bundle:
    """A Cox bundle whose log-hazards are divided by the temperature, of 1 or above, that suits those of held-out units best.

    One over the temperature is the slope of a Cox model of the log-hazard (van Houwelingen 2000,
    doi:10.1002/1097-0258(20001230)19:24<3401::AID-SIM554>3.0.CO;2-2). Networks fit their training units better than others, so
    that without it curves of new units lie too far apart. Its baseline hazard is to be fitted afterwards.

    Parameters
    ----------
    risks
        Log-hazards of held-out units, a Series for each network that scored them: every fit has a zero of its own, so that
        only units of the same one are compared.
    table
        `time` and `event` of all of them.

    Returns the bundle as it is for fewer than MIN_CALIBRATION_UNITS units or MIN_CALIBRATION_EVENTS events.
    """
    parts = [table.loc[risk.index, ["time", "event"]].assign(risk=risk).to_numpy(float) for risk in risks]
    n_units, n_events = sum(map(len, parts)), sum(part[:, 1].sum() for part in parts)
    if n_units < MIN_CALIBRATION_UNITS or n_events < MIN_CALIBRATION_EVENTS:
        return bundle

    def loss(temperature: float) -> float:
        total = 0.0
        for part in parts:
            time, event, risk = torch.from_numpy(part).unbind(1)
            total += float(event.sum() * cox_loss(risk / temperature, time, event))
        return total / n_events

    return _with_best(bundle, loss, n_units, 0.0)


def _with_best(bundle: Bundle, loss: Callable[[float], float], n_units: int, low: float) -> Bundle:
    """With the temperature of least loss, whose logarithm is `low` or above."""
    best = minimize_scalar(lambda x: loss(np.exp(x)), bounds=(low, TEMPERATURE_BOUNDS[1]), method="bounded")
    if best.x > TEMPERATURE_BOUNDS[1] - 1e-2 or 0 != low > best.x - 1e-2:  # that nothing is to shrink is no doubt
        log.warning(
            "The temperature ended at its bound, %.1f: risks tell nothing of the patients held out.", np.exp(best.x)
        )
    return replace(
        bundle, calibration=bundle.calibration | {"temperature": float(np.exp(best.x)), "n_calibration": n_units}
    )
