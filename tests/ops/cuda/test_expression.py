from importlib import import_module

import pytest
import torch
from simt.cases import expression as cases
from simt.cases.ligrec import expression

public = import_module("metaniche.ops.expression")


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_loops_in_float64(simt, case):
    for seed in (0, 1, 2):
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize("sparse", [True, False])
def test_the_public_op_runs_it(simt, on_gpu, sparse):
    x = expression(5, cases.GENES, 0.6, torch.Generator().manual_seed(2), sparse)
    ptr, genes = cases.complexes()
    with simt(), on_gpu("expression"):
        found = public.complex_expression(x, ptr, genes)
    expected = public.complex_expression(x, ptr, genes)
    assert found.layout == expected.layout
    assert torch.equal(found.to_dense(), expected.to_dense())
