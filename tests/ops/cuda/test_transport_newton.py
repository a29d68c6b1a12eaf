import numpy as np
import pytest
import torch

from metaniche.ops.cuda.transport_newton import Columns, solve

PAIRS = np.array([[3, 0], [0, 1], [0, 2], [2, 1]], dtype=np.int32)
GROUPS = np.array([1, 0, 0, 0], dtype=np.int32)
SAMPLES = torch.tensor([0, 4, 4, 7])


def test_columns_stand_group_after_group_and_are_summed_by_sample(simt):
    columns = Columns(PAIRS[:, 0], GROUPS, SAMPLES)
    assert columns.ids.tolist() == [0, 2, 3]
    assert columns.of_pair.tolist() == [2, 0, 0, 1]
    assert columns.group.tolist() == [0, 0, 1]
    x = torch.randn(7, 3, dtype=torch.float64)
    with simt():
        total, longest = columns.sum(x), columns.longest(x)
    for s, rows in enumerate((x[:4], x[4:4], x[4:])):
        for g, part in enumerate((rows[:, :2], rows[:, 2:])):
            assert torch.isclose(total[s, g], part.sum())
            assert longest[s, g] == (part.abs().max() if part.numel() else 0)
            assert (columns.each(total)[SAMPLES[s] : SAMPLES[s + 1], columns.group == g] == total[s, g]).all()


def line(n=7):
    """Every cell of a sample sends to the next; the last of each sends to nobody."""
    has = torch.tensor([0, 1, 1, 1, 0, 1, 1][:n])
    senders = (torch.arange(n) - 1)[has > 0].int()
    g = torch.Generator().manual_seed(0)
    ligand, receptor = (0.1 + torch.rand(n, 4, generator=g, dtype=torch.float64) for _ in range(2))
    edges = torch.cat((has.new_zeros(1), has.cumsum(0))), senders, torch.full((len(senders),), 0.5).double()
    return ligand / ligand.sum(), receptor / receptor.sum(), edges


@pytest.mark.parametrize("seed", [0, 1])
def test_marginals_hold_and_mass_that_cannot_move_is_slack(simt, seed):
    ligand, receptor, edges = line()
    with simt(seed):
        log_u, log_v, products, error = solve(ligand, receptor, PAIRS, GROUPS, SAMPLES, edges, 4.0, 1e-9, 1000)
    assert (error <= 1e-9).all()
    assert products[1] == 0
    assert (products[::2] > 0).all()
    assert log_u[:, 1].isneginf().all()
    assert torch.allclose(log_u[[3, 6]][:, [0, 2, 3]], ligand[[3, 6]][:, [0, 2, 3]].log() + 4.0)
    u, v, slack = log_u.exp(), log_v.exp(), np.exp(-4.0)
    sent, received = u * slack, v * slack
    for ligand_id, receptor_id in PAIRS:
        for i in (1, 2, 3, 5, 6):
            moved = u[i - 1, ligand_id] * 0.5 * v[i, receptor_id]
            sent[i - 1, ligand_id] += moved
            received[i, receptor_id] += moved
    assert torch.allclose(sent[:, [0, 2, 3]], ligand[:, [0, 2, 3]], rtol=1e-9)
    assert torch.allclose(received[:, :3], receptor[:, :3], rtol=1e-7)


def test_the_number_of_products_is_bounded_and_the_error_is_told(simt):
    ligand, receptor, edges = line()
    with simt():
        log_u, _, products, error = solve(ligand, receptor, PAIRS, GROUPS, SAMPLES, edges, 50.0, 1e-12, 2)
    assert (products[::2] <= 2 * 15).all()
    assert error[0] > 1e-12
    assert log_u[:, [0, 2, 3]].isfinite().all()


def test_without_pairs_nothing_moves():
    ligand, receptor, edges = line()
    log_u, log_v, products, error = solve(ligand, receptor, PAIRS[:0], GROUPS[:0], SAMPLES, edges, 4.0, 1e-9, 10)
    assert log_u.isneginf().all()
    assert log_v.isneginf().all()
    assert (products == 0).all()
    assert (error == 0).all()
