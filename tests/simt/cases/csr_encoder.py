"""Sparse rows times dense weights and its two gradients against dense products in float64."""

import torch

from metaniche.ops.cuda import csr_encoder as op

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def problem(n, genes, width, dtype, device, density=0.3, seed=0):
    """Expression with empty rows, a full row and a full last gene; no multiple of a block's rows."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, genes, generator=g, dtype=torch.float64) * (torch.rand(n, genes, generator=g) < density)
    x[1] = torch.randn(genes, generator=g, dtype=torch.float64)
    x[:, -1] = torch.randn(n, generator=g, dtype=torch.float64)
    x[0] = x[n // 2] = 0
    present = x != 0
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), present.sum(1).cumsum(0)))
    weight, grad = (torch.randn(rows, width, generator=g).to(dtype) for rows in (genes, n))
    values = x[present].to(dtype)
    dense = torch.zeros_like(x).masked_scatter(present, values.double())
    csr = [t.to(device) for t in (indptr, present.nonzero()[:, 1].int(), values)]
    return dense, csr, weight.to(device), grad.to(device)


def check(device, width, dtype=torch.float32, n=13, genes=9):
    x, (indptr, indices, values), weight, grad = problem(n, genes, width, dtype, device)
    expected = x @ weight.cpu().double(), x.t() @ grad.cpu().double(), (grad.cpu().double() @ weight.cpu().double().t())
    found = (
        op.csr_encoder(indptr, indices, values, weight),
        op.weight_gradient(indptr, indices, values, grad, genes),
        op.values_gradient(indptr, indices, weight, grad),
    )
    for name, own, other in zip(("out", "weight", "values"), found, (*expected[:2], expected[2][x != 0])):
        error = (own.cpu().double() - other).abs().max() / max(float(other.abs().max()), 1.0)
        assert error <= 3 * TOLERANCE[dtype], f"{name} of width {width}: {error:.1e}"


def of_width(width, dtype=torch.float32):
    def case(device):
        check(device, width, dtype)

    case.__name__ = f"width_{width}_{op.defines(width, dtype)['VALUE']}"
    return case


def rows_longer_than_a_warp(device):
    check(device, 5, n=11, genes=70)


def a_gene_of_several_pieces(device):
    """A gene that every cell expresses is summed piece by piece."""
    n = 2 * 2048 + 5
    g = torch.Generator().manual_seed(1)
    indptr, indices = torch.arange(n + 1), torch.zeros(n, dtype=torch.int32)
    values, grad = torch.randn(n, generator=g), torch.randn(n, 3, generator=g)
    given = (x.to(device) for x in (indptr, indices, values, grad))
    found = op.weight_gradient(*given, 2).cpu().double()
    assert torch.allclose(found[0], values.double() @ grad.double(), atol=1e-3)
    assert (found[1] == 0).all()


def nothing_at_all(device):
    none = torch.zeros(0, dtype=torch.int32, device=device), torch.zeros(0, device=device)
    weight = torch.zeros(3, 2, device=device)
    for n in (0, 4):
        indptr = torch.zeros(n + 1, dtype=torch.int64, device=device)
        assert op.csr_encoder(indptr, *none, weight).tolist() == [[0.0, 0.0]] * n
        assert (op.weight_gradient(indptr, *none, weight.new_ones(n, 2), 3) == 0).all()
        assert op.values_gradient(indptr, none[0], weight, weight.new_ones(n, 2)).shape == (0,)


# Every layout: lanes on entries or on columns, several columns a lane, a tail in the last tile.
CASES = (
    *(of_width(width) for width in (1, 2, 5, 32, 33, 100, 150)),
    of_width(7, torch.float64),
    rows_longer_than_a_warp,
    a_gene_of_several_pieces,
    nothing_at_all,
)
SHORT = tuple(of_width(width) for width in (5, 1, 2, 33, 150))
