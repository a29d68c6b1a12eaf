import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.data.splits import check_split, hold_out, inner_folds, patient_folds
from metaniche.data.task import Targets, Task
from metaniche.errors import SplitError

BINARY = Task("t", "t", label="y", positive=(1,))
SURVIVAL = Task("s", "s", kind="cox", time="time", event="event")


def patients_with(labels, groups=None):
    names = [f"p{i:03d}" for i in range(len(labels))]
    table = pd.DataFrame({"patient_id": names, "y": np.asarray(labels, float)}, index=pd.Index(names, name="unit_id"))
    return Targets(BINARY, table, groups=groups)


def cells_of(shares, n=10):
    """Cell-level targets: patient i has the share of positives `shares[i]` among its n cells."""
    task = Task("c", "c", level="cell", label="a", positive=("x",))
    rows = [(f"p{i}", float(j < s * n)) for i, s in enumerate(shares) for j in range(n)]
    index = pd.Index([f"s:{k}" for k in range(len(rows))], name="unit_id")
    return Targets(task, pd.DataFrame(rows, columns=["patient_id", "y"], index=index))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(6, 20), st.integers(6, 20), st.integers(0, 10**6))
def test_every_patient_is_tested_once_per_repeat_and_classes_are_spread(n_folds, n_pos, n_neg, seed):
    targets = patients_with([1] * n_pos + [0] * n_neg)
    folds = patient_folds(targets, n_folds=n_folds, n_repeats=2, seed=seed)
    assert [(f.repeat, f.fold) for f in folds] == [(r, f) for r in range(2) for f in range(n_folds)]
    for repeat in range(2):
        tested = [p for f in folds if f.repeat == repeat for p in f.test]
        assert sorted(tested) == list(targets.patients)
    for fold in folds:
        assert set(fold.train) | set(fold.test) == set(targets.patients)
        assert not set(fold.train) & set(fold.test)
        positives = targets.of(fold.test).table["y"].sum()
        assert abs(positives - n_pos / n_folds) < 1


def test_seeds_repeat_and_repeats_differ():
    targets = patients_with([0, 1] * 15)
    one, two = (patient_folds(targets, seed=3) for _ in range(2))
    assert one == two
    assert patient_folds(targets, seed=4) != one
    assert {f.test for f in one if f.repeat == 0} != {f.test for f in one if f.repeat == 1}


def test_survival_is_stratified_by_event():
    names = [f"p{i}" for i in range(30)]
    table = pd.DataFrame(
        {"patient_id": names, "time": np.arange(1.0, 31), "event": [1.0] * 10 + [0.0] * 20}, index=names
    )
    targets = Targets(SURVIVAL, table)
    assert [int(targets.of(f.test).table["event"].sum()) for f in patient_folds(targets, n_repeats=1)] == [2] * 5


def test_cells_follow_their_patient_and_majority_decides_the_stratum():
    targets = cells_of([0.9] * 5 + [0.1] * 5)
    for fold in patient_folds(targets, n_folds=5, n_repeats=1):
        assert sorted(p in {f"p{i}" for i in range(5)} for p in fold.test) == [False, True]
    no_majority = cells_of([0.1] * 6)
    assert len(patient_folds(no_majority, n_folds=3, n_repeats=1)) == 3


def test_leave_one_out_tests_each_patient_alone():
    targets = patients_with([0, 1, 0, 1, 1])
    folds = patient_folds(targets, "leave_one_out", n_repeats=1)
    assert [f.test for f in folds] == [(p,) for p in targets.patients]


def test_leave_group_out_leaves_a_site_out():
    site = pd.Series(["x", "x", "x", "y", "y", "z", "z", "z"], index=[f"p{i:03d}" for i in range(8)])
    folds = patient_folds(patients_with([0, 1] * 4, site), "leave_group_out", n_repeats=1)
    assert [set(site[list(f.test)]) for f in folds] == [{"x"}, {"y"}, {"z"}]
    with pytest.raises(SplitError, match=r"exactly one group.*p000"):
        patient_folds(patients_with([0, 1] * 4, site.iloc[1:]), "leave_group_out")
    with pytest.raises(SplitError, match="Expected a group"):
        patient_folds(patients_with([0, 1] * 4), "leave_group_out")


