import pytest
import torch
from simt.cases import hilbert as cases

from metaniche.ops import hilbert_order


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_the_reference(simt, case):
    for seed in (0, 1):
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize("dim", [2, 3])
def test_the_public_op_runs_it(simt, on_gpu, dim):
    pos, ptr = cases.cells(dim, "cpu")
    with simt(), on_gpu("hilbert"):
        found = hilbert_order(pos, ptr)
    assert torch.equal(found, hilbert_order(pos, ptr))
