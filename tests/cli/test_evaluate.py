import json
import runpy
import shutil
from pathlib import Path

import pandas as pd
from verbs import TINY, run


def test_one_table_for_all_models_and_a_rerun_that_reuses_every_fold(tmp_path):
    options = (
        "run_name=e",
        "n_folds=3",
        "n_repeats=1",
        "n_boot=50",
        "n_permutations=1",
        "networks=[relational_mil]",
        "+model.width=16",
        *TINY,
    )
    status, said = run("evaluate", tmp_path, *options)
    assert status == 0, said
    assert "Label-permutation control of relational_mil: auroc" in said
    run_dir = tmp_path / "runs/e"
    table = pd.read_csv(run_dir / "table.csv", index_col="model")
    assert {"relational_mil", "clinical + relational_mil", "composition (ridge)", "clinical"} <= set(table.index)
    assert table.loc["relational_mil", "auroc_low"] <= table.loc["relational_mil", "auroc"] <= table["auroc_high"].max()
    info = json.loads((run_dir / "run.json").read_text())
    assert info["permutation_control"]["model"] == "relational_mil"
    assert _same_keys(info, runpy.run_path(Path(__file__).parents[1] / "report/conftest.py")["make_info"]())
    assert "Research use only" in (run_dir / "report.html").read_text()
    written = {p: p.stat().st_mtime_ns for p in (run_dir / "folds").iterdir()}
    status, _ = run("evaluate", tmp_path, *options, "permutation_control=false")
    assert status == 0
    assert {p: p.stat().st_mtime_ns for p in (run_dir / "folds").iterdir()} == written
    assert pd.read_csv(run_dir / "table.csv", index_col="model")["auroc"].equals(table["auroc"])
    shutil.rmtree(run_dir / "cells")  # as those of another first network would not be found
    assert (run_dir / "cells.parquet").exists()
    status, _ = run("evaluate", tmp_path, *options, "permutation_control=false")
    assert status == 0
    assert not (run_dir / "cells.parquet").exists()


def test_a_group_is_left_out_whole_also_where_labels_are_permuted(tmp_path):
    status, said = run(
        "evaluate", tmp_path, "run_name=g", "scheme=leave_group_out", "group=stage", "n_repeats=1", "n_boot=20",
        "n_permutations=1", "networks=[attention_mil]", "baselines=false", *TINY,
    )  # fmt: skip
    assert status == 0, said
    folds = json.loads((tmp_path / "runs/g/folds.json").read_text())
    stage = pd.read_csv(tmp_path / "runs/g/patients.csv", index_col="patient_id")["stage"]
    assert all(stage[fold["test"]].nunique() == 1 for fold in folds)
    assert json.loads((tmp_path / "runs/g/run.json").read_text())["permutation_control"]["values"]


def _same_keys(info: dict, made_up: dict) -> bool:
    """Whether the run folders that the report's tests make up say what a run says, no more and no less."""
    free = ("task", "graph", "left_out", "folds")
    nested = [k for k, v in info.items() if isinstance(v, dict) and k not in free]
    return info.keys() == made_up.keys() and all(info[k].keys() == made_up[k].keys() for k in nested)