@pytest.mark.parametrize("scheme", ["kfold", "leave_one_out"])
def test_patients_linked_through_shared_slides_stay_together(scheme):
    """p0 and p1 share slide A, p1 and p2 share slide B: all three are one group."""
    slides = pd.Series(["A", "A", "B", "B", np.nan], index=["p000", "p001", "p001", "p002", "p003"])
    targets = patients_with([0, 1] * 6, slides)
    for fold in patient_folds(targets, scheme, n_folds=3, n_repeats=2):
        assert len({p in fold.test for p in ("p000", "p001", "p002")}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_matched_pairs_are_not_parted_by_inner_folds_or_the_held_out_part(seed):
    pairs = pd.Series([f"pair {i // 2}" for i in range(16)], index=[f"p{i:03d}" for i in range(16)])
    targets = patients_with([0, 1] * 8, pairs)
    splits = [(f.train, f.test) for f in inner_folds(targets, seed=seed)]
    train, held_out = hold_out(targets, 0.25, seed)
    for left, right in [*splits, (train.patients, held_out.patients)]:
        assert not set(pairs[list(left)]) & set(pairs[list(right)])
    assert all(t.groups is pairs for t in (train, held_out))


def test_too_few_patients_to_hold_some_out_is_said_in_those_words():
    with pytest.raises(SplitError, match=r"hold out 0\.2 of them, found 3.*holdout=0"):
        hold_out(patients_with([0, 1, 1]), 0.2)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scheme": "random"}, "scheme"),
        ({"n_repeats": 0}, "n_repeats"),
        ({"n_folds": 1}, "n_folds"),
        ({"n_folds": 9}, "Expected 2 <= n_folds <= 8"),
    ],
)
def test_impossible_requests_are_refused(change, word):
    with pytest.raises(SplitError, match=word):
        patient_folds(patients_with([0, 1] * 4), **change)


def test_one_patient_cannot_be_split():
    with pytest.raises(SplitError, match="at least 2 patients"):
        patient_folds(patients_with([1]), "leave_one_out")
    slides = pd.Series("only slide", index=["p000", "p001"])
    with pytest.raises(SplitError, match="at least 2 patients"):
        patient_folds(patients_with([0, 1], slides))


def test_check_split_names_what_stands_on_two_sides():
    check_split(["a"], ["b"])
    with pytest.raises(SplitError, match=r"every patient.*b"):
        check_split(["a", "b"], ["b", "c"])
    slides = pd.Series(["S1", "S2", "S1"], index=["a", "b", "c"])
    with pytest.raises(SplitError, match=r"every slide on one side.*S1"):
        check_split(["a", "b"], ["c"], groups={"slide": slides})
    pairs = pd.Series([np.nan, np.nan, "twins", "twins"], index=["a", "b", "c", "d"])
    check_split(["a", "c", "d"], ["b"], groups={"matched pair": pairs})
    with pytest.raises(SplitError, match=r"every matched pair.*twins"):
        check_split(["a", "c"], ["b", "d"], groups={"matched pair": pairs})
    with pytest.raises(SplitError, match="both sides of the split, found 0"):
        check_split([], ["a"])
    with pytest.raises(SplitError, match="and 2 more"):
        check_split(list("abcdefg"), list("abcdefg"))


def test_inner_folds_shrink_with_the_smaller_class_and_stay_inside():
    targets = patients_with([1] * 3 + [0] * 20)
    folds = inner_folds(targets, 5)
    assert len(folds) == 3
    assert {p for f in folds for p in f.train + f.test} == set(targets.patients)
    assert inner_folds(patients_with([1] + [0] * 20)) == []
    assert len(inner_folds(cells_of([0.9, 0.1, 0.1, 0.1]), 5)) == 4
