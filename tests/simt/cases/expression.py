"""Complexes against loops over their subunits in float64."""

import math

import torch
from simt.cases.ligrec import expression

from metaniche.ops.cuda import expression as op
from metaniche.ops.expression import Expression

CELLS, GENES = 19, 37
# One complex more than a warp has lanes, of one to four subunits.
SIZES = [1 + c % 4 for c in range(33)]


def complexes():
    g = torch.Generator().manual_seed(1)
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    genes = torch.randint(GENES, (int(ptr[-1]),), generator=g, dtype=torch.int32)
    # The first complex is the first gene, the last one is the last.
    genes[-SIZES[-1] :] = GENES - 1
    genes[0] = 0
    return ptr, genes


def oracle(x, ptr, genes, geometric):
    def value(cell, c):
        subunits = [float(cell[g]) for g in genes[ptr[c] : ptr[c + 1]].tolist()]
        return math.prod(subunits) ** (1 / len(subunits)) if geometric else min(subunits)

    return torch.tensor([[value(cell, c) for c in range(len(ptr) - 1)] for cell in x], dtype=torch.float64)


def check(device, geometric, sparse):
    g = torch.Generator().manual_seed(0)
    x = expression(CELLS, GENES, 0.6, g, sparse=False)
    x[4, 0] = 1.0  # where the rows of cell 3, which expresses nothing, would go on
    ptr, genes = complexes()
    given = Expression.of((x.to_sparse_csr() if sparse else x).to(device), "x")
    found = op.complex_expression(given, ptr.to(device), genes.to(device), geometric).cpu()
    expected = oracle(x.double(), ptr, genes, geometric)
    if sparse:
        entries = found.crow_indices().diff()
        assert torch.equal(entries, (expected != 0).sum(1))
        assert torch.equal(found.col_indices(), (expected != 0).nonzero()[:, 1])
        found = found.to_dense()
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-6)


def case_of(how, layout):
    def case(device):
        check(device, how == "geometric", layout == "sparse")

    case.__name__ = f"{how}_of_{layout}"
    return case


def nothing_at_all(device):
    ptr, genes = (x.to(device) for x in complexes())
    for x in (torch.zeros(0, GENES), torch.zeros(0, GENES).to_sparse_csr()):
        assert op.complex_expression(Expression.of(x.to(device), "x"), ptr, genes, False).shape == (0, len(SIZES))


CASES = (
    *(case_of(how, layout) for how in ("minimum", "geometric") for layout in ("dense", "sparse")),
    nothing_at_all,
)
SHORT = (case_of("minimum", "dense"), case_of("minimum", "sparse"))
