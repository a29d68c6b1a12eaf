import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import GraphError
from metaniche.ops import use_backend
from metaniche.ops.by_sender import by_sender


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def graph(rows, senders, edges, seed):
    """Senders of random rows, some of them empty, in any order and more than once."""
    g = torch.Generator().manual_seed(seed)
    counts = torch.bincount(torch.randint(rows, (edges,), generator=g), minlength=rows)
    indices = torch.randint(senders, (edges,), generator=g, dtype=torch.int32)
    return torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0))), indices


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 300), st.integers(0, 99))
def test_the_edges_that_leave_each_sender_in_ascending_order(rows, senders, edges, seed):
    indptr, indices = graph(rows, senders, edges, seed)
    found = by_sender(indptr, indices, senders)
    row = torch.arange(rows).repeat_interleave(indptr.diff())
    for j in range(senders):
        own = found.edges[found.indptr[j] : found.indptr[j + 1]]
        assert own.tolist() == (indices == j).nonzero()[:, 0].tolist()
        assert found.receivers[found.indptr[j] : found.indptr[j + 1]].tolist() == row[own].tolist()
    assert found.indptr[-1] == edges
    assert [x.dtype for x in found] == [torch.int64, torch.int32, torch.int64]


def test_any_number_of_threads_finds_the_same(threads):
    indptr, indices = graph(20_000, 20_000, 200_000, seed=3)
    found = by_sender(indptr, indices)
    with use_backend("reference"):
        expected = by_sender(indptr, indices.clone())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_as_many_senders_as_rows_unless_told():
    indptr, indices = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0], dtype=torch.int32)
    assert [x.tolist() for x in by_sender(indptr, indices)] == [[0, 2, 3], [0, 1, 0], [0, 2, 1]]
    assert by_sender(indptr, indices, 4).indptr.tolist() == [0, 2, 3, 3, 3]


def test_kept_for_the_layers_that_share_a_graph():
    indptr, indices = graph(5, 5, 12, seed=1)
    assert by_sender(indptr, indices) is by_sender(indptr, indices)


@pytest.mark.parametrize(
    "indices", [torch.tensor([0, 2], dtype=torch.int32), torch.tensor([0, -1], dtype=torch.int32), torch.tensor([0, 1])]
)
def test_senders_that_are_none_are_refused(indices):
    with pytest.raises(GraphError, match="indices"):
        by_sender(torch.tensor([0, 1, 2]), indices)
