import numpy as np
import pandas as pd
import pytest

from metaniche.report.headline import best_baseline, clinical_model, headline, primary_metric


def test_a_better_network_is_called_better_and_nothing_more(make_run):
    said = headline(make_run(lead=0.36))
    assert said.verdict == "better"
    assert "AUROC 0.91 (0.82 to 0.98)" in said.result
    assert "cellular_neighbourhoods_ridge, reaches 0.55 (0.46 to 0.62)" in said.result
    assert "paired difference +0.36 (+0.24 to +0.48)" in said.result
    assert "better than the best simple baseline and than clinical variables alone" in said.conclusion
    assert any("cross-validation within this cohort" in c for c in said.cautions)
    assert any("80 patients are few" in c for c in said.cautions)


@pytest.mark.parametrize(
    ("lead", "verdict", "words"),
    [
        (
            0.05,
            "not shown",
            "NOT shown to be better than the best simple baseline: the interval of the difference holds",
        ),
        (-0.08, "not shown", "NOT better than the best simple baseline"),
        (-0.30, "worse", "worse than the best simple baseline"),
    ],
)
def test_a_network_that_does_not_lead_is_said_not_to(make_run, lead, verdict, words):
    said = headline(make_run(lead=lead))
    assert said.verdict == verdict
    assert words in said.conclusion


def test_without_a_paired_difference_nothing_is_shown(make_run):
    def bare(table):
        return table[[c for c in table if not c.startswith("diff_")]]

    said = headline(make_run(lead=0.3, table=bare))
    assert said.verdict == "not compared"
    assert "so it is not shown to be better" in said.conclusion
    assert "NOT better" in headline(make_run(lead=-0.3, table=bare)).conclusion


def test_without_a_baseline_the_gain_is_not_known(make_run):
    said = headline(make_run(table=lambda t: t.assign(kind="kind not given")))
    assert "names no simple baseline" in said.conclusion
    assert "better" not in said.conclusion


def test_lower_is_better_turns_the_sign(make_run):
    def error(table):
        columns = ["ibs", "diff_baseline", "diff_baseline_low", "diff_baseline_high"]
        values = {"relational_mil": [0.1, -0.1, -0.15, -0.05], "cellular_neighbourhoods_ridge": [0.2] + [np.nan] * 3}
        table = table[table["model"].isin(values)][["model", "kind"]].set_index("model")
        for model, row in values.items():
            table.loc[model, columns] = row
        return table.reset_index()

    run = make_run(table=error, info={"primary_metric": "ibs"})
    assert primary_metric(run).column == "ibs"
    assert headline(run).verdict == "better"


def test_the_difference_is_told_against_the_model_it_was_computed_for(make_run):
    run = make_run(table=lambda t: t.assign(best_baseline="composition_ridge"))
    assert best_baseline(run, primary_metric(run))["model"] == "composition_ridge"


def test_without_a_named_reference_it_is_the_one_without_a_difference(make_run):
    run = make_run()
    assert best_baseline(run, primary_metric(run))["model"] == "cellular_neighbourhoods_ridge"
    bare = make_run(table=lambda t: t.drop(columns="diff_baseline"))
    assert best_baseline(bare, primary_metric(bare))["model"] == "clinical_logistic"


def test_a_clinical_model_may_be_the_best_baseline_and_is_told_once(make_run):
    run = make_run(table=lambda t: t.assign(best_baseline="clinical_logistic"))
    said = headline(run)
    assert said.result.count("clinical_logistic") == 1
    assert "best simple baseline, clinical_logistic" in said.result


def test_the_clinical_model_is_the_one_without_a_difference_to_itself(make_run):
    def two(table):
        other = table[table["kind"] == "clinical"].assign(model="clinical (forest)", auroc=0.9, diff_clinical=0.1)
        return pd.concat([other, table])

    run = make_run(table=two)
    assert clinical_model(run, primary_metric(run))["model"] == "clinical_logistic"


def test_chance_inside_the_interval_is_said(make_run):
    assert any("chance is not excluded" in c for c in headline(make_run(lead=-0.05)).cautions)


def test_another_model_that_is_best_is_named(make_run):
    assert any("relational_mil+clinical: 0.92" in c for c in headline(make_run()).cautions)


def test_a_control_that_misses_chance_is_shouted(make_run):
    control = {"model": "relational_mil", "estimate": 0.7, "low": 0.6, "high": 0.8, "holds_chance": False}
    assert any("Something leaks" in c for c in headline(make_run(info={"permutation_control": control})).cautions)


def test_one_split_is_not_called_cross_validation(make_run):
    said = headline(make_run(info={"folds": None}, splits=[{"train": ["a"], "test": ["b"]}]))
    assert any("one split of this cohort" in c for c in said.cautions)


def test_no_figure_no_headline(make_run):
    assert headline(make_run(table=lambda t: t.assign(auroc=np.nan)[["model", "kind", "auroc"]])) is None
    assert headline(make_run(table=lambda t: t.iloc[:0])) is None


def test_of_one_split_with_few_patients_no_figure_stands_first(make_run):
    few = {"table": lambda t: t.assign(n_patients=3), "lead": 0.36}
    said = headline(make_run(splits=[{"train": ["a"], "test": ["b"]}], **few))
    assert said.verdict == "not compared"
    assert said.result.startswith("Held-out patients: 3, too few")
    assert "AUROC" not in said.result
    assert "AUROC" in headline(make_run(**few)).result  # each was held out in turn
