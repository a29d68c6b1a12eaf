import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import Fold
from metaniche.errors import ConfigError
from metaniche.evaluation import fold_store
from metaniche.evaluation.baselines import SummaryModel
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.fold_store import (
    DECIDING,
    FoldResult,
    code_digest,
    fold_key,
    fold_path,
    load_fold,
    save_fold,
)
from metaniche.evaluation.learners import ForestClassifier, RidgeLogistic
from metaniche.evaluation.summaries import Composition

FOLD = Fold(1, 2, ("p00", "p01"), ("p02",))
INDEX = pd.Index(["a", "b"], name="unit_id")


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(pd.Series([0.1, 1 / 3], INDEX, name="risk")),
        Prediction(
            pd.Series([0.1, 0.2], INDEX, name="risk"),
            survival=pd.DataFrame([[0.9, 0.8], [0.7, 0.6]], INDEX, [0.1 + 0.2, 5.0]),
            train_scale=(1 / 7, 2.0),
        ),
        Prediction(pd.Series([0.1, 0.2], INDEX, name="risk"), sites=pd.DataFrame({"liver": [0.5, np.nan]}, INDEX)),
    ],
    ids=["binary", "survival", "sites"],
)
def test_what_is_read_is_what_was_written(tmp_path, prediction):
    path = fold_path(tmp_path / "folds", "GATv2, 3 hops!", FOLD, "abc")
    assert path.name == "gatv2_3_hops-r1-f2-abc.parquet"
    save_fold(path, FoldResult(prediction, 7))
    found = load_fold(path)
    pd.testing.assert_series_equal(found.prediction.risk, prediction.risk)
    for one, two in ((found.prediction.survival, prediction.survival), (found.prediction.sites, prediction.sites)):
        assert (one is None) == (two is None)
        if one is not None:
            pd.testing.assert_frame_equal(one, two)
    assert found.prediction.train_scale == prediction.train_scale
    assert found.n_variables == 7


def test_nothing_there_is_none(tmp_path):
    assert load_fold(tmp_path / "absent.parquet") is None


def test_the_key_changes_with_everything_that_decides_the_result(cohort, tasks):
    targets, clinical = cohort.targets(tasks["binary"]), cohort.patients[["age"]]
    model = SummaryModel("m", Composition(), RidgeLogistic())
    base = (model, targets, clinical, FOLD, 0, ["cohort", "folder"])
    flipped = replace(targets, table=targets.table.assign(y=1 - targets.table["y"]))
    variants = [
        (0, replace(model, learner=ForestClassifier())),
        (0, replace(model, block=Composition(clr=True))),
        (1, flipped),
        (1, replace(targets, task=replace(targets.task, title="other"))),
        (1, replace(targets, groups=cohort.patients["stage"])),
        (1, replace(targets, groups=cohort.patients["stage"].shift())),
        (2, None),
        (2, clinical + 1),
        (3, replace(FOLD, test=("p03",))),
        (4, 1),
        (5, ["cohort", "other folder"]),
    ]
    keys = [fold_key(*base)] + [fold_key(*base[:i], value, *base[i + 1 :]) for i, value in variants]
    assert len(set(keys)) == len(variants) + 1
    fitted = model.fit(cohort.prepared, targets, clinical, 0)
    assert fold_key(fitted, *base[1:]) == keys[0]


def test_a_model_whose_repr_is_an_address_is_refused(cohort, tasks):
    class Nameless:
        name = "nameless"

    with pytest.raises(ConfigError, match="address"):
        fold_key(Nameless(), cohort.targets(tasks["binary"]), None, FOLD, 0, [])


def test_folds_of_other_code_or_another_version_are_not_found(cohort, tasks, monkeypatch):
    args = (SummaryModel("m", Composition(), RidgeLogistic()), cohort.targets(tasks["binary"]), None, FOLD, 0, [])
    key = fold_key(*args)
    with monkeypatch.context() as patch:
        patch.setattr(fold_store, "__version__", "another")
        assert fold_key(*args) != key
    monkeypatch.setattr(fold_store, "code_digest", lambda package: "another")
    assert fold_key(*args) != key


@pytest.mark.parametrize("part", DECIDING)
def test_the_code_digest_sees_every_deciding_part(tmp_path, part):
    for name in (*DECIDING, "report"):
        path = tmp_path / (name if name.endswith(".py") else f"{name}/deep/x.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a = 1")
    fresh = code_digest.__wrapped__
    before = fresh(tmp_path)
    (tmp_path / "report/deep/x.py").write_text("a = 2")
    assert fresh(tmp_path) == before
    (tmp_path / (part if part.endswith(".py") else f"{part}/deep/x.py")).write_text("a = 2")
    assert fresh(tmp_path) != before


def test_the_deciding_parts_are_there_and_need_no_others():
    package = Path(fold_store.__file__).parents[1]
    assert all((package / part).exists() for part in DECIDING)
    files = [
        f for part in DECIDING for f in ([package / part] if part.endswith(".py") else (package / part).rglob("*.py"))
    ]
    imported = {room for f in files for room in re.findall(r"^\s*from metaniche\.(\w+)", f.read_text(), re.MULTILINE)}
    of_cells = {"annotate", "clones"}  # and nothing of the units that folds predict
    assert imported - {part.removesuffix(".py") for part in DECIDING} == {"errors", *of_cells}
