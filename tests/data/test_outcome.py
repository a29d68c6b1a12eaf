import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.data.outcome import (
    bin_edges,
    breslow,
    cell_potential,
    cox_survival,
    discrete_survival,
    n_outputs,
    unit_risk,
)  # fmt: skip
from metaniche.data.task import Targets, Task

BINARY = Task("b", "b", label="y", positive=(1,))
COX = Task("c", "c", kind="cox", time="time", event="event")
DISCRETE = Task("d", "d", kind="discrete_time", time="time", event="event", n_bins=4)
SITES = Task("s", "s", kind="sites", sites=("liver", "lung"))


def test_number_of_outputs():
    assert [n_outputs(t) for t in (BINARY, COX, DISCRETE, SITES)] == [1, 1, 4, 2]


@pytest.mark.parametrize("task", [BINARY, COX, DISCRETE, SITES])
def test_risk_rises_with_every_logit_and_potential_is_a_probability(task):
    logits = torch.randn(20, n_outputs(task))
    assert (unit_risk(task, logits + 0.5) > unit_risk(task, logits)).all()
    potential = cell_potential(task, logits)
    assert ((potential > 0) & (potential < 1)).all()


def test_discrete_survival_falls_from_one():
    survival = discrete_survival(np.random.default_rng(0).normal(size=(5, 4)), [1.0, 2.0, 3.0], pd.RangeIndex(5))
    assert list(survival.columns) == [1.0, 2.0, 3.0]
    assert (survival.to_numpy() <= 1).all()
    assert (np.diff(survival.to_numpy(), axis=1) <= 0).all()


def test_bins_hold_alike_many_events():
    table = pd.DataFrame({"time": np.arange(1.0, 101.0), "event": 1.0, "patient_id": "p"})
    edges = bin_edges(Targets(DISCRETE, table))
    counts = np.bincount(np.digitize(table["time"], edges))
    assert len(edges) == 3
    assert counts.max() - counts.min() <= 1


def test_breslow_is_nelson_aalen_when_risks_are_equal():
    time, event = np.array([1.0, 2.0, 2.0, 3.0, 4.0]), np.array([1, 1, 0, 0, 1])
    times, hazard = breslow(np.zeros(5), time, event)
    assert times == [1.0, 2.0, 4.0]
    assert np.allclose(hazard, np.cumsum([1 / 5, 1 / 4, 1 / 1]))


def test_cox_survival_orders_patients_by_risk():
    survival = cox_survival(np.array([-1.0, 0.0, 2.0]), [1.0, 2.0], [0.1, 0.5], pd.Index(list("abc")))
    assert (survival.diff().dropna() < 0).all(axis=None)
