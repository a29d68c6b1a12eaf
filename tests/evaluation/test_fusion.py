import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from metaniche.errors import ConfigError
from metaniche.evaluation.baselines import ClinicalModel, SummaryModel
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.fusion import Fused, fuse, on_grid, with_scale
from metaniche.evaluation.learners import PenalisedCox, RidgeLogistic
from metaniche.evaluation.summaries import Composition


def probabilities(seed, names="abc"):
    return Prediction(pd.Series(np.random.default_rng(seed).uniform(0.05, 0.95, len(names)), index=list(names)))


def test_binary_is_the_mean_of_logits_by_unit_and_symmetric(tasks):
    one, two = probabilities(0), probabilities(1)
    fused = fuse(tasks["binary"], one, Prediction(two.risk.iloc[::-1])).risk
    logits = [np.log(p.risk / (1 - p.risk)) for p in (one, two)]
    pd.testing.assert_series_equal(fused, expit((logits[0] + logits[1]) / 2))
    pd.testing.assert_series_equal(fuse(tasks["binary"], two, one).risk, fused)
    pd.testing.assert_series_equal(fuse(tasks["binary"], one, one).risk, one.risk)


def test_certain_probabilities_stay_finite(tasks):
    certain = Prediction(pd.Series({"a": 1.0, "b": 0.0}))
    assert np.isfinite(np.log(fuse(tasks["binary"], certain, certain).risk)).all()


def test_sites_are_fused_one_by_one(tasks):
    sites = pd.DataFrame({"liver": [0.2, 0.4], "lung": [0.6, 0.8]}, index=["a", "b"])
    prediction = Prediction(sites.mean(axis=1), sites=sites)
    pd.testing.assert_frame_equal(fuse(tasks["sites"], prediction, prediction).sites, sites)


def test_survival_is_the_sum_of_standardised_risks_whatever_their_units(tasks):
    one, two = (pd.Series(np.random.default_rng(s).normal(size=4), index=list("abcd")) for s in (0, 1))
    fused = fuse(tasks["cox"], Prediction(one, train_scale=(1.0, 2.0)), Prediction(two, train_scale=(0.0, 0.5)))
    pd.testing.assert_series_equal(fused.risk, (one - 1) / 2 + two / 0.5)
    rescaled = Prediction(100 * two + 3, train_scale=(3.0, 50.0))
    pd.testing.assert_series_equal(
        fuse(tasks["cox"], Prediction(one, train_scale=(1.0, 2.0)), rescaled).risk, fused.risk
    )
    flat = Prediction(two * 0, train_scale=(0.0, 0.0))
    assert np.isfinite(fuse(tasks["cox"], flat, flat).risk).all()
    with pytest.raises(ConfigError, match="train_scale"):
        fuse(tasks["cox"], Prediction(one), Prediction(two))


def test_curves_are_averaged_where_cox_models_add(tasks):
    times = np.array([1.0, 2.0, 3.0])
    hazard = np.array([0.1, 0.3, 0.7])

    def cox(log_risk):
        curve = np.exp(-np.exp(np.array(log_risk))[:, None] * hazard)
        return Prediction(
            pd.Series(log_risk, ["a", "b"]), pd.DataFrame(curve, ["a", "b"], times), train_scale=(0.0, 1.0)
        )

    fused = fuse(tasks["cox"], cox([0.0, 1.0]), cox([1.0, 2.0]))
    pd.testing.assert_frame_equal(fused.survival, cox([0.5, 1.5]).survival)
    assert (
        fuse(tasks["cox"], cox([0.0, 1.0]), Prediction(pd.Series([0.0, 1], ["a", "b"]), train_scale=(0, 1))).survival
        is None
    )


def test_curves_are_read_as_linear_from_one_and_constant_after_the_end():
    curves = pd.DataFrame([[0.8, 0.4]], index=["a"], columns=[1.0, 2.0])
    np.testing.assert_allclose(on_grid(curves, np.array([0.0, 0.5, 1.0, 1.5, 9.0])), [[1.0, 0.9, 0.8, 0.6, 0.4]])
    from_zero = pd.DataFrame([[1.0, 0.5]], index=["a"], columns=[0.0, 1.0])
    np.testing.assert_allclose(on_grid(from_zero, np.array([0.5])), [[0.75]])
    none = pd.DataFrame(index=["a"], columns=np.zeros(0))
    np.testing.assert_allclose(on_grid(none, np.array([0.5])), [[1.0]])


@pytest.mark.parametrize("kind", ["binary", "cox"])
def test_alone_it_fits_both_models_and_fuses_them(cohort, tasks, kind):
    task = tasks[kind]
    learner = PenalisedCox((0.1,)) if kind == "cox" else RidgeLogistic()
    clinical, base = ClinicalModel(learner), SummaryModel("composition", Composition(), learner)
    targets, table = cohort.targets(task), cohort.patients[["age"]]
    model = Fused(base, clinical).fit(cohort.prepared, targets, table, 0)
    assert model.name == "clinical + composition"
    assert model.role == "baseline"
    units = list(targets.table.index)
    found = model.predict(cohort.prepared, table, units)
    parts = [m.fit(cohort.prepared, targets, table, 0).predict(cohort.prepared, table, units) for m in (clinical, base)]
    pd.testing.assert_series_equal(found.risk, fuse(task, *parts).risk)


def test_a_model_that_gives_no_scale_predicts_its_training_units(spy, cohort):
    model, clinical = spy(), cohort.patients[["age"]]
    units = list(cohort.patients.index)
    given = with_scale(model, Prediction(pd.Series({"p00": 0.5})), cohort.prepared, clinical, units)
    risk = model.predict(cohort.prepared, clinical, units).risk
    assert given.train_scale == (pytest.approx(risk.mean()), pytest.approx(risk.std(ddof=0)))
    kept = with_scale(model, Prediction(risk, train_scale=(5.0, 6.0)), [], None, [])
    assert kept.train_scale == (5.0, 6.0)
