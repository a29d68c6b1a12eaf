"""Sums over cells and genes against dense matrices in float64."""

import torch
from simt.cases.edge_null import matrix, problem

from metaniche.ops.cuda import autocorrelation as op


def cells(n, widths, device, dtype=torch.float64, **how):
    """A graph with empty and full rows, and values with a large mean."""
    indptr, indices, weight, _ = problem(n, 2, device, **how)
    g = torch.Generator().manual_seed(1)
    values = [(torch.rand(n, width, generator=g, dtype=torch.float64) + 5).to(device, dtype) for width in widths]
    return values, (indptr, indices, weight.to(dtype))


def deviations(x):
    return x.cpu().double() - x.cpu().double().mean(0)


def close(found, expected, dtype, what):
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    error = (found.cpu() - expected).abs().amax() / expected.abs().amax()
    assert error < tolerance, f"{what}: {error:.1e}"


def check(device, n, width, dtype=torch.float64, **how):
    (x,), graph = cells(n, (width,), device, dtype, **how)
    w, z = matrix(*graph), deviations(x)
    degree = (w.sum(0) + w.sum(1)).to(device)
    found = op.spatial_sums(x, *graph, degree)
    expected = (z * (w @ z)).sum(0), degree.cpu() @ z**2, (z**2).sum(0), (z**4).sum(0)
    for name, own, other in zip(("cross", "around", "squares", "fourths"), found.unbind(1), expected):
        close(own, other, dtype, f"{name} of {width} genes")


def genes(width, n=45, dtype=torch.float64):
    def case(device):
        check(device, n, width, dtype)

    case.__name__ = f"genes_{width}{'' if dtype == torch.float64 else '_single'}"
    return case


genes_130 = genes(130)


def many_cells(device):
    """Several blocks of rows, for one gene."""
    check(device, 600, 1, density=0.02)


def pairs_of_genes(device, dtype=torch.float64):
    (x, y), graph = cells(90, (34, 5), device, dtype)
    g = torch.Generator().manual_seed(2)
    pairs = torch.stack((torch.randint(34, (37,), generator=g), torch.randint(5, (37,), generator=g)), 1)
    for few in (pairs, pairs[:1]):
        cross, lags, squares = op.bivariate_sums(x, y, few.to(device), *graph)
        zx, zy = deviations(x), deviations(y)
        lag = matrix(*graph) @ zx
        close(cross, (lag[:, few[:, 0]] * zy[:, few[:, 1]]).sum(0), dtype, "pairs")
        close(lags, torch.stack((lag.sum(0), (lag**2).sum(0), (zx**2).sum(0)), 1), dtype, "lags")
        close(squares, (zy**2).sum(0), dtype, "squares")


def pairs_single(device):
    pairs_of_genes(device, torch.float32)


def repeated_edges_add_up(device):
    (_,), (indptr, indices, weight) = cells(40, (1,), device)
    twice = indptr * 2, indices.flip(0).repeat_interleave(2).flip(0), (weight / 2).repeat_interleave(2)
    for graph in ((indptr, indices, weight), twice):
        degree, s1, loops = op.weight_sums(*graph)
        w = matrix(indptr, indices, weight)
        close(degree, w.sum(0) + w.sum(1), torch.float64, "degree")
        assert abs(s1 - float((w + w.t()).square().sum() / 2)) < 1e-10
        assert loops == 1


def nothing(device):
    (x, y), graph = cells(20, (0, 3), device)
    assert op.spatial_sums(x, *graph, torch.ones(20, dtype=torch.float64, device=device)).shape == (0, 4)
    pairs = torch.zeros(0, 2, dtype=torch.int64, device=device)
    assert [part.shape for part in op.bivariate_sums(x, y, pairs, *graph)] == [(0,), (0, 3), (3,)]


CASES = (
    *(genes(width) for width in (1, 3, 32, 40)),
    genes_130,
    genes(33, dtype=torch.float32),
    many_cells,
    pairs_of_genes,
    pairs_single,
    repeated_edges_add_up,
    nothing,
)
SHORT = (genes(3), genes_130, many_cells, pairs_of_genes)
