from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData
from tissue import make_sample

from metaniche.annotate import annotated
from metaniche.io import keys
from metaniche.predict import Scores

ABOUT = {"level": "patient", "model": "m"}


def scores_of(samples):
    """Scores that tell cells apart: the potential of cell i of sample s is s + i / 1000."""
    cells = [
        pd.DataFrame({keys.SAMPLE: s.sample_id, keys.POTENTIAL: k + np.arange(s.n_cells) / 1000, keys.ATTENTION: 0.5})
        for k, s in enumerate(samples)
    ]
    units = pd.DataFrame({"risk": 0.3}, index=pd.Index([s.patient_id for s in samples], name="unit_id"))
    embedding = {s.sample_id: np.full((s.n_cells, 2), k, np.float32) for k, s in enumerate(samples)}
    clones = pd.DataFrame({"unit_id": ["p0"], "clone_id": ["a"], "potential": [0.5]})
    return Scores(units, pd.concat(cells, ignore_index=True), clones, embedding)


def test_scores_stand_at_the_rows_of_the_file_and_dropped_rows_stay_empty():
    samples = [make_sample("a", "p", n_cells=30), make_sample("b", "q", n_cells=20, seed=1)]
    samples[1].file_order[:] += 30
    adata = AnnData(np.zeros((52, 1), np.float32))  # two rows were dropped on reading
    # The other sample stands first in the scores.
    out = annotated(adata, samples, scores_of(samples[::-1]), {"level": "patient", "model": "m"})
    potential = out.obs[keys.POTENTIAL].to_numpy()
    assert np.allclose(potential[samples[0].file_order], 1 + np.arange(30) / 1000)
    assert np.allclose(potential[samples[1].file_order], np.arange(20) / 1000)
    assert np.isnan(potential[50:]).all()
    assert np.isnan(out.obsm[keys.EMBEDDING][50:]).all()
    assert keys.POTENTIAL not in adata.obs


def test_only_units_of_these_samples_are_named():
    samples = [make_sample("a", "p", n_cells=30), make_sample("b", "q", n_cells=20)]
    out = annotated(AnnData(np.zeros((30, 1))), samples[:1], scores_of(samples), {"level": "patient", "model": "m"})
    assert out.uns[keys.UNS]["model"] == "m"
    assert list(out.uns[keys.UNS]["units"]["unit_id"]) == ["p"]


def test_nothing_of_another_network_stays():
    samples = [make_sample("a", "p", n_cells=30)]
    scores = scores_of(samples)
    first = annotated(
        AnnData(np.zeros((30, 1))), samples, replace(scores, clones=scores.clones.assign(unit_id="p")), ABOUT
    )
    first.obs["metaniche_soil"], first.obs["metaniche_row"], first.obs["mine"] = 1.0, 2, 3
    assert "clones" in first.uns[keys.UNS]
    again = annotated(first, samples, scores, ABOUT)
    assert list(again.obs) == ["metaniche_row", "mine", keys.POTENTIAL, keys.ATTENTION]
    assert "clones" not in again.uns[keys.UNS]
    assert "metaniche_soil" in first.obs
