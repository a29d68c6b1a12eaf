import numpy as np
import pandas as pd
import pytest

from metaniche.data.clinical import ClinicalFeatures
from metaniche.errors import InputError

TABLE = pd.DataFrame(
    {"age": [50.0, 60.0, np.nan, 70.0], "stage": ["I", "II", "II", None], "grade": [1, 1, 1, 1]},
    index=list("abcd"),
)


def test_numbers_are_standardised_and_categories_spread_out():
    fitted = ClinicalFeatures.fit(TABLE, ["age", "stage"])
    x = fitted.transform(TABLE)
    assert fitted.names == ["age", "stage=I", "stage=II"]
    assert x[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert x[:, 1:].tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]


def test_missing_values_take_the_training_median():
    fitted = ClinicalFeatures.fit(TABLE, ["age"])
    assert fitted.transform(TABLE)[2] == fitted.transform(pd.DataFrame({"age": [60.0]}))[0]


def test_unseen_levels_and_absent_columns_are_missing():
    fitted = ClinicalFeatures.fit(TABLE, ["age", "stage"])
    assert (
        fitted.transform(pd.DataFrame({"stage": ["IV"]})).tolist() == fitted.transform(pd.DataFrame(index=[0])).tolist()
    )


def test_a_constant_column_is_harmless():
    assert np.isfinite(ClinicalFeatures.fit(TABLE, ["grade"]).transform(TABLE)).all()


def test_state_round_trip():
    fitted = ClinicalFeatures.fit(TABLE, ["age", "stage"])
    assert np.array_equal(ClinicalFeatures(**fitted.state()).transform(TABLE), fitted.transform(TABLE))


def test_an_unknown_column_is_named():
    with pytest.raises(InputError, match="ploidy"):
        ClinicalFeatures.fit(TABLE, ["ploidy"])
