"""Ligand-receptor logits and their gradients against every edge by every pair in float64."""

import torch
from simt.cases.ligrec import ROWS, expression, graph, pairs_of

from metaniche.ops.cuda import pair_logits as op
from metaniche.ops.expression import Expression


def problem(heads, genes=64, pairs=100, sparse=True, dtype=torch.float32, density=0.4, seed=0):
    """Dense expression in float64, and what the kernels take."""
    g = torch.Generator().manual_seed(seed)
    left, right = (expression(len(ROWS), genes, density, g, False, torch.float64) for _ in range(2))
    # Gradients may have any sign, so does expression here.
    left, right = left - left.sign() * 1.5, right - right.sign() * 1.5
    weight = torch.randn(heads, pairs, generator=g, dtype=torch.float64)
    graph_pairs = pairs_of(genes, pairs, g), pairs_of(genes, pairs, g), *graph(g)
    sides = (Expression.of((x.to_sparse_csr() if sparse else x).to(dtype), "x") for x in (left, right))
    slope = torch.randn(graph_pairs[3].numel(), heads, generator=g, dtype=torch.float64)
    return (left, right, weight, slope), (*sides, weight.to(dtype), *graph_pairs), slope.to(dtype)


def oracle(left, right, weight, slope, lig, rec, indptr, indices):
    """Logits, then gradients of ligand, receptor and weight."""
    floats = [x.clone().requires_grad_() for x in (left, right, weight)]
    receivers = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff())
    product = floats[0][indices.long()][:, lig.long()] * floats[1][receivers][:, rec.long()]
    logits = product @ floats[2].t()
    return logits.detach(), *torch.autograd.grad((logits * slope).sum(), floats)


def on(device, x):
    if isinstance(x, Expression):
        parts = (part if part is None else part.to(device) for part in (x.ptr, x.columns))
        return Expression(x.values.to(device), x.shape, *parts)
    return x.to(device)


def close(found, expected, tolerance):
    scale = expected.abs().max().clamp(min=1)
    return torch.allclose(found.cpu().double(), expected, rtol=tolerance, atol=tolerance * float(scale))


def check(device, heads, **how):
    exact, given, slope = problem(heads, **how)
    logits, *grads = oracle(*exact, *given[3:])
    tolerance = 1e-11 if slope.dtype == torch.float64 else 1e-5
    inputs = [on(device, x) for x in given]
    assert close(op.forward(*inputs), logits, tolerance)
    found = op.backward(slope.to(device), *inputs, [True] * 3)
    for own, other, x in zip(found, grads, (*exact[:2], None)):
        sparse = x is not None and how.get("sparse", True)
        assert close(own, other[x != 0] if sparse else other, tolerance)


def three_heads(device):
    check(device, 3)


def nine_heads(device):
    """More heads than lie side by side."""
    check(device, 9)


def dense_expression(device):
    check(device, 4, sparse=False)


def double(device):
    check(device, 2, sparse=False, dtype=torch.float64)


def genes_without_a_pair(device):
    """A whole transcriptome, of which pairs name a few genes."""
    for sparse in (True, False):
        check(device, 3, genes=13_000, pairs=60, density=0.02, sparse=sparse)


def long_rows_of_expression(device):
    check(device, 3, genes=200, density=0.9)


def only_what_is_wanted(device):
    _, given, slope = problem(3)
    found = op.backward(slope.to(device), *(on(device, x) for x in given), [False, False, True])
    assert [x.numel() for x in found] == [0, 0, 300]


def nothing_at_all(device):
    _, given, slope = problem(3, pairs=2)
    inputs = [on(device, x) for x in given]
    inputs[2], inputs[3], inputs[4] = inputs[2][:, :0], inputs[3][:0], inputs[4][:0]
    assert (op.forward(*inputs) == 0).all()
    ligand, receptor, weight = op.backward(slope.to(device), *inputs, [True] * 3)
    assert (ligand == 0).all()
    assert (receptor == 0).all()
    assert weight.shape == (3, 0)


CASES = (
    three_heads,
    nine_heads,
    dense_expression,
    double,
    genes_without_a_pair,
    long_rows_of_expression,
    only_what_is_wanted,
    nothing_at_all,
)
SHORT = (three_heads, nine_heads, long_rows_of_expression)
