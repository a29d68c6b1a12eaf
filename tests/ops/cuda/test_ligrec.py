from importlib import import_module

import pytest
import torch
from simt.cases import ligrec as cases

from metaniche.ops.cuda import ligrec as op

SEEDS = (0, 1, 2)
public = import_module("metaniche.ops.ligrec")


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_sums_over_every_edge_and_pair(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize("score", ["product", "hill"])
def test_every_order_of_threads_gives_the_same_bits(simt, score):
    x = cases.problem("cpu", score)
    slot, types = torch.arange(100, dtype=torch.int32) % 3, torch.arange(11, dtype=torch.int32) % 2
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append((op.signal(x, slot, 3)(0, 11), *op.type_pair_sums(x, types, 2)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


@pytest.mark.parametrize("score", ["product", "hill"])
@pytest.mark.parametrize("sparse", [True, False])
def test_the_public_ops_run_it(simt, on_gpu, score, sparse):
    x = cases.problem("cpu", score, sparse=sparse)
    sides = (cases.dense(side).float() for side in (x.far, x.near))
    ligand, receptor = (side.to_sparse_csr() if sparse else side for side in sides)
    graph = x.indptr, x.indices, x.weight_E
    given = public.LigandReceptor(ligand, receptor, x.far_P, x.near_P, *graph, *cases.SCORES[score])
    group, types = torch.arange(100, dtype=torch.int32) % 3, torch.arange(11, dtype=torch.int32) % 3

    def run():
        by_pair = torch.cat([block for _, block in public.sent_by_pair(given, rows=4)])
        signals = public.received_signal(given), public.sent_signal(given, group), by_pair
        return *signals, *public.type_pair_sums(given, types, 3)

    with simt(), on_gpu("ligrec"):
        found = run()
    for own, other in zip(found, run(), strict=True):
        assert own.dtype == other.dtype
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-4)


def test_what_all_blocks_of_rows_share_is_laid_out_once(simt, on_gpu, monkeypatch):
    x = cases.problem("cpu", "product")
    ligand, receptor = (cases.dense(side).float() for side in (x.far, x.near))
    given = public.LigandReceptor(ligand, receptor, x.far_P, x.near_P, x.indptr, x.indices, x.weight_E)
    laid_out = []
    monkeypatch.setattr(op, "fitting", lambda side, of=op.fitting: laid_out.append(side) or of(side))
    with simt(), on_gpu("ligrec"):
        assert len(list(public.received_by_pair(given, rows=2))) == 6
    assert len(laid_out) == 1


def test_a_gene_that_no_pair_names_takes_no_room():
    assert op.unable(30_000, 2000) is None
    assert "no kernel for pairs of up to 12000 far" in op.unable(12_000, 20_000)
    assert op.unable(2500, 5000, itemsize=8) is None
    assert op.tile_for(704, 2000, 4) == 2048
    assert op.tile_for(704, 20, 4) == 128
    assert op.tile_for(9000, 20_000, 4) == 1024
    assert op.tile_for(2500, 5000, 8) == 2048


def test_pieces_stay_few_however_many_edges(simt, monkeypatch):
    """147 edges in at most ten pieces, beside those that end with their types."""
    most, cut = [], op.pieces.cut
    monkeypatch.setattr(op, "EDGES_A_PIECE", 2)
    monkeypatch.setattr(op, "MOST_PIECES", 10)
    monkeypatch.setattr(op.pieces, "cut", lambda ptr, edges: most.append(edges) or cut(ptr, edges))
    with simt():
        cases.check_types(cases.problem("cpu", "product"))
    assert most == [15]
