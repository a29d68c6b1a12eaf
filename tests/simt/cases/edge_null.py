"""Sums of edge scores against dense matrices in float64."""

import torch

from metaniche.ops.cuda import edge_null as op


def problem(n, n_types, device, seed=0, density=0.2):
    """Asymmetric scores; rows and columns of all cells and of none, a type of most cells and one without any."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < density
    near[1] = True
    near[:, 3] = True
    near[0] = near[n // 2] = near[-1] = False
    near[:, 4] = False
    near.fill_diagonal_(False)
    near[5, 5] = True
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    types = torch.randint(n_types, (n,), generator=g, dtype=torch.int32)
    types[torch.rand(n, generator=g) < 0.6] = 0
    types[types == 1] = n_types - 1
    score = torch.rand(len(indices), generator=g, dtype=torch.float64) - 0.3
    return [x.to(device) for x in (indptr, indices, score, types)]


def matrix(indptr, indices, score):
    n = len(indptr) - 1
    w = torch.zeros(n, n, dtype=torch.float64)
    w[torch.arange(n).repeat_interleave(indptr.cpu().diff()), indices.cpu().long()] = score.cpu().double()
    return w


def check(device, n, n_types, **how):
    indptr, indices, score, types = problem(n, n_types, device, **how)
    w = matrix(indptr, indices, score)
    cells = torch.stack((w.sum(1), w.sum(0), (w * w).sum(1), (w * w.t()).sum(1)), 1)
    found = op.cell_sums(indptr, indices, score).cpu()
    assert torch.allclose(found, cells, rtol=1e-12, atol=1e-12), "sums of cells"
    row, column, squares, mutual = cells.unbind(1)
    six = torch.stack([x.sum() for x in (row, squares, mutual, row**2, column**2, row * column)])
    of_type = torch.nn.functional.one_hot(types.cpu().long(), n_types).double()
    found, by_type = (x.cpu() for x in op.edge_sums(indptr, indices, score, types, n_types))
    assert torch.allclose(found, six, rtol=1e-12, atol=1e-12), "six sums"
    assert torch.allclose(by_type, of_type.t() @ w.t() @ of_type, rtol=1e-12, atol=1e-12), "sums by type"


def few_types(device):
    """Row 1 has 33 edges: one more than the lanes bring at once."""
    check(device, 35, 3)


def more_types_than_lanes(device):
    check(device, 75, 40)


def rows_longer_than_a_warp(device):
    check(device, 70, 2, density=0.9)


def counts_are_exact(device):
    indptr, indices, score, types = problem(60, 5, device)
    six, by_type = op.edge_sums(indptr, indices, torch.ones_like(score), types, 5)
    assert six[0] == six[1] == by_type.sum() == indices.numel()


def one_way(device):
    """Cell 0 hears of cell 2 and sends nothing; the next in the list of receivers is cell 2, of cell 1."""
    indptr, indices = torch.tensor([0, 1, 1, 2], device=device), torch.tensor([2, 1], dtype=torch.int32, device=device)
    assert (op.cell_sums(indptr, indices, torch.ones(2, dtype=torch.float64, device=device))[:, 3] == 0).all()


def no_edges(device):
    indptr, indices, score, types = problem(20, 3, device)
    six, by_type = op.edge_sums(torch.zeros_like(indptr), indices[:0], score[:0], types, 3)
    assert (six == 0).all()
    assert (by_type == 0).all()


CASES = (few_types, more_types_than_lanes, rows_longer_than_a_warp, counts_are_exact, one_way, no_edges)
SHORT = (few_types, more_types_than_lanes, one_way)
