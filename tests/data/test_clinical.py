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


LEVELS = ["1", "2", "3", "X"]


@pytest.mark.parametrize("as_read", [int, float, str, lambda x: f"{x}.0", lambda x: f" {x} "])
def test_a_level_is_the_same_however_a_column_was_read(as_read):
    """Grades among which one is a letter are text; of other patients, with a gap, they are read as 2.0."""
    fitted = ClinicalFeatures.fit(pd.DataFrame({"grade": LEVELS}), ["grade"])
    new = pd.DataFrame({"grade": [as_read(2), np.nan, as_read(3)]}, index=list("qrs"))
    assert fitted.transform(new).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    fitted.check(new)
    assert fitted.doubts(new) == {"q": [], "r": ["clinical variables not given: 'grade'"], "s": []}
    of_before = ClinicalFeatures({}, {}, {}, {"grade": ["2.0", "3.0"]})
    assert of_before.transform(new)[:, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("column", "trained", "given", "words"),
    [
        ("her2", ["pos", "neg", "neg"], "Positive", r"in 'her2' 'neg', 'pos' or blank, found 'Positive' of 1 patient"),
        ("grade", LEVELS[1:], 4, r"in 'grade' '2', '3', 'X' or blank, found '4' of 1 patient\(s\) \('q'\)"),
        ("size", [12, 20, 31], "45 mm", r"numbers or blanks in 'size', found '45 mm'.*leave blank what does not fit"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_those_that_do_or_named(column, trained, given, words):
    fitted = ClinicalFeatures.fit(pd.DataFrame({column: trained}), [column])
    new = pd.DataFrame({column: [given, None, " ", trained[0]]}, index=list("qrst"))
    with pytest.raises(InputError, match=words):
        fitted.check(new)
    fitted.check(new.drop("q"))
    blank = [f"clinical variables not given: '{column}'"]
    other = [f"clinical values unlike those of training, not used: '{column}={given}'"]
    assert fitted.doubts(new) == {"q": other, "r": blank, "s": blank, "t": []}
    x = fitted.transform(new)
    assert (x[0] == x[1]).all()
    assert (x[0] != x[3]).any()


@pytest.mark.parametrize("dtype", ["Int64", object])
def test_truth_in_words_and_gaps_in_whole_numbers_are_read_and_the_infinite_is_strange(dtype):
    fitted = ClinicalFeatures.fit(pd.DataFrame({"n": [True, False, True]}), ["n"])
    other = pd.DataFrame({"n": pd.array([1, None], dtype=dtype)}, index=["a", "b"])
    fitted.check(other)
    words = pd.DataFrame({"n": ["True", "false ", "inf"]}, index=["a", "b", "c"])
    assert fitted.transform(words)[0, 0] == fitted.transform(other)[0, 0]
    assert fitted.transform(words)[1, 0] < fitted.transform(words)[0, 0]
    with pytest.raises(InputError, match="found 'inf' of 1 patient"):
        fitted.check(words)
    assert np.isfinite(fitted.transform(words)).all()
