"""Segment operations against loops in float64."""

from itertools import pairwise

import torch

from metaniche.ops.cuda import segment as op


def rows(sizes, width, device, dtype, seed=0):
    g = torch.Generator().manual_seed(seed)
    indptr = torch.tensor([0, *sizes]).cumsum(0)
    x = torch.randn(int(indptr[-1]), *width, generator=g, dtype=torch.float64).to(dtype)
    return x.to(device), indptr.to(device)


def oracle(kind, x, indptr):
    parts = [x[first:last] for first, last in pairwise(indptr.tolist())]
    if kind == "softmax":
        return torch.cat([part.softmax(0) for part in parts])
    plain = {"sum": lambda p: p.sum(0), "max": lambda p: p.amax(0)}[kind]
    return torch.stack([plain(part) if len(part) else x.new_zeros(x.shape[1:]) for part in parts])


def check(device, kind, sizes, width, dtype=torch.float32):
    x, indptr = rows(sizes, width, device, dtype)
    found = getattr(op, f"segment_{kind}")(x, indptr).cpu().double()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert torch.allclose(found, oracle(kind, x.cpu().double(), indptr), rtol=tolerance, atol=tolerance), kind


def short_rows(kind, width):
    def case(device):
        check(device, kind, (0, 3, 1, 0, 40, 5, 2, 9, 1, 0), width)

    case.__name__ = f"short_rows_{kind}_{'x'.join(map(str, width)) or 'flat'}"
    return case


def long_rows(kind, width):
    def case(device):
        check(device, kind, (700, 0, 301), width)

    case.__name__ = f"long_rows_{kind}_{'x'.join(map(str, width)) or 'flat'}"
    return case


def double(device):
    check(device, "softmax", (4, 0, 33), (2,), torch.float64)
    check(device, "sum", (4, 0, 33), (2,), torch.float64)


def nan_is_not_lost_in_a_maximum(device):
    x = torch.tensor([1.0, torch.nan, 2.0, 3.0], device=device)
    assert op.segment_max(x, torch.tensor([0, 3, 4], device=device)).isnan().tolist() == [True, False]


def nothing_at_all(device):
    x, indptr = torch.zeros(0, 3, device=device), torch.tensor([0, 0, 0], device=device)
    assert op.segment_max(x, indptr).tolist() == [[0.0] * 3] * 2
    assert op.segment_softmax(x, indptr).shape == (0, 3)


KINDS = ("sum", "max", "softmax")
CASES = (
    *(short_rows(kind, width) for kind in KINDS for width in ((), (3,))),
    *(long_rows(kind, width) for kind in ("max", "softmax") for width in ((), (33,))),
    short_rows("sum", (2, 20)),
    double,
    nan_is_not_lost_in_a_maximum,
    nothing_at_all,
)
SHORT = (*(short_rows(kind, (3,)) for kind in KINDS), long_rows("softmax", (3,)), long_rows("max", (3,)))
