import json
import signal
import subprocess
import time

import pandas as pd
import pytest
from verbs import TINY, command, environment, run

SWEEP = (
    *TINY, "data.source.synthetic.n_patients=16", "n_folds=2", "hparams_search.n_trials=3", "hparams_search.n_inner_folds=2",
    "n_boot=50", "~hparams_search.space.trainer",
)  # fmt: skip
RUN = "runs/synthetic/metastasis/sweep"


def test_a_killed_search_is_gone_on_with_and_judged_beside_baselines(tmp_path):
    with subprocess.Popen(
        command("sweep", *SWEEP), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as first:  # fmt: skip
        journal = tmp_path / RUN / "trials.journal"
        while first.poll() is None and not (journal.exists() and '"alive"' in journal.read_text()):
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    status, said = run("sweep", tmp_path, *SWEEP, "judge=false")
    assert status == 0, said
    assert "judge=true compares" in said
    status, said = run("sweep", tmp_path, *SWEEP)
    assert status == 0, said
    trials = pd.read_csv(tmp_path / RUN / "trials.csv")
    assert (trials["state"] == "complete").sum() == 2 * 3
    assert set(trials.loc[trials["state"] == "fail", "why"]) <= {"killed"}
    chosen = json.loads((tmp_path / RUN / "chosen.json").read_text())
    for row in chosen:
        of_fold = trials[(trials["fold"] == row["fold"]) & (trials["state"] == "complete")]
        assert row["model.width"] == of_fold.loc[of_fold["value"].idxmax(), "model.width"]
    table = pd.read_csv(tmp_path / RUN / "table.csv", index_col="model")
    assert {"seed_soil", "seed_soil, tuned", "composition (ridge)", "clinical + seed_soil, tuned"} <= set(table.index)
    assert (tmp_path / RUN / "trials.png").read_bytes()[:4] == b"\x89PNG"
    assert "Research use only" in (tmp_path / RUN / "report.html").read_text()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+hparams_search.space.graph.radius_um.choices=[30,60]", "'graph.radius_um'. It decides how samples"),
        ("+hparams_search.space.model.widht.choices=[16]", "Did you mean 'width'"),
        ("hparams_search.n_trials=0", "n_trials >= 1"),
    ],
)
def test_a_search_that_cannot_be_made_ends_in_one_line_of_words(tmp_path, override, words):
    status, said = run("sweep", tmp_path, *TINY, override)
    assert status == 2
    assert words in said
    assert "Traceback" not in said
