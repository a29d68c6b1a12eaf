import pytest
import torch
from simt.cases import edge_attention as rows
from simt.cases import edge_attention_tiles as cases

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import edge_attention as op
from metaniche.ops.cuda import edge_attention_tiles as tiles
from metaniche.ops.edge_attention import edge_attention as public

SEEDS = (0, 1, 2)


def csr(near):
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    return indptr, near.nonzero()[:, 1].to(torch.int32)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_a_dense_softmax(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    grad, tensors = rows.problem(cases.graph(70, 4), 2, 16, torch.float32, "cpu")
    made, results = tiles.both_tilings(*tensors[3:5]), []
    for seed in SEEDS:
        with simt(seed):
            out, lse = op.forward(*tensors, 0.2, 1, made[0])
            results.append((out, lse, *op.backward(grad, *tensors, out, lse, 0.2, 1, *made)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_both_ways_give_the_same(simt):
    grad, tensors = rows.problem(cases.graph(70, 8), 4, 16, torch.float32, "cpu")
    results = []
    with simt():
        for made in ((None, None), tiles.both_tilings(*tensors[3:5])):
            out, lse = op.forward(*tensors, 0.1, 3, made[0])
            results.append((out, lse, *op.backward(grad, *tensors, out, lse, 0.1, 3, *made)))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*results))


@pytest.mark.parametrize("at_once", [2**26, 500])
def test_tiles_lead_back_to_the_graph(monkeypatch, at_once):
    """Whether they are made in one part or in several."""
    monkeypatch.setattr(tiles, "EDGES_AT_ONCE", at_once)
    for n, dtype in ((150, torch.uint8), (400, torch.int16)):
        near = cases.graph(n, 7)
        near[70] = True
        indptr, indices = csr(near)
        made = tiles.tiling(indptr, indices)
        assert made.local.dtype == dtype
        assert made.ptr.tolist()[0] == 0
        assert made.ptr.tolist()[-1] == made.columns.numel()
        for t in range(len(made.ptr) - 1):
            own = slice(int(indptr[32 * t]), int(indptr[min(32 * t + 32, n)]))
            columns = made.columns[made.ptr[t] : made.ptr[t + 1]]
            assert torch.equal(columns, indices[own].unique())
            assert torch.equal(columns[made.local[own].long()], indices[own])


@pytest.fixture
def of_any_size(monkeypatch):
    """Small graphs may have tiles."""
    monkeypatch.setattr(tiles, "LEAST_ROWS", 0)


def test_no_tiles_without_edges_or_order_or_reuse(of_any_size):
    nothing = torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    assert tiles.tiling(*nothing) is None
    assert tiles.worthwhile(*nothing) is None
    unsorted = torch.tensor([0, 2, 2]), torch.tensor([1, 0], dtype=torch.int32)
    assert tiles.tiling(*unsorted) is None
    # 32 rows of one ring: each sender has two receivers in the tile; in a graph of loops none has.
    ring = (torch.arange(32)[:, None] + torch.arange(2)).flatten() % 32
    indptr = torch.arange(0, 65, 2)
    ascending = ring.view(32, 2).sort(1)[0].flatten().to(torch.int32)
    assert tiles.worthwhile(indptr, ascending) is not None
    apart = torch.eye(32, dtype=torch.bool)
    assert tiles.worthwhile(*csr(apart)) is None


def test_small_graphs_go_by_rows():
    indices = torch.zeros(tiles.LEAST_ROWS, dtype=torch.int32)
    indptr = torch.arange(tiles.LEAST_ROWS + 1)
    assert tiles.worthwhile(indptr, indices) is not None
    assert tiles.worthwhile(indptr[:-1], indices[:-1]) is None


def test_no_tiles_for_more_senders_than_places():
    n = 40_000
    indptr = torch.full((n + 1,), n)
    indptr[0] = 0
    assert tiles.tiling(indptr, torch.arange(n, dtype=torch.int32)) is None


@pytest.mark.parametrize(
    ("heads", "width", "dtype", "expected"),
    [
        (4, 64, torch.bfloat16, (8, 1, 192)),  # a head a block
        (4, 64, torch.float32, (8, 1, 96)),
        (4, 16, torch.bfloat16, (2, 4, 192)),  # all heads in one block
        (3, 12, torch.float32, (4, 2, 256)),  # a slot of the second block stands idle
    ],
)
def test_layout_of_the_lanes(heads, width, dtype, expected):
    how = tiles.defines(heads, width, dtype)
    assert (how["GROUP"], how["SLOTS"], how["CHUNK"]) == expected


def test_heads_that_do_not_fill_their_lanes_go_by_rows(of_any_size):
    graph = csr(cases.graph(70, 20))
    for heads, width, dtype, fits in (
        (4, 16, torch.bfloat16, True),
        (2, 16, torch.bfloat16, False),  # four would have room
        (1, 64, torch.float32, True),
        (1, 128, torch.float32, False),  # too many channels for the registers
    ):
        assert (tiles.chosen(torch.zeros(70, heads, width, dtype=dtype), *graph) is not None) == fits


def test_steps_on_one_graph_share_its_tiles_and_its_transpose(simt, on_gpu, of_any_size, monkeypatch):
    near = cases.graph(70, 12)
    grad, (q, k, v, indptr, indices, bias, null) = rows.problem(near, 4, 16, torch.float32, "cpu")
    made = []
    monkeypatch.setattr(tiles, "tiling", lambda *given, of=tiles.tiling: made.append(given) or of(*given))
    with simt(), on_gpu("edge_attention"):
        for _ in range(3):
            out = public(q.requires_grad_(), k, v, indptr, indices, bias, null)
            out.backward(grad)
    (_, senders), (_, receivers) = made  # once by receiver and once by sender
    assert senders is indices
    assert receivers is by_sender(indptr, indices).receivers


def test_the_public_op_takes_the_tiles_that_pay(simt, on_gpu, of_any_size):
    near = cases.graph(70, 12)
    grad, (q, k, v, indptr, indices, bias, null) = rows.problem(near, 4, 16, torch.float32, "cpu")
    floats = [x.requires_grad_() for x in (q, k, v, bias, null)]
    assert tiles.chosen(q, indptr, indices) is not None
    with simt(), on_gpu("edge_attention"):
        out = public(q, k, v, indptr, indices, bias, null, dropout=0.3, seed=4)
        found = torch.autograd.grad(out, floats, grad)
    given = (x.detach() for x in (q, k, v)), (indptr, indices), (x.detach() for x in (bias, null))
    expected = rows.oracle(near, grad, *(x for part in given for x in part), 0.3, 4)
    for own, other in zip((out, *found), (expected[0], *expected[2:])):
        assert (own.double() - other).norm() < 2e-5 * other.norm()
