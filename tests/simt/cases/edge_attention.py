"""Edge attention against a dense softmax in float64."""

import torch

from metaniche.ops.cuda import edge_attention as op
from metaniche.ops.cuda.edge_attention_tiles import both_tilings
from metaniche.ops.reference.dropout import factors

# Every layout of lanes: several rows a warp, idle slots, several pieces, tails, scalar and 16-byte reads; of a batch's
# edges four, two or one at once, and heads of more lanes than a batch has edges.
SHAPES = ((4, 16), (1, 8), (3, 12), (2, 5), (8, 32), (1, 64), (8, 64), (1, 128), (32, 32))
DTYPES = (torch.float32, torch.bfloat16)
SEED = 2**63 - 5
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def random_graph(n, seed=0):
    """(n, n) bool: a row of all cells, rows without edges at both ends, and no multiple of a block's rows."""
    near = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < 0.3
    near[1] = True
    near[0] = near[n // 2] = near[-1] = False
    near.fill_diagonal_(False)
    near[2, 2] = True
    return near


def problem(near, heads, width, dtype, device, seed=0):
    """A gradient, and the op's tensors on a graph."""
    n, g = len(near), torch.Generator().manual_seed(seed)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    q, k, v, grad = (torch.randn(n, heads, width, generator=g).to(dtype) for _ in range(4))
    bias = 3 * torch.randn(len(indices), heads, generator=g)
    null = torch.randn(heads, generator=g)
    return grad.to(device), [x.to(device) for x in (q, k, v, indptr, indices, bias, null)]


def oracle(near, grad, q, k, v, indptr, indices, bias, null, dropout=0.0, seed=0):
    """Output, log-sum-exp and the five gradients from a dense softmax."""
    q, k, v, bias, null = (x.cpu().double().requires_grad_() for x in (q, k, v, bias, null))
    logit = torch.einsum("nhd,mhd->hnm", q, k) / q.shape[-1] ** 0.5
    spread = torch.zeros(q.shape[1], *near.shape, dtype=torch.float64)
    kept = spread.masked_scatter(near.expand_as(spread), factors(*bias.shape, dropout, seed).t())
    spread = spread.masked_scatter(near.expand_as(spread), bias.t())
    logit = (logit + spread).masked_fill(~near, -torch.inf)
    full = torch.cat((logit, null[:, None, None].expand(-1, len(near), 1)), dim=2)
    out = torch.einsum("hnm,mhd->nhd", full.softmax(2)[:, :, :-1] * kept, v)
    grads = torch.autograd.grad(out, (q, k, v, bias, null), grad.cpu().double())
    return [out.detach(), full.logsumexp(2).t().detach(), *grads]


def check(device, heads, width, dtype, near, dropout=0.0, by_tiles=False):
    grad, tensors = problem(near, heads, width, dtype, device)
    tiles = both_tilings(*tensors[3:5]) if by_tiles else (None, None)
    out, lse = op.forward(*tensors, dropout, SEED, tiles[0])
    grads = op.backward(grad, *tensors, out, lse, dropout, SEED, *tiles)
    names = ("out", "lse", "grad_q", "grad_k", "grad_v", "grad_bias", "grad_null")
    for name, found, expected in zip(names, (out, lse, *grads), oracle(near, grad, *tensors, dropout, SEED)):
        error = (found.cpu().double() - expected).norm() / expected.norm().clamp(min=1e-12)
        assert error < TOLERANCE[dtype], f"{name} of {heads} x {width} {dtype}: relative error {error:.2e}"
    assert (out.cpu()[~near.any(1)] == 0).all()


def row_longer_than_a_warp(device):
    check(device, 4, 16, torch.float32, random_graph(70))


def dropout(device):
    check(device, 3, 12, torch.float32, random_graph(11), dropout=0.4)


def large_logits(device):
    _, (q, k, v, indptr, indices, bias, null) = problem(random_graph(9), 2, 8, torch.float32, device)
    out, lse = op.forward(q, k, v, indptr, indices, bias * 1e4, null)
    assert torch.isfinite(out).all()
    assert torch.isfinite(lse).all()


def nan_is_heard_by_its_receivers_alone(device):
    """Rows that have no edges left go along with those that have, and must not hear whoever stands at place 0."""
    near = random_graph(11)
    near[3] = False
    near[3, 0] = True
    grad, (q, k, v, *graph, bias, null) = problem(near, 3, 12, torch.float32, device)
    v[0] = torch.nan
    tensors = q, k, v, *graph, bias, null
    out, lse = op.forward(*tensors)
    grad_q, *_ = op.backward(grad, *tensors, out, lse)
    for found in (out, grad_q):
        assert torch.equal(found.isnan().any(2).any(1).cpu(), near[:, 0])


def no_edges(device):
    n, cells = 5, torch.ones(5, 2, 4, device=device)
    indptr, indices = torch.zeros(n + 1, dtype=torch.int64, device=device), cells.new_empty(0, dtype=torch.int32)
    tensors = cells, cells, cells, indptr, indices, cells.new_empty(0, 2), cells.new_zeros(2)
    out, lse = op.forward(*tensors)
    grads = op.backward(cells, *tensors, out, lse)
    assert (out == 0).all()
    assert (lse == 0).all()
    assert all((grad == 0).all() for grad in grads)


def layout(heads, width, dtype):
    def case(device):
        check(device, heads, width, dtype, random_graph(11))

    case.__name__ = f"layout_{heads}x{width}_{str(dtype).removeprefix('torch.')}"
    return case


CASES = (
    *(layout(heads, width, dtype) for heads, width in SHAPES for dtype in DTYPES),
    row_longer_than_a_warp,
    dropout,
    large_logits,
    nan_is_heard_by_its_receivers_alone,
    no_edges,
)
# Enough to notice every mutant.
SHORT = (
    layout(3, 12, torch.float32),
    layout(2, 5, torch.bfloat16),
    large_logits,
    layout(8, 32, torch.float32),
    nan_is_heard_by_its_receivers_alone,
    dropout,
)
