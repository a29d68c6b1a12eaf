"""Potentials of clones: what the unit's risk would be if its malignant cells were all of one clone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.outcome import ensemble_risk
from metaniche.data.task import Task
from metaniche.io import keys

MIN_CELLS = 10  # fewer are not called a clone


def clone_potentials(
    task: Task, cell_logits: Tensor, attention: Tensor, clones: pd.Series, malignant: np.ndarray
) -> pd.DataFrame:
    """Of one unit, clone by clone.

    A clone's logit is the mean over its malignant cells, weighted by their attention within the clone, so that the clones'
    logits, weighted with the attention that each of them has, make up the malignant cells' part of the unit's logit.

    Parameters
    ----------
    cell_logits, attention
        (M, N, K) and (M, N) of the M members of an ensemble.
    clones
        (N,) clone of each cell, missing where none is known.
    malignant
        (N,) bool.

    Returns
    -------
    A row per clone of at least 10 malignant cells: `clone_id`, `n_cells`, `attention` (share of the unit's), `potential`,
    and the 90 % interval `low`, `high` of the ensemble's spread (NaN for one network). Highest potential first.
    """
    known = pd.Categorical(clones.where(pd.Series(malignant, index=clones.index)))
    rows = []
    for code, name in enumerate(known.categories):
        cells = torch.from_numpy(np.flatnonzero(known.codes == code))
        if len(cells) < MIN_CELLS:
            continue
        own = attention[:, cells]
        total = own.sum(1, keepdim=True)
        weight = torch.where(total > 0, own / total.clamp(min=1e-30), 1.0 / len(cells))
        logits = (weight[..., None] * cell_logits[:, cells]).sum(1)
        risk = dict(zip(("potential", "low", "high"), ensemble_risk(task, logits, of_cells=True)))
        rows.append({keys.CLONE: str(name), "n_cells": len(cells), "attention": float(total.mean()), **risk})
    columns = [keys.CLONE, "n_cells", "attention", "potential", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values("potential", ascending=False, ignore_index=True)
