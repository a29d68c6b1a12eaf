import numpy as np
import pandas as pd

from metaniche.report.exemplars import choose_exemplars


def test_both_ends_of_held_out_risk_are_chosen_in_order(make_run):
    run = make_run()
    chosen = choose_exemplars(run)
    rows = run.predictions[run.predictions["model"] == "relational_mil"]
    rank = rows.groupby("repeat")["risk"].rank(pct=True).groupby(rows["patient_id"]).mean()
    mapped = rank[[s.removesuffix("_s1") for s in run.cells["sample_id"].unique()]].sort_values(ascending=False)
    expected = [f"{p}_s1" for p in [*mapped.index[:2], *mapped.index[-2:]]]
    assert list(chosen.samples) == expected
    assert "2 at each end of 6" in chosen.rule
    place = rank.rank(ascending=False)[mapped.index[0]]
    assert chosen.titles[expected[0]].startswith(f"{mapped.index[0]}: risk rank {place:.0f} of 80")


def test_outcomes_stand_in_the_titles(make_run):
    assert all("outcome: " in t for t in choose_exemplars(make_run()).titles.values())
    assert all("event at" in t for t in choose_exemplars(make_run(survival=True)).titles.values())


def test_a_patient_with_several_samples_shows_the_one_with_most_malignant_cells(make_run):
    run = make_run()
    small = run.cells[run.cells["sample_id"] == "P03_s1"].head(100).assign(sample_id="P03_s0")
    with_two = make_run(cells=pd.concat([run.cells, small], ignore_index=True))
    assert "P03_s0" not in choose_exemplars(with_two, per_end=6).samples
    assert "most malignant cells" in choose_exemplars(with_two, per_end=6).rule


def test_few_samples_are_all_shown(make_run):
    run = make_run()
    cells = run.cells[run.cells["sample_id"].isin(["P03_s1", "P10_s1"])]
    chosen = choose_exemplars(make_run(cells=cells))
    assert set(chosen.samples) == {"P03_s1", "P10_s1"}
    assert "all 2" in chosen.rule


def test_without_shared_patients_samples_go_by_mean_potential(make_run):
    chosen = choose_exemplars(make_run(predictions=None))
    assert chosen.samples[0] == "P20_s1"  # the fixture's potential grows with the sample's number
    assert chosen.samples[-1] == "P03_s1"
    assert "mean potential" in chosen.rule
    renamed = make_run(cells=make_run().cells.assign(patient_id="nobody"))
    assert "mean potential" in choose_exemplars(renamed).rule


def test_cells_without_malignancy_are_counted_all(make_run):
    run = make_run()
    cells = run.cells.drop(columns="is_malignant").assign(metaniche_potential=np.linspace(0, 1, len(run.cells)))
    assert len(choose_exemplars(make_run(cells=cells)).samples) == 4
