import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.evaluation.ranks import patient_ranks
from metaniche.evaluation.record import collect_cells
from metaniche.report.exemplars import choose_exemplars


def test_both_ends_of_held_out_risk_are_chosen_in_order(make_run):
    run = make_run()
    chosen = choose_exemplars(run)
    rows = run.predictions[run.predictions["model"] == "relational_mil"]
    rank = rows.groupby("repeat")["risk"].rank(pct=True).groupby(rows["patient_id"]).mean()
    mapped = rank[[s.removesuffix("_s1") for s in run.cells["sample_id"].unique()]].sort_values(ascending=False)
    expected = [f"{p}_s1" for p in mapped.index]
    assert list(chosen.samples) == expected
    assert chosen.rule.startswith("Of 80 patients the 6 with the highest and the lowest held-out risk, each")
    place = rank.rank(ascending=False)[mapped.index[0]]
    assert chosen.titles[expected[0]].startswith(f"{mapped.index[0]}: risk rank {place:.0f} of 80")


def test_outcomes_stand_in_the_titles(make_run):
    assert all("outcome: " in t for t in choose_exemplars(make_run()).titles.values())
    assert all("event at" in t for t in choose_exemplars(make_run(survival=True)).titles.values())
    assert choose_exemplars(make_run()).rule.endswith("(1 is the highest risk) and what happened.")


def test_titles_of_samples_with_labels_of_their_own_promise_no_outcome(make_run):
    run = make_run()
    chosen = choose_exemplars(replace(run, info={**run.info, "task": {**run.task, "level": "sample"}}))
    assert not any("outcome" in t for t in chosen.titles.values())
    assert chosen.rule.endswith("Titles give patient and rank among all evaluated patients (1 is the highest risk).")


def test_few_samples_are_all_shown(make_run):
    run = make_run()
    cells = run.cells[run.cells["sample_id"].isin(["P03_s1", "P10_s1"])]
    chosen = choose_exemplars(make_run(cells=cells))
    assert set(chosen.samples) == {"P03_s1", "P10_s1"}
    assert "the 2 with the highest" in chosen.rule


def test_without_shared_patients_the_first_samples_are_shown(make_run):
    first = tuple(make_run().cells["sample_id"].unique()[:4])
    assert choose_exemplars(make_run(predictions=None)).samples == first
    assert choose_exemplars(make_run(cells=make_run().cells.assign(patient_id="nobody"))).samples == first


@pytest.mark.parametrize("n_repeats", [1, 3, 10])
def test_those_that_a_run_keeps_are_the_ends_that_the_caption_names(make_run, tmp_path, n_repeats):
    rng = np.random.default_rng(n_repeats)
    patients = [f"P{i:02d}" for i in range(30)]
    rows = [
        {"model": "relational_mil", "repeat": r, "unit_id": p, "patient_id": p,
         "y": i % 2, "risk": 0.5, "score": i + rng.normal(0, 12)}
        for r in range(n_repeats)
        for i, p in enumerate(patients)
    ]  # fmt: skip
    predictions = pd.DataFrame(rows)
    cells = pd.DataFrame(
        {"sample_id": [f"{p}_s1" for p in patients], "patient_id": patients, "metaniche_potential": 0.5}
    )
    collect_cells(cells, tmp_path, 4, patient_ranks(predictions, "relational_mil"))
    run = make_run(predictions=predictions, cells=pd.read_parquet(tmp_path / "cells.parquet"))
    chosen = choose_exemplars(run)
    places = [int(re.search(r"risk rank (\d+) of 30", chosen.titles[s])[1]) for s in chosen.samples]
    assert places == [1, 2, 29, 30]
