from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.errors import GraphError, InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.signaling import Resource
from metaniche.signaling.competition import compete, competing_signals, flows_between_types
from metaniche.signaling.expression import pair_expression

GRAPH = GraphConfig(contact_um=2.0, radius_um=50.0, max_paracrine=None)


def line(x, genes, pairs, at=(0.0, 10.0, 20.0)):
    """Cells on a line, and the pairs of two columns of names."""
    pos = torch.tensor([[place, 0.0] for place in at], dtype=torch.float32)
    graph = build_graph(pos, torch.tensor([0, len(at)]), GRAPH)
    resource = Resource(pd.DataFrame(pairs, columns=["ligand", "receptor"]), "invented")
    return pair_expression(np.asarray(x, dtype=np.float32), genes, resource), graph


def test_a_receptor_is_shared_between_two_ligands():
    """One unit of receptor cannot take two units of ligand: each pair moves less than it would alone."""
    genes = ["A", "B", "R"]
    x = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    both, graph = line(x, genes, [["A", "R"], ["B", "R"]])
    alone, _ = line(x, genes, [["A", "R"]])
    together = compete(both, graph, 15.0).amounts()[1].sum(0)
    single = compete(alone, graph, 15.0).amounts()[1].sum()
    assert together.sum() <= 1 + 1e-6
    torch.testing.assert_close(together[0], together[1], rtol=1e-6, atol=1e-9)  # as near, as much
    assert together[0] < 0.6 < single


def test_what_did_not_converge_is_said(monkeypatch, caplog):
    from metaniche.signaling import competition

    expression, graph = line([[1, 0], [0, 1]], ["A", "R"], [["A", "R"]], at=(0.0, 10.0))
    compete(expression, graph, 15.0)
    assert not caplog.text
    solve = competition.transport
    monkeypatch.setattr(
        competition, "transport", lambda *a, **how: replace(solve(*a, **how), converged_S=torch.tensor([False]))
    )
    compete(expression, graph, 15.0)
    assert "did not converge in 1 of 1 samples" in caplog.text


def test_a_large_solve_is_said_before(monkeypatch, caplog):
    expression, graph = line([[1, 0], [0, 1]], ["A", "R"], [["A", "R"]], at=(0.0, 10.0))
    compete(expression, graph, 15.0)
    assert not caplog.text
    monkeypatch.setattr("metaniche.signaling.competition.LARGE_BYTES", 1)
    compete(expression, graph, 15.0)
    assert "Competition of 1 ligands and 1 receptors takes about 0.0 GB of memory" in caplog.text


def test_what_is_out_of_reach_stays_unmet():
    expression, graph = line([[1, 0], [0, 0], [0, 1]], ["A", "R"], [["A", "R"]])
    assert compete(expression, graph, 15.0).amounts()[1].sum() == 0
    assert compete(expression, graph, 25.0).amounts()[1].sum() > 0.5


def test_flows_between_types_add_up_to_the_amounts():
    rng = np.random.default_rng(0)
    x = rng.gamma(1.0, 1.0, (30, 4)) * (rng.random((30, 4)) < 0.7)
    expression, graph = line(x, list("ABRS"), [["A", "R"], ["B", "R"], ["B", "S"]], at=np.sort(rng.random(30)) * 300)
    types = torch.from_numpy(rng.integers(0, 3, 30).astype(np.int32))
    solved = compete(expression, graph, 40.0)
    flows = flows_between_types(solved, graph, 40.0, types, 3, range(3))
    sent, received = solved.amounts()
    for amounts, axis in ((sent, 1), (received, 0)):
        by_type = torch.zeros(3, 3, dtype=torch.float64).index_add_(0, types.long(), amounts)
        torch.testing.assert_close(flows.amount.sum(axis), by_type, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(flows.total_P, received.sum(0), rtol=1e-6, atol=1e-9)


def test_the_table_counts_edges_in_reach_and_leaves_out_cells_without_a_type():
    rng = np.random.default_rng(1)
    x = rng.gamma(1.0, 1.0, (30, 4))
    places = np.sort(rng.random(30)) * 300
    expression, graph = line(x, list("ABRS"), [["A", "R"], ["B", "S"]], at=places)
    codes = rng.integers(-1, 2, 30)
    table = competing_signals(expression, pd.Categorical.from_codes(codes, ["a", "b"]), graph, 40.0)
    apart = np.abs(places[:, None] - places)
    near = (apart <= 40) & ~np.eye(30, dtype=bool)
    for row in table.itertuples():
        senders, receivers = (codes == "ab".index(name) for name in (row.sender, row.receiver))
        assert row.n_edges == near[np.ix_(senders, receivers)].sum()
        assert row.share == pytest.approx(row.amount / x[senders, "AB".index(row.ligand)].sum(), rel=1e-5)
    assert set(zip(table["sender"], table["receiver"])) == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    everyone = competing_signals(expression, pd.Categorical.from_codes(codes + 1, ["none", "a", "b"]), graph, 40.0)
    typed = everyone[(everyone["sender"] != "none") & (everyone["receiver"] != "none")]
    assert typed["amount"].sum() == pytest.approx(table["amount"].sum(), rel=1e-6)


def test_a_draw_of_neighbours_is_refused():
    expression, graph = line([[1, 0], [0, 1]], ["A", "R"], [["A", "R"]], at=(0.0, 10.0))
    with pytest.raises(
        GraphError, match=r"all neighbours within reach for competition, found a draw .* max_paracrine=None"
    ):
        compete(expression, replace(graph, weight=torch.full((2,), 3.0)), 15.0)


def test_what_cannot_be_is_refused():
    expression, graph = line([[1, 0], [0, 1], [0, 1]], ["A", "R"], [["A", "R"]])
    with pytest.raises(InputError, match="the shortest is 10 um"):
        compete(expression, graph, 5.0)
    solved = compete(expression, graph, 15.0)
    with pytest.raises(GraphError, match="a type for each of 3 cells"):
        flows_between_types(solved, graph, 15.0, torch.zeros(2, dtype=torch.int32), 1, [0])
