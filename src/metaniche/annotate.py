"""Scores and the AnnData they are of -> a copy of it with metaniche's keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from metaniche.data.sample import PreparedSample
from metaniche.io import keys
from metaniche.io.read import in_memory
from metaniche.io.record import own_record

OWN = f"{keys.PREFIX}_"

if TYPE_CHECKING:
    from anndata import AnnData

    from metaniche.predict import Scores


def annotated(adata: AnnData, samples: Sequence[PreparedSample], scores: Scores, about: dict) -> AnnData:
    """A copy of `adata` with the scores at the rows of `samples`; rows that were dropped on reading stay NaN.

    Parameters
    ----------
    samples
        Those of this AnnData: their `file_order` are rows of it. `scores` may hold more.
    about
        What stands beside the units in uns["metaniche"]; its `level` is the task's.

    Returns
    -------
    AnnData with obs["metaniche_potential"], obs["metaniche_attention"] and, where the network's logit is a sum of terms, one
    column for each, such as obs["metaniche_soil"], (N,) float32; obsm["X_metaniche"] (N, width)
    float32, and uns["metaniche"]. Raises InputError where uns["metaniche"] is not metaniche's.
    """
    record = own_record(adata, where="adata")
    out = in_memory(adata)
    stale = [k for k in out.obs if k.startswith(OWN) and k != keys.FILE_ROW]  # of another network, with other terms
    out.obs = out.obs.drop(columns=stale)
    record.pop(keys.CLONES, None)
    width = next(iter(scores.embedding.values())).shape[1]
    per_cell = {k: np.full(adata.n_obs, np.nan, dtype=np.float32) for k in scores.cells if k.startswith(OWN)}
    embedding = np.full((adata.n_obs, width), np.nan, dtype=np.float32)
    # Scores stand unit by unit, samples as in the file.
    by_sample = dict(iter(scores.cells.groupby(keys.SAMPLE, sort=False)))
    for sample in samples:
        for key, column in per_cell.items():
            column[sample.file_order] = by_sample[sample.sample_id][key].to_numpy(np.float32)
        embedding[sample.file_order] = scores.embedding[sample.sample_id]
    for key, column in per_cell.items():
        out.obs[key] = column
    out.obsm[keys.EMBEDDING] = embedding
    ids = {s.sample_id if about["level"] == "sample" else s.patient_id for s in samples}
    units = scores.units[scores.units.index.isin(ids)].reset_index()
    out.uns[keys.UNS] = {**record, **about, keys.UNITS: units}
    clones = scores.clones[scores.clones["unit_id"].isin(ids)]
    if len(clones):
        out.uns[keys.UNS][keys.CLONES] = clones.set_axis(clones.index.astype(str), axis=0)
    return out
