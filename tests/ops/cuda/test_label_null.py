import pytest
import torch
from simt.cases import label_null as cases

from metaniche.errors import GraphError
from metaniche.ops import cluster_means_permutations
from metaniche.ops.cuda import label_null as op

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_shuffles_one_by_one(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize("stop_after", [None, 4])
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_the_public_op_has_the_bits_of_the_cpu(simt, on_gpu, stop_after, layout):
    """Permutations, sums and scores: every one of them, rounded steps and whole numbers alike."""
    x, types, lig, rec = cases.problem(50, 6, 4, 8)
    x[:, 3] = (x[:, 3] * 20).round()
    x = x if layout == "dense" else x.to_sparse_csr()
    with simt(), on_gpu("label_null"):
        found = cluster_means_permutations(x, types, 4, lig, rec, 40, seed=-5, stop_after=stop_after)
    expected = cluster_means_permutations(x, types, 4, lig, rec, 40, seed=-5, stop_after=stop_after)
    assert all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in zip(found, expected))


def test_values_that_are_not_finite_are_refused(simt, on_gpu):
    x, types, lig, rec = cases.problem(20, 3, 2, 2)
    for value in (torch.nan, -torch.inf):
        x[4, 0] = value
        with simt(), on_gpu("label_null"), pytest.raises(GraphError, match="finite"):
            cluster_means_permutations(x, types, 2, lig, rec, 5)


def test_shared_memory_is_for_a_power_of_two_of_types():
    assert [op.defines(n)["TYPES"] for n in (1, 8, 9, 200, 256)] == [8, 8, 16, 256, 256]
    assert 32767 * op.ENTRIES_A_PIECE < 2**31
