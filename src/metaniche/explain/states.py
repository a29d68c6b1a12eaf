"""What the states of malignant cells have to do with their potential: an association within patients, not a cause."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata, t

from metaniche.data.sample import PreparedSample
from metaniche.io import keys
from metaniche.predict import Predictor, Scores

LEAST_CELLS = 20  # malignant ones of a patient
LEAST_PATIENTS = 3
HIGHEST = 1 - 1e-6  # a correlation of 1 has no z


def state_associations(predictor: Predictor, samples: Sequence[PreparedSample], scores: Scores) -> pd.DataFrame:
    """Spearman's correlation of the potential with the score of each cell state, patient by patient.

    Every patient counts once: the correlation is taken over the malignant cells of each (pooled over their samples), and its
    mean over patients, by Fisher's z, has the 95 % interval of Student's t. `scores` are those of `samples` by this predictor.

    Returns
    -------
    A row per state, the strongest first: `correlation`, `low`, `high` and `n_patients`, those with at least LEAST_CELLS
    malignant cells of different potentials. Empty where the features have no states, or for fewer than LEAST_PATIENTS.
    """
    names = list(predictor.features.states)
    if not names:
        return pd.DataFrame(columns=["correlation", "low", "high", "n_patients"])
    potential = scores.cells.groupby(keys.SAMPLE, sort=False)[keys.POTENTIAL]
    parts = []
    for sample in samples:
        table = pd.DataFrame(predictor.features.state_scores(sample), columns=names)
        table[keys.POTENTIAL] = potential.get_group(sample.sample_id).to_numpy()
        parts.append(table[sample.is_malignant].assign(**{keys.PATIENT: sample.patient_id}))
    found = [
        _correlations(cells[names], cells[keys.POTENTIAL])
        for _, cells in pd.concat(parts).groupby(keys.PATIENT)
        if len(cells) >= LEAST_CELLS and cells[keys.POTENTIAL].nunique() > 1
    ]
    by_patient = np.arctanh(pd.DataFrame(found, columns=names, dtype=float).clip(-HIGHEST, HIGHEST))
    n, mean = by_patient.notna().sum(), by_patient.mean()
    half = by_patient.sem() * t.ppf(0.975, np.maximum(n - 1, 1))
    out = (
        pd.DataFrame({"correlation": mean, "low": mean - half, "high": mean + half}).apply(np.tanh).assign(n_patients=n)
    )
    return out[n >= LEAST_PATIENTS].sort_values("correlation", key=np.abs, ascending=False)


def _correlations(states: pd.DataFrame, potential: pd.Series) -> list[float]:
    """Of each column with the potential; NaN for a state that is the same in all cells."""
    ranks = rankdata(np.column_stack([potential, states]), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.corrcoef(ranks, rowvar=False)[0, 1:].tolist()
