from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.task import Task, event_kind, make_targets
from metaniche.errors import ConfigError, InputError


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": "organ"},
        {"level": "cell", "kind": "cox", "time": "t", "event": "e"},
        {"kind": "ordinal"},
        {"kind": "cox"},
        {"kind": "sites"},
        {"kind": "binary", "label": None},
    ],
)
def test_an_incomplete_task_is_refused(wrong):
    with pytest.raises(ConfigError, match="Task 't'"):
        Task(**({"name": "t", "title": "t", "label": "y", "positive": (1,)} | wrong))


@pytest.mark.parametrize(
    "values", [[1, 0, None, 1], [1.0, 0.0, np.nan, 1.0], ["1", "0", None, "1"], [True, False, None, True]]
)
def test_one_spelling_of_a_label_is_as_good_as_another(values):
    patients = pd.DataFrame({"y": values}, index=list("abcd"))
    samples = pd.DataFrame({"patient_id": list("abcd")}, index=list("wxyz"))
    targets = make_targets(Task("t", "t", label="y", positive=(1,), negative=(0,)), patients, samples)
    assert targets.table["y"].to_dict() == {"a": 1, "b": 0, "d": 1}
    assert list(targets.left_out) == ["c"]


def test_values_that_are_neither_positive_nor_negative_are_missing(small_cohort):
    _, patients, table = small_cohort
    targets = make_targets(Task("t", "t", label="sex", positive=("f",), negative=("x",)), patients, table)
    assert targets.table["y"].tolist() == [1.0] * 6
    assert len(targets.left_out) == 6


def test_survival_needs_a_time_above_zero(small_cohort):
    _, patients, table = small_cohort
    patients = patients.assign(time=[0.0, np.nan, *patients["time"][2:]])
    targets = make_targets(Task("c", "c", kind="cox", time="time", event="event"), patients, table)
    assert list(targets.left_out) == ["p0", "p1"]


def test_a_competing_event_counts_where_the_event_itself_did_not_come(small_cohort):
    _, patients, table = small_cohort
    n = len(patients)
    patients = patients.assign(event=[1, 1, 0, 0, 0] + [0] * (n - 5), died=[1, 0, 1, 0, np.nan] + [0] * (n - 5))
    task = Task("r", "r", kind="discrete_time", time="time", event="event", competing="died")
    targets = make_targets(task, patients, table)
    assert list(targets.left_out) == ["p4"]  # free of the event, or dead: nobody knows
    assert event_kind(targets.table).tolist() == [1, 1, 2, 0] + [0] * (n - 5)
    assert event_kind(targets.table.drop(columns="competing")).tolist() == [1, 1, 0, 0] + [0] * (n - 5)
    with pytest.raises(ConfigError, match=r"expected kind .discrete_time. for task\.competing"):
        replace(task, kind="cox")
    with pytest.raises(ConfigError, match=r"task\.n_bins of at least 2"):
        replace(task, n_bins=1)


def test_a_patient_with_one_known_site_stays(small_cohort):
    _, patients, table = small_cohort
    targets = make_targets(Task("s", "s", kind="sites", sites=("liver", "lung")), patients, table)
    assert len(targets.table) == 12
    assert targets.table["liver"].isna().sum() == 4
    unknown = make_targets(targets.task, patients.assign(liver=patients["liver"].fillna(9)), table)
    assert unknown.table["liver"].isna().sum() == 4


def test_cell_labels_come_from_the_cells(small_cohort):
    samples, patients, table = small_cohort
    task = Task("k", "k", level="cell", label="cell_type", positive=("malignant",), negative=("caf",))
    targets = make_targets(task, patients, table, samples)
    assert set(targets.table["y"]) == {0.0, 1.0}
    assert targets.table.index[0].startswith("s0:c")
    with pytest.raises(InputError, match="region"):
        make_targets(Task("k", "k", level="cell", label="region", positive=("front",)), patients, table, samples)


def test_absent_columns_and_empty_labels_are_named(small_cohort):
    _, patients, table = small_cohort
    with pytest.raises(InputError, match="ploidy"):
        make_targets(Task("t", "t", label="ploidy", positive=(1,)), patients, table)
    with pytest.raises(InputError, match=r"Expected sex in \['q'\] \(1\) or \['r'\] \(0\), found sex: 'f', 'm'"):
        make_targets(Task("t", "t", label="sex", positive=("q",), negative=("r",)), patients, table)
    with pytest.raises(InputError, match=r"event 0 or 1, found .*event: '2'.* task\.time="):
        make_targets(Task("c", "c", kind="cox", time="time", event="event"), patients.assign(event=2), table)


@pytest.mark.parametrize(
    ("settings", "group", "words"), [(("agee",), None, "Did you mean 'age'"), ((), "slide", "as group")]
)
def test_columns_that_the_patient_table_lacks_are_named(small_cohort, settings, group, words):
    _, patients, table = small_cohort
    task = Task("t", "t", label="metastasis", positive=(1,), clinical=settings)
    with pytest.raises(InputError, match=words):
        make_targets(task, patients, table, group=group)


def test_who_is_left_out_is_said(small_cohort):
    _, patients, table = small_cohort
    patients = patients.assign(metastasis=[None, *patients["metastasis"][1:]])
    targets = make_targets(Task("t", "t", label="metastasis", positive=(1,)), patients, table, group="sex")
    assert targets.described() == "11 patients with a label, 1 left out (no usable metastasis): 'p0'"
    assert targets.groups["p1"] == "m"


@pytest.mark.parametrize(
    ("task", "values", "words"),
    [
        (
            Task("t", "t", label="metastasis", positive=(1,)),
            {"metastasis": 1},
            "both outcomes, found all 12 labels are 1",
        ),
        (Task("c", "c", kind="cox", time="time", event="event"), {"event": 0}, "no event among 12 units"),
        (Task("t", "t", label="metastasis", positive=(1,)), {}, None),
    ],
)
def test_labels_that_teach_nothing_are_refused(small_cohort, task, values, words):
    _, patients, table = small_cohort
    targets = make_targets(task, patients.assign(**values), table)
    if words is None:
        targets.check_learnable()
        return
    with pytest.raises(InputError, match=words):
        targets.check_learnable()


def test_a_task_of_sites_is_refused_only_where_no_site_has_both(small_cohort):
    _, patients, table = small_cohort
    task = Task("s", "s", kind="sites", sites=("liver", "lung"))
    both = patients.assign(liver=[0, 1] * 6, lung=0)
    make_targets(task, both, table).check_learnable()
    with pytest.raises(InputError, match=r"site liver: all 12 labels are 0.*; site lung"):
        make_targets(task, both.assign(liver=0), table).check_learnable()


def test_targets_of_some_patients(small_cohort):
    _, patients, table = small_cohort
    targets = make_targets(Task("t", "t", label="metastasis", positive=(1,)), patients, table)
    assert list(targets.of(["p3", "p1"]).patients) == ["p1", "p3"]
