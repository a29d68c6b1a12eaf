import logging

import pytest
import torch

from metaniche.ops import cluster_means_permutations, steps
from metaniche.ops.expression import Expression
from metaniche.ops.steps import LARGEST, steps_of

FORMS = [torch.Tensor.contiguous, torch.Tensor.to_sparse_csr]


def told_of(x, form, caplog):
    """The steps of all genes, and the warnings."""
    cells = Expression.of(form(x), "x")
    with caplog.at_level(logging.WARNING, logger=steps.__name__):
        scale = steps_of(cells, torch.arange(x.shape[1]), x.double().abs().amax(0), (x == x.round()).all(0))
    return scale, caplog.messages


@pytest.mark.parametrize("form", FORMS)
def test_whole_numbers_that_fit_are_their_own_steps_and_others_reach_the_largest(form, caplog):
    x = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    x[:, 0], x[:, 1], x[:, 2] = torch.arange(300), torch.arange(300) * 1000, 0
    scale, told = told_of(x, form, caplog)
    assert scale[[0, 2]].tolist() == [1, 1]
    torch.testing.assert_close(scale[[1, 3]] * LARGEST, x.double()[:, [1, 3]].amax(0))
    assert told == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cells", [60, 4096])
def test_genes_whose_outlier_makes_steps_coarse_are_told_of(form, cells, caplog, monkeypatch):
    monkeypatch.setattr(steps, "CELLS_LOOKED_AT", cells)
    x = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) * (torch.arange(300) % 3 == 0)[:, None]
    x[7, [0, 2]] = 1e4
    told = told_of(x, form, caplog)[1]
    assert len(told) == 1
    assert "values of 2 genes round by over 1 %" in told[0]


def test_permutations_say_so_once(caplog):
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 1e6
    pair = torch.zeros(2, dtype=torch.int32)
    with caplog.at_level(logging.WARNING):
        cluster_means_permutations(x, (torch.arange(50) % 2).int(), 2, pair, pair, 9)
    assert len([message for message in caplog.messages if "round by over" in message]) == 1
