"""Kernel products of collective transport against dense sums in float64."""

import numpy as np
import torch

from metaniche.ops.cuda import transport as op

SLACK = 0.03


def problem(n, columns, device, seed=0):
    """A graph with empty rows and a row of all cells, masses with zeros, and pairs that share and skip columns."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < 0.3
    near[1] = True
    near[0] = near[n // 2] = False
    near[-1, :2] = True
    weight = torch.rand(n, n, generator=g, dtype=torch.float64) * near
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    edges = tuple(x.to(device) for x in (indptr, near.nonzero()[:, 1].int(), weight[near]))
    joins = torch.rand(*columns, generator=g) < 0.5
    joins[-1, -1] = True
    masses = []
    for width in (*columns, *columns):
        x = torch.rand(n, width, generator=g, dtype=torch.float64)
        x *= torch.rand(n, width, generator=g) < 0.6
        x[-1, -1] = 0.7
        masses.append(x)
    return weight, edges, joins, masses


def close(name, found, expected):
    assert torch.allclose(found.cpu(), expected, rtol=1e-12, atol=1e-12), name


def products(n, columns):
    """Every kernel of one product; rows of the CSR are receivers."""

    def case(device):
        weight, edges, joins, (a, b, other_a, other_b) = problem(n, columns, device)
        own, other = (x.numpy() for x in joins.nonzero().t())
        to_ligands = op.Joined.of(own, other, columns[0], torch.device(device))
        on_device = [x.to(device) for x in (a, b, other_a, other_b)]
        arriving = to_ligands.spread(on_device[1])
        close("spread", arriving, b @ joins.double().t())
        reached = weight.t() @ arriving.cpu()
        turned = op.turned(*edges)
        share, u = op.senders(turned, arriving, on_device[0], SLACK)
        expected = torch.where(a > 0, 1 / (reached + SLACK), 0.0)
        close("share", share, expected)
        close("u", u, a * expected)
        answer = op.senders_step(turned, arriving, on_device[0], share)
        close("answer", answer, a * expected**2 * reached)
        back = other_a @ joins.double()
        total = op.receivers(edges, back.to(device), on_device[1], SLACK)
        close("total", total, b * (weight @ back + SLACK))
        curved = op.receivers_step(edges, back.to(device), on_device[1], total, on_device[3])
        close("curved", curved, total.cpu() * other_b - b * (weight @ back) * (b > 0))
        columns_of = (torch.from_numpy(np.ascontiguousarray(x)).int().to(device) for x in (other, own))
        amounts = op.amounts(on_device[1], on_device[0], *columns_of, edges)
        close("amounts", amounts, b[:, other] * (weight @ a)[:, own])

    case.__name__ = f"products_{n}_cells_{columns[0]}_ligands_{columns[1]}_receptors"
    return case


def nothing_at_all(device):
    edges = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.float64)
    edges = tuple(x.to(device) for x in edges)
    mass = torch.zeros(0, 2, dtype=torch.float64, device=device)
    assert op.receivers(edges, mass, mass, SLACK).shape == (0, 2)


# One column and several lanes an edge, a part of a warp, a tile and a tail; no multiple of a block's rows.
CASES = (
    *(products(n, columns) for n, columns in ((70, (1, 1)), (13, (3, 2)), (11, (5, 12)), (9, (40, 33)))),
    nothing_at_all,
)
SHORT = (products(13, (3, 2)), products(70, (1, 1)), products(9, (33, 9)))
