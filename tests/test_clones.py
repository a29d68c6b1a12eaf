import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.clones import clone_potentials
from metaniche.data.task import Task

TASK = Task("t", "a task", label="y", positive=(1,))
N = 60


def made(members=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(members, N, 1, generator=g)
    attention = torch.softmax(torch.randn(members, N, generator=g), 1)
    clones = pd.Series(np.repeat(["a", "b", None], N // 3), dtype=object)
    malignant = np.arange(N) % 5 > 0
    return logits, attention, clones, malignant


def test_clones_make_up_their_part_of_the_units_logit():
    logits, attention, clones, malignant = made(members=1)
    table = clone_potentials(TASK, logits, attention, clones, malignant).set_index("clone_id")
    for name in ("a", "b"):
        cells = torch.from_numpy(np.flatnonzero((clones == name) & malignant))
        part = (attention[0, cells] * logits[0, cells, 0]).sum()
        risk = table.loc[name, "potential"]
        assert table.loc[name, "attention"] * np.log(risk / (1 - risk)) == pytest.approx(float(part), rel=1e-4)
        assert table.loc[name, "n_cells"] == len(cells)
        assert np.isnan(table.loc[name, "low"])


def test_an_ensemble_has_an_interval_and_the_highest_comes_first():
    table = clone_potentials(TASK, *made())
    assert ((table["low"] < table["potential"]) & (table["potential"] < table["high"])).all()
    assert table["potential"].is_monotonic_decreasing
    assert set(table["clone_id"]) == {"a", "b"}


def test_few_cells_are_no_clone_and_none_give_an_empty_table():
    logits, attention, clones, malignant = made()
    clones[:] = None
    clones[[1, 2, 3]] = "tiny"
    table = clone_potentials(TASK, logits, attention, clones, malignant)
    assert table.empty
    assert "potential" in table


def test_a_clone_that_nobody_looks_at_weighs_its_cells_alike():
    logits, attention, clones, malignant = made(members=1)
    attention[:, :20] = 0
    table = clone_potentials(TASK, logits, attention, clones, malignant).set_index("clone_id")
    mean = logits[0, np.flatnonzero((clones == "a") & malignant), 0].mean()
    assert table.loc["a", "potential"] == pytest.approx(float(torch.sigmoid(mean)), rel=1e-5)
