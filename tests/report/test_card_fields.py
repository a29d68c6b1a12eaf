import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.report.card_fields import PLAN, as_words, fact, outcome_counts


@pytest.fixture
def fields():
    return {name: fill for _, name, _, fill in PLAN}


def test_a_fact_is_never_blank(make_run):
    assert fact(make_run(), "outcome", "task", "kind") == "binary"
    for path in (("absent",), ("task", "note"), ("version", "deeper")):
        with pytest.raises(InputError, match="outcome"):
            fact(make_run(), "outcome", *path)


def test_as_words():
    assert (
        as_words({"a": 1, "b": True, "c": None, "d": {"e": 1}, "f": False, "g": ["u", "v"]})
        == "a 1, b yes, f no, g u and v"
    )
    assert as_words([1, "x"]) == "1, x"


def test_outcomes_are_counted_by_patient(make_run):
    run = make_run(survival=True)
    doubled = pd.concat([run.predictions, run.predictions.assign(unit_id="other")])
    assert outcome_counts(make_run(survival=True, predictions=doubled)) == outcome_counts(run)
    assert outcome_counts(run)[0] == 80
    assert outcome_counts(make_run(predictions=None)) is None


def test_kinds_of_outcome_are_told_in_their_own_words(make_run, fields):
    assert "column metastasis, positive: 1" in fields["outcome"](make_run())
    assert "columns mfs_months and mfs_event" in fields["outcome"](make_run(survival=True))
    sites = make_run(info={"task": make_run().task | {"kind": "sites", "sites": ["liver", "lung"]}})
    assert "liver, lung" in fields["outcome"](sites)


def test_features_may_stand_with_the_training(make_run, fields):
    run = make_run(info={"features": None, "training": {"features": {"use_types": True}}})
    assert "use_types yes" in fields["predictors"](run)
    with pytest.raises(InputError, match="predictors"):
        fields["predictors"](make_run(info={"features": None, "training": {"epochs": 1}}))


def test_validation_tells_a_split_from_folds(make_run, fields):
    assert "kfold" in fields["validation"](make_run())
    split = make_run(info={"folds": None}, splits=[{"train": ["a", "b"], "test": ["c"]}])
    assert "One split by patient, 2 to train and 1 held out" in fields["validation"](split)


def test_what_was_not_done_is_said(make_run, fields):
    assert "No control" in fields["control"](make_run(info={"permutation_control": None}))
    assert "Not assessed" in fields["subgroups"](make_run(patients=None))
    assert "Not assessed" in fields["calibration"](make_run(table=lambda t: t[["model", "kind", "auroc"]]))
    assert "No unit was left out" in fields["missing data"](make_run(info={"left_out": {}}))


def test_comparison_does_not_overclaim(make_run, fields):
    assert "NOT better" in fields["comparison"](make_run(lead=-0.08))
