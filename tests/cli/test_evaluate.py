import json

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
    assert json.loads((run_dir / "run.json").read_text())["permutation_control"]["model"] == "relational_mil"
    assert "Research use only" in (run_dir / "report.html").read_text()
    written = {p: p.stat().st_mtime_ns for p in (run_dir / "folds").iterdir()}
    status, _ = run("evaluate", tmp_path, *options, "permutation_control=false")
    assert status == 0
    assert {p: p.stat().st_mtime_ns for p in (run_dir / "folds").iterdir()} == written
    assert pd.read_csv(run_dir / "table.csv", index_col="model")["auroc"].equals(table["auroc"])
