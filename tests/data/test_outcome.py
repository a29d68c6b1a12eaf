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
    ensemble_risk,
    incidence,
    n_outputs,
    of_event,
    unit_risk,
)  # fmt: skip
from metaniche.data.task import Targets, Task

BINARY = Task("b", "b", label="y", positive=(1,))
COX = Task("c", "c", kind="cox", time="time", event="event")
DISCRETE = Task("d", "d", kind="discrete_time", time="time", event="event", n_bins=4)
COMPETING = Task("r", "r", kind="discrete_time", time="time", event="event", competing="died", n_bins=4)
SITES = Task("s", "s", kind="sites", sites=("liver", "lung"))


def test_number_of_outputs():
    assert [n_outputs(t) for t in (BINARY, COX, DISCRETE, COMPETING, SITES)] == [1, 1, 4, 8, 2]


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


@pytest.mark.parametrize("task", [DISCRETE, COMPETING])
def test_the_open_interval_has_no_say_in_the_risk(task):
    """Nobody is seen to survive it: its hazard is 1 as far as training can tell."""
    logits = torch.randn(5, n_outputs(task))
    other = logits.clone()
    other[:, 3::4] += 9.0
    torch.testing.assert_close(unit_risk(task, other), unit_risk(task, logits))


def test_times_that_tie_make_one_column():
    logits = np.random.default_rng(1).normal(size=(3, 4))
    survival = discrete_survival(logits, [1.0, 2.0, 2.0], pd.RangeIndex(3))
    assert list(survival.columns) == [1.0, 2.0]
    np.testing.assert_allclose(survival[2.0], np.prod(1 / (1 + np.exp(logits[:, :3])), axis=1))


def test_incidences_of_both_events_and_of_none_sum_to_one():
    logits = torch.randn(6, 8, dtype=torch.float64)
    swapped = torch.cat([logits[:, 4:], logits[:, :4]], 1)
    odds = logits.exp()
    none = torch.cumprod(1 / (1 + odds[:, :4] + odds[:, 4:]), 1)
    torch.testing.assert_close(incidence(logits, 4) + incidence(swapped, 4) + none, torch.ones(6, 4).double())
    survival = discrete_survival(logits.numpy(), [1.0, 2.0, 3.0], pd.RangeIndex(6))
    np.testing.assert_allclose(survival, 1 - incidence(logits, 4)[:, :3])
    torch.testing.assert_close(unit_risk(COMPETING, logits), incidence(logits, 4)[:, 2])


def test_who_is_likely_to_die_first_is_less_likely_to_recur():
    logits = torch.zeros(1, 8)
    frail = logits.clone()
    frail[:, 4:] = 2.0
    assert unit_risk(COMPETING, frail) < unit_risk(COMPETING, logits) < 1 - 0.5**3
    assert of_event(COMPETING, frail).tolist() == [[0.0] * 4]
    assert of_event(DISCRETE, frail).shape == (1, 8)


@pytest.mark.parametrize("task", [BINARY, COX, DISCRETE, COMPETING, SITES])
@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_an_ensemble_holds_its_risk(task, seed):
    logits = torch.randn(2, n_outputs(task), generator=torch.Generator().manual_seed(seed))
    for of_cells in (False, True):
        risk, low, high = ensemble_risk(task, logits, of_cells=of_cells)
        assert low < risk < high


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
