import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from metaniche.data.synthetic import SyntheticConfig, generate
from metaniche.errors import ConfigError

SMALL = SyntheticConfig(n_patients=60, max_samples=1, n_cells=400)


@pytest.fixture(scope="module")
def tumours():
    made = generate(SMALL)
    return made, {s: made.read(s) for s in made.samples.index}


def test_the_same_seed_gives_the_same_tumours_whatever_is_read_first(tumours):
    made, tissue = tumours
    name = made.samples.index[7]
    again = generate(SMALL).read(name)
    assert (again.X != tissue[name].X).nnz == 0
    assert np.array_equal(again.obsm["spatial"], tissue[name].obsm["spatial"])
    pd.testing.assert_frame_equal(again.obs, tissue[name].obs)
    assert not generate(SyntheticConfig(**{**vars(SMALL), "seed": 1})).patients.equals(made.patients)


def test_the_planted_signal_tells_the_outcome(tumours):
    made, tissue = tumours
    signal = [tissue[s].obs["true_signal"].sum() / (tissue[s].obs["true_type"] == "malignant").sum() for s in tissue]
    assert roc_auc_score(made.patients["metastasis"], signal) > 0.9


def out_of_fold_auroc(x, y):
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    return roc_auc_score(y, cross_val_predict(LogisticRegression(C=0.1), x, y, cv=5, method="predict_proba")[:, 1])


@pytest.mark.parametrize("view", ["composition", "pseudobulk"])
def test_simple_summaries_do_not_tell_the_outcome(tumours, view):
    """Chance is 0.5 with a standard error of about 0.075 at 60 patients."""
    made, tissue = tumours
    if view == "composition":
        table = np.log([a.obs["cell_type"].value_counts(normalize=True, sort=False) + 1e-3 for a in tissue.values()])
    else:
        table = np.log1p([np.asarray(a.X.sum(0)).ravel() / a.X.sum() * 1e4 for a in tissue.values()])
    assert 0.25 < out_of_fold_auroc(table, made.patients["metastasis"].to_numpy()) < 0.75


def test_outcomes_are_those_of_a_cohort(tumours):
    made, _ = tumours
    patients = made.patients
    assert patients["metastasis"].mean() == pytest.approx(0.5, abs=0.15)
    assert (patients["time"] > 0).all()
    assert set(patients["event"]) == {0, 1}
    assert patients.loc[patients["metastasis"] == 0, ["liver", "lung", "bone"]].fillna(0).eq(0).all(axis=None)
    assert patients["liver"].isna().any()


@pytest.mark.parametrize("density", ["grid", "uniform", "mixed"])
@pytest.mark.parametrize("noise", ["none", "low", "high"])
def test_every_axis_gives_a_sample_that_passes_all_checks(density, noise):
    cohort = generate(SyntheticConfig(n_patients=2, n_cells=300, density=density, noise=noise)).cohort()
    adata = cohort.read_checked(cohort.samples.index[0])
    assert adata.uns["metaniche"]["um_per_unit"] == 1.0


def test_the_truth_is_documented(tumours):
    truth = tumours[0].truth
    assert {"ligand", "receptor", "sender", "receiver", "length_scale_um", "signal"} <= set(truth)
    assert len(truth["signal"]) == 60


@pytest.mark.parametrize("wrong", [{"density": "fractal"}, {"noise": "loud"}, {"n_patients": 1}, {"n_cells": 5}])
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match="synthetic"):
        SyntheticConfig(**wrong)
