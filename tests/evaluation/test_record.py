import json
import sys
import types
from dataclasses import dataclass

import pandas as pd
import pytest

from metaniche.data.splits import patient_folds
from metaniche.evaluation import record
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.record import collect_cells, peak_memory, write_comparison, write_run
from metaniche.report.run import read_run


def test_maps_show_the_patients_of_highest_and_lowest_risk(tmp_path):
    cells = pd.DataFrame(
        [(f"s{p}{k}", f"p{p}", 0.5) for p in range(6) for k in range(2) for _ in range(2 + k)],
        columns=["sample_id", "patient_id", "metaniche_potential"],
    )
    collect_cells(cells, tmp_path, 4, pd.Series({f"p{p}": p / 10 for p in range(6)}))
    kept = pd.read_parquet(tmp_path / "cells.parquet")
    assert sorted(kept["sample_id"].unique()) == ["s01", "s11", "s41", "s51"]  # of each, the sample with more cells


@pytest.mark.parametrize(("platform", "expected"), [("linux", 7 * 1024), ("darwin", 7), ("win32", None)])
def test_memory_is_in_bytes_or_not_said(monkeypatch, platform, expected):
    usage = types.SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: types.SimpleNamespace(ru_maxrss=7))
    monkeypatch.setitem(sys.modules, "resource", None if platform == "win32" else usage)
    monkeypatch.setattr(record.sys, "platform", platform)
    assert peak_memory() == expected


def test_the_run_says_who_was_asked_and_what_was_added(tmp_path, cohort, prepared_like, tasks):
    targets = cohort.targets(tasks["binary"])
    write_run(tmp_path, prepared_like(cohort), targets, model="net", duration_s=1.26, seeds=[3])
    info = json.loads((tmp_path / "run.json").read_text())
    assert (info["n_patients"], info["n_units"], info["n_samples"], info["n_cells"]) == (24, 24, 24, 24 * 60)
    assert (info["model"], info["duration_s"], info["seeds"]) == ("net", 1.3, [3])
    assert info["task"]["name"] == "spread"
    assert list(pd.read_csv(tmp_path / "patients.csv")["patient_id"]) == list(targets.patients)
    assert {"check", "status", "detail"} == set(json.loads((tmp_path / "data_checks.json").read_text())[0])


def test_the_comparison_is_what_the_report_reads(tmp_path, cohort, tasks, spy):
    folds = patient_folds(cohort.targets(tasks["binary"]), n_folds=3, n_repeats=1)
    cv = cross_validate([spy("net"), spy("simple", role="baseline")], cohort, tasks["binary"], folds)
    table = write_comparison(tmp_path, cv, n_boot=20)
    run = read_run(tmp_path)
    assert list(run.table["model"]) == ["net", "simple"]
    assert list(run.table["kind"]) == ["network", "baseline"]
    assert run.table["diff_baseline"].notna().tolist() == [True, False]
    assert run.caption == table.attrs["caption"]
    assert len(run.splits) == 3
    assert len(run.repeats) == 2
    assert list(run.sets["model"].unique()) == ["net"]
    assert set(run.sets["set_90"].dropna()) <= {"0", "1", "0 or 1", "neither"}
    assert len(run.sets) == 24


@dataclass
class Told:
    """Says of every unit the same, in whatever form a task asks for."""

    name: str = "net"
    role: str = "model"

    def fit(self, samples, targets, clinical, seed):
        return self

    def predict(self, samples, clinical, unit_ids):
        risk = pd.Series(0.5, unit_ids)
        curves = pd.DataFrame({5.0: 0.8, 20.0: 0.5}, index=unit_ids)
        return Prediction(risk, survival=curves, sites=pd.DataFrame({"liver": 0.5, "lung": 0.4}, index=unit_ids))


@pytest.mark.parametrize("kind", ["cox", "sites", "cells"])
def test_sets_are_kept_of_every_task_but_cells(tmp_path, cohort, tasks, kind):
    folds = patient_folds(cohort.targets(tasks[kind]), n_folds=3, n_repeats=1)
    write_comparison(tmp_path, cross_validate([Told()], cohort, tasks[kind], folds), n_boot=20)
    assert (tmp_path / "conformal.csv").exists() == (kind != "cells")
    if kind != "cells":
        sets = pd.read_csv(tmp_path / "conformal.csv")
        assert ("site" in sets, "landmark" in sets) == (kind == "sites", kind == "cox")
        assert sets["set_90"].eq("0 or 1").any()
