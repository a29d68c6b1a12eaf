import pytest
from simt.cases import nearest as cases

from metaniche.ops.cuda import nearest as op


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_all_pairs(simt, case):
    for seed in (0, 1, 2):
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize(("k", "most"), [(1, 8), (7, 8), (8, 16), (31, 32)])
def test_a_thread_keeps_one_more_than_its_neighbours(k, most):
    """The next nearest tells whether they are sure."""
    assert op.few_defines(2, True, k)["MOST"] == most


def test_too_many_neighbours_are_left_to_the_cpu():
    assert op.unable(256) is None
    assert "256" in op.unable(257)
