import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from torch.autograd import gradcheck

from metaniche.training.losses import cell_loss, cox_loss, discrete_time_loss, masked_binary_loss


def survival(n=40, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 8, n).astype(float) if ties else rng.uniform(0, 9, n)
    return torch.from_numpy(time), torch.from_numpy((rng.random(n) < 0.6).astype(float))


def efron_by_the_book(risk, time, event):
    """Double loop over event times and ties, straight from the formula."""
    total, n_events = 0.0, 0
    for t in np.unique(time[event == 1]):
        dead, at_risk = (time == t) & (event == 1), time >= t
        d = dead.sum()
        total += risk[dead].sum()
        for l in range(d):  # noqa: E741
            total -= np.log(np.exp(risk[at_risk]).sum() - l / d * np.exp(risk[dead]).sum())
        n_events += d
    return -total / n_events


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_cox_is_efrons_partial_likelihood(seed, n, ties):
    time, event = survival(n, seed, ties)
    event[0] = 1
    risk = torch.from_numpy(np.random.default_rng(seed).normal(size=n) * 3)
    expected = efron_by_the_book(risk.numpy(), time.numpy(), event.numpy())
    assert cox_loss(risk, time, event).item() == pytest.approx(expected, rel=1e-9)


def test_cox_is_smallest_at_the_coefficient_lifelines_finds():
    time, event = survival(80, seed=3)
    x = np.random.default_rng(1).normal(size=80)
    found = CoxPHFitter().fit(pd.DataFrame({"t": time.numpy(), "e": event.numpy(), "x": x}), "t", "e").params_["x"]
    beta = torch.tensor(found, dtype=torch.float64, requires_grad=True)
    cox_loss(beta * torch.from_numpy(x), time, event).backward()
    assert abs(beta.grad.item()) < 1e-4  # lifelines stops at that precision


def test_cox_does_not_depend_on_the_order_or_on_a_constant():
    time, event = survival()
    risk = torch.randn(40, dtype=torch.float64)
    order = torch.randperm(40)
    value = cox_loss(risk, time, event)
    assert torch.allclose(cox_loss(risk[order], time[order], event[order]), value)
    assert torch.allclose(cox_loss(risk + 500, time, event), value)


def test_gradients():
    time, event = survival(12)
    logits = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    edges = torch.tensor([2.0, 4.0, 6.0])
    assert gradcheck(lambda z: cox_loss(z[:, 0], time, event), (logits,))
    assert gradcheck(lambda z: discrete_time_loss(z, time, event, edges), (logits,))


def test_nobody_with_an_event_gives_zero_and_no_gradient():
    risk = torch.randn(5, requires_grad=True)
    cox_loss(risk, torch.ones(5), torch.zeros(5)).backward()
    assert (risk.grad == 0).all()


def test_discrete_time_is_the_likelihood_of_the_hazards():
    logits = torch.zeros(3, 4)  # every hazard is one half
    edges = torch.tensor([1.0, 2.0, 3.0])
    time, event = torch.tensor([0.5, 2.5, 2.5]), torch.tensor([1.0, 1.0, 0.0])
    expected = -np.log([0.5, 0.5**3, 0.5**2]).mean()
    assert discrete_time_loss(logits, time, event, edges).item() == pytest.approx(expected, rel=1e-6)


def test_competing_events_share_the_hazard_of_an_interval():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(5, 8))
    edges, time = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.7, 9.0, 3.5])
    event, competing = np.array([1.0, 0, 0, 0, 1]), np.array([0.0, 1, 0, 1, 0])
    expected = 0.0
    for row, t, e, c in zip(z, time, event, competing):
        last = np.digitize(t, edges)
        middle = (*(np.array([0.0, *edges[:-1]]) + edges) / 2, np.inf)[last]
        for k in range(last + 1):
            odds = np.exp(row[k]), np.exp(row[4 + k])
            share = (1.0, *odds) / (1 + sum(odds))
            if k < last or (not e and not c and t > middle):
                expected -= np.log(share[0])
            elif e or c:
                expected -= np.log(share[1 if e else 2])
    tensors = [torch.from_numpy(a) for a in (z, time, event, edges, competing)]
    assert discrete_time_loss(*tensors).item() == pytest.approx(expected / 5, rel=1e-9)
    logits = tensors[0].requires_grad_()
    assert gradcheck(lambda z: discrete_time_loss(z, *tensors[1:]), (logits,))


def test_missing_labels_carry_no_loss():
    logits = torch.randn(6, 3, requires_grad=True)
    target = torch.tensor([[1.0, torch.nan, 0.0]] * 6)
    masked_binary_loss(logits, target).backward()
    assert (logits.grad[:, 1] == 0).all()
    assert (logits.grad[:, 0] != 0).all()
    assert masked_binary_loss(logits, torch.full((6, 3), torch.nan)).item() == 0


def test_every_patient_counts_the_same_in_the_cell_loss():
    logits = torch.randn(12)
    target = torch.tensor([1.0, 0.0, *[torch.nan] * 2, *[1.0] * 8])
    ptr = torch.tensor([0, 4, 12])
    first, second = cell_loss(logits[:4], target[:4], ptr[:2]), cell_loss(logits[4:], target[4:], torch.tensor([0, 8]))
    assert torch.allclose(cell_loss(logits, target, ptr), (first + second) / 2)
    assert cell_loss(logits, torch.full((12,), torch.nan), ptr).item() == 0
