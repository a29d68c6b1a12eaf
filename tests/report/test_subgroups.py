import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from metaniche.report.subgroups import subgroups


def test_figure_of_a_subgroup_is_the_mean_over_repeats_with_an_interval_around_it(make_run):
    run = make_run()
    row = subgroups(run, n_boot=50).set_index(["variable", "level"]).loc[("sex", "female")]
    women = run.patients.index[run.patients["sex"] == "female"]
    rows = run.predictions[(run.predictions["model"] == run.model) & run.predictions["patient_id"].isin(women)]
    expected = np.mean([roc_auc_score(r["y"], r["risk"]) for _, r in rows.groupby("repeat")])
    assert row["value"] == pytest.approx(expected)
    assert row["value_low"] <= row["value"] <= row["value_high"]
    assert row["n_patients"] == len(women)


def test_ages_are_halved_and_missing_stages_belong_nowhere(make_run):
    table = subgroups(make_run(), n_boot=20)
    sizes = table.groupby("variable")["n_patients"].sum()
    assert sizes["age"] == 80
    assert sizes["stage"] == 76
    assert len(table[table["variable"] == "age"]) == 2


def test_small_groups_get_no_figure(make_run):
    run = make_run()
    rare = run.patients.assign(sex=np.where(np.arange(80) < 6, "female", "male"))
    table = subgroups(make_run(patients=rare), n_boot=20).set_index(["variable", "level"])
    assert np.isnan(table.loc[("sex", "female"), "value"])
    assert np.isfinite(table.loc[("sex", "male"), "value"])


def test_survival_uses_concordance(make_run):
    table = subgroups(make_run(survival=True), n_boot=20)
    assert table["value"].between(0.4, 1).all()


def test_only_clinical_variables_count(make_run):
    run = make_run()
    named = run.patients.assign(budding_grade=1, site=["a", "b"] * 40)
    assert set(subgroups(make_run(patients=named), n_boot=5)["variable"]) == {"stage", "age", "sex"}
    info = {"task": run.task | {"clinical": ["site"]}}
    assert "site" in set(subgroups(make_run(patients=named, info=info), n_boot=5)["variable"])


def test_nothing_to_say(make_run):
    run = make_run()
    assert subgroups(make_run(patients=None)).empty
    assert subgroups(make_run(predictions=None)).empty
    assert subgroups(make_run(predictions=run.predictions.drop(columns="y"))).empty
    assert subgroups(make_run(predictions=run.predictions.assign(site="liver"))).empty
    assert subgroups(make_run(patients=pd.DataFrame(index=run.patients.index))).empty
