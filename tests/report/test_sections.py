import numpy as np
import pandas as pd
import pytest

from metaniche.report import sections


def test_task_rows_name_the_question_and_leave_out_what_is_blank(make_run):
    rows = dict(sections.task_rows(make_run()))
    assert rows["Question"] == "Metastasis within follow-up (synthetic tumours)"
    assert rows["Clinical variables"] == "stage, age"
    assert "Note" not in rows
    assert sections.task_rows(make_run(info={"task": {}})) == []


def test_cohort_rows_count_patients_and_outcomes(make_run):
    run = make_run()
    rows = dict(sections.cohort_rows(run))
    events = int(run.predictions.groupby("patient_id")["y"].first().sum())
    assert rows["Evaluated"] == f"80 patients, {events} with the outcome"
    assert rows["Cells"] == "251,028"
    assert "Units predicted (patients)" not in rows
    by_cell = make_run(info={"task": run.task | {"level": "cell"}, "n_units": 3167})
    assert dict(sections.cohort_rows(by_cell))["Units predicted (cells)"] == "3,167"


def test_patient_table_summarises_the_evaluated_patients_only(make_run):
    run = make_run()
    stranger = pd.DataFrame({"stage": ["IX"], "age": [200.0], "sex": ["male"]}, index=["stranger"])
    rows = sections.patient_table(make_run(patients=pd.concat([run.patients, stranger])))
    assert "IX" not in {level for _, level, _ in rows}
    counts = [int(s.split()[0]) for v, _, s in rows if v == "stage"]
    assert sum(counts) == 80
    assert ("stage", "not known", "4 (5%)") in rows
    age = next(s for v, _, s in rows if v == "age")
    assert age.startswith(f"{run.patients['age'].median():.3g} (")


def test_identifiers_are_not_summarised(make_run):
    run = make_run(info={"task": {}})
    named = run.patients.assign(name=[f"n{i}" for i in range(80)], empty=np.nan)
    assert {v for v, _, _ in sections.patient_table(make_run(info={"task": {}}, patients=named))} == {
        "stage",
        "age",
        "sex",
    }


def test_ages_of_a_handful_are_a_median_and_grades_are_levels(make_run):
    few = pd.DataFrame({"age": [47.0, 53.0, 62.0], "grade": [1.0, 2.0, 3.0]}, index=["P00", "P01", "P02"])
    few["dose"] = [999.7, 120.4, 88.1]
    few["block"], few["slide"] = [17234.0, 5712.0, 24001.0], [1234567.0] * 3
    rows = sections.patient_table(make_run(info={"task": {}}, patients=few))
    assert rows[0] == ("age", "median (range)", "53 (47 to 62)")
    assert [level for v, level, _ in rows if v == "grade"] == ["1", "2", "3"]
    assert ("block", "median (range)", "17,234 (5,712 to 24,001)") in rows
    assert ("dose", "median (range)", "120 (88.1 to 1,000)") in rows
    assert ("slide", "1234567", "3 (100%)") in rows


def test_comparison_has_the_primary_metric_first_and_networks_before_baselines(make_run):
    comparison = sections.comparison_rows(make_run())
    assert comparison["heads"][0][0] == "AUROC"
    assert [h[0] for h in comparison["heads"][-2:]] == ["Difference to best baseline", "Difference to clinical"]
    kinds = [r["kind"] for r in comparison["rows"]]
    assert kinds == sorted(kinds, key=["network", "fused", "clinical", "baseline"].index)
    assert [r["model"] for r in comparison["rows"] if r["is_shown"]] == ["relational_mil"]
    assert [r["model"] for r in comparison["rows"] if r["is_best_baseline"]] == ["cellular_neighbourhoods_ridge"]
    assert all(len(r["cells"]) == len(comparison["heads"]) for r in comparison["rows"])
    assert sections.comparison_rows(make_run(table=lambda t: None)) is None


def test_warnings_come_first(make_run):
    statuses = [c["status"] for c in sections.check_rows(make_run())]
    assert statuses == ["warning", "left out", "ok", "ok"]
    assert sections.check_rows(make_run(checks=None)) == []


def test_every_repeat_is_shown(make_run):
    repeats = pd.DataFrame({"model": ["a", "a", "b", "b"], "repeat": [0, 1, 0, 1], "auroc": [0.5, 0.6, 0.7, np.nan]})
    table = sections.repeat_table(make_run(repeats=repeats))
    assert table["repeats"] == [1, 2]
    assert table["rows"] == [("a", ["0.500", "0.600"]), ("b", ["0.700", "–"])]
    by_site = sections.repeat_table(make_run(repeats=repeats.assign(site="liver")))
    assert by_site["rows"][0][0] == "a / liver"
    assert sections.repeat_table(make_run()) is None


def test_reproduce_rows_leave_out_what_is_not_recorded(make_run):
    rows = dict(sections.reproduce_rows(make_run()))
    assert rows["Seeds (all reported)"] == "0, 1, 2"
    assert rows["Duration"] == "2 min 52 s"
    assert rows["Peak memory"] == "1.90 GB"
    assert "torch" not in dict(sections.reproduce_rows(make_run(info={"torch": None})))


@pytest.mark.parametrize(("seconds", "words"), [(8.44, "8.4 s"), (192, "3 min 12 s"), (7500, "2 h 05 min")])
def test_duration(seconds, words):
    assert sections.duration(seconds) == words


def test_created_is_short(make_run):
    assert sections.created(make_run(info={"created": "2025-03-01T12:34:56+00:00"})) == "2025-03-01 12:34"
