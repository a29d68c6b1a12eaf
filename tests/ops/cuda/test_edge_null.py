import pytest
import torch
from simt.cases import edge_null as cases

from metaniche.errors import GraphError
from metaniche.ops import edge_scores_null, neighborhood_enrichment
from metaniche.ops.cuda import edge_null as op
from metaniche.ops.cuda.pieces import cut

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_dense_matrices_in_float64(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    indptr, indices, score, types = cases.problem(70, 4, "cpu")
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append(op.edge_sums(indptr, indices, score, types, 4))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def graph():
    """Without the self edge."""
    indptr, indices, score, types = cases.problem(50, 4, "cpu")
    own = torch.arange(50).repeat_interleave(indptr.diff()) == indices
    indptr = indptr - torch.cat((torch.zeros(1, dtype=torch.int64), own.cumsum(0)))[indptr]
    return score[~own], indptr, indices[~own], types


def test_pieces_of_more_rows_give_the_same(simt, monkeypatch):
    """A type's 30 cells in pieces of nine."""
    indptr, indices, score, types = cases.problem(70, 4, "cpu")
    pieces = []
    monkeypatch.setattr(op, "cut", lambda ptr, most: pieces.append(most) or cut(ptr, most))
    with simt():
        expected = op.type_sums(indptr, indices, score, types, 4)
        monkeypatch.setattr(op, "ROWS_A_PIECE", 1)
        monkeypatch.setattr(op, "MOST_SUMS", 32)
        assert torch.allclose(op.type_sums(indptr, indices, score, types, 4), expected, rtol=1e-12, atol=1e-12)
    assert pieces == [32, 9]


def test_the_public_ops_run_it(simt, on_gpu):
    score, *rest = graph()
    with simt(), on_gpu("edge_null"):
        found = edge_scores_null(score, *rest, 4)
    for a, b in zip(found, edge_scores_null(score, *rest, 4)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_enrichment_has_the_bits_of_the_cpu(simt, on_gpu):
    """All sums are whole numbers."""
    _, *rest = graph()
    with simt(), on_gpu("edge_null"):
        found = neighborhood_enrichment(*rest, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, neighborhood_enrichment(*rest, 4)))


def test_a_type_out_of_range_is_told_on_any_device(simt, on_gpu, monkeypatch):
    score, indptr, indices, types = graph()
    monkeypatch.setattr("metaniche.ops.edge_null.check_indices", lambda *_: None)
    with simt(), on_gpu("edge_null"), pytest.raises(GraphError, match="found 4"):
        edge_scores_null(score, indptr, indices, types + 1, 4)
