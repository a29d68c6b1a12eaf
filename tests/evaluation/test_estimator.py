import numpy as np
import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.evaluation.baselines import ClinicalModel, SummaryModel
from metaniche.evaluation.estimator import Estimator, Prediction
from metaniche.evaluation.fusion import Fused
from metaniche.evaluation.learners import RidgeLogistic
from metaniche.evaluation.summaries import Composition


def test_check_puts_units_in_order():
    risk = pd.Series({"a": 1.0, "b": 2.0})
    survival = pd.DataFrame({1.0: [0.9, 0.8]}, index=["a", "b"])
    checked = Prediction(risk, survival, train_scale=(0.0, 1.0)).check(["b", "a"], where="here")
    assert list(checked.risk.index) == list(checked.survival.index) == ["b", "a"]
    assert checked.train_scale == (0.0, 1.0)


def test_a_missing_or_infinite_risk_is_refused_by_name():
    with pytest.raises(InputError, match=r"model X, fold 3: .*none for 1 .first: c"):
        Prediction(pd.Series({"a": 1.0})).check(["a", "c"], where="model X, fold 3")
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match=r"finite risks.*first: b"):
            Prediction(pd.Series({"a": 1.0, "b": bad})).check(["a", "b"], where="here")


def test_every_model_of_the_harness_is_an_estimator():
    clinical = ClinicalModel(RidgeLogistic())
    base = SummaryModel("composition", Composition(), RidgeLogistic())
    for model in (clinical, base, Fused(base, clinical)):
        assert isinstance(model, Estimator)
        assert " at 0x" not in repr(model)
