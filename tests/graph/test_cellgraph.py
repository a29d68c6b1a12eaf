from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tissue import make_sample

from metaniche.errors import GraphError
from metaniche.graph import concat

GRAPH = make_sample("s", "p", n_cells=60).graph


def broken(**change):
    return replace(GRAPH, **change)


BROKEN = {
    "indices dtype": (broken(indices=GRAPH.indices.long()), "indices"),
    "indptr start": (broken(indptr=GRAPH.indptr + 1), "indptr"),
    "sample_ptr end": (broken(sample_ptr=torch.tensor([0, 59])), "sample_ptr"),
    "distance length": (broken(distance_um=GRAPH.distance_um[:-1]), "distance_um"),
    "not finite": (broken(pos_um=GRAPH.pos_um * torch.nan), "finite"),
    "sender out of range": (broken(indices=GRAPH.indices + 60), "senders"),
    "unknown relation": (broken(relation=GRAPH.relation + 2), "relations"),
    "one dimension": (broken(pos_um=GRAPH.pos_um[:, :1]), "coordinates"),
    "unsorted": (broken(indices=GRAPH.indices.flip(0)), "ascend|self loops"),
    "self loop": (broken(indptr=torch.tensor([0, 1, *[1] * 59]), indices=torch.zeros(1, dtype=torch.int32),
                         distance_um=torch.zeros(1), relation=torch.zeros(1, dtype=torch.uint8), weight=None), "self loops"),
    "weight dtype": (broken(weight=GRAPH.weight.double()), "weight"),
    "weight length": (broken(weight=GRAPH.weight[1:]), "weight"),
    "weight below 1": (broken(weight=GRAPH.weight * 0.99), "weight"),
    "weight not a number": (broken(weight=GRAPH.weight * torch.nan), "weight"),
    "weight infinite": (broken(weight=GRAPH.weight * torch.inf), "weight"),
    "edge between samples": (broken(sample_ptr=torch.tensor([0, 30, 60])), "between two samples"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_validate_names_what_is_broken(name):
    graph, words = BROKEN[name]
    with pytest.raises(GraphError, match=words):
        graph.validate()


def pairs(graph):
    return set(zip(graph.receivers().tolist(), graph.indices.tolist()))


def test_relations_part_the_edges():
    contact, paracrine = (GRAPH.select(r).validate() for r in GRAPH.relation_names)
    assert contact.n_edges + paracrine.n_edges == GRAPH.n_edges
    assert contact.distance_um.max() <= 20 < paracrine.distance_um.min()
    with pytest.raises(GraphError, match="autocrine"):
        GRAPH.select("autocrine")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_exactly_the_edges_of_a_mask_are_kept(data):
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=GRAPH.n_edges, max_size=GRAPH.n_edges)))
    kept = GRAPH.keep(keep).validate()
    assert torch.equal(kept.receivers(), GRAPH.receivers()[keep])
    assert torch.equal(kept.indices, GRAPH.indices[keep])
    assert torch.equal(kept.distance_um, GRAPH.distance_um[keep])
    assert torch.equal(kept.weight, GRAPH.weight[keep])


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_only_those_that_are_hearing_keep_edges_in_a_subgraph(cells, hearing):
    kept = torch.tensor(sorted(cells), dtype=torch.int64)
    mask = torch.tensor([cell in hearing for cell in kept.tolist()], dtype=torch.bool)
    sub, whole = GRAPH.subgraph(kept, mask).validate(), GRAPH.subgraph(kept)
    expected = whole.keep(mask[whole.receivers()])
    assert all(torch.equal(tensor, expected.tensors()[name]) for name, tensor in sub.tensors().items())


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 59)))
def test_a_subgraph_holds_exactly_the_edges_among_its_cells(cells):
    kept = torch.tensor(sorted(cells), dtype=torch.int64)
    sub = GRAPH.subgraph(kept).validate()
    expected = {(i, j) for i, j in pairs(GRAPH) if i in cells and j in cells}
    assert {(int(kept[i]), int(kept[j])) for i, j in pairs(sub)} == expected
    assert torch.equal(sub.pos_um, GRAPH.pos_um[kept])
    weight_of = dict(zip(zip(GRAPH.receivers().tolist(), GRAPH.indices.tolist()), GRAPH.weight.tolist()))
    ends = zip(kept[sub.receivers()].tolist(), kept[sub.indices.long()].tolist())
    assert sub.weight.tolist() == [weight_of[pair] for pair in ends]


def test_stacked_graphs_keep_apart_and_come_back():
    other = make_sample("t", "q", n_cells=40, seed=1).graph
    both = concat([GRAPH, other]).validate()
    assert both.n_samples == 2
    assert torch.equal(both.subgraph(torch.arange(60, 100)).indices, other.indices)
    assert both.subgraph(torch.arange(60, 100)).sample_ptr.tolist() == [0, 0, 40]
    assert torch.equal(both.weight, torch.cat([GRAPH.weight, other.weight]))
    with pytest.raises(GraphError, match="at least one"):
        concat([])
    with pytest.raises(GraphError, match="same relations"):
        concat([GRAPH, replace(other, relation_names=("near",))])


def test_edge_index_is_sender_over_receiver():
    edge_index = GRAPH.edge_index()
    assert torch.equal(edge_index[0], GRAPH.indices.long())
    assert (edge_index[1].diff() >= 0).all()


def test_beside_weights_a_graph_without_stands_for_itself():
    alone = replace(GRAPH, weight=None)
    both = concat([alone, GRAPH]).validate()
    assert torch.equal(both.weight, torch.cat([torch.ones(GRAPH.n_edges), GRAPH.weight]))
    assert concat([alone, alone]).weight is None


def test_weights_go_where_the_graph_goes():
    assert torch.equal(GRAPH.to("cpu").weight, GRAPH.weight)
    assert GRAPH.to("meta").weight.device.type == "meta"
    assert "weight" in GRAPH.tensors()
    alone = replace(GRAPH, weight=None)
    for graph in (alone, alone.to("cpu"), alone.select("contact"), alone.subgraph(torch.arange(30))):
        assert graph.validate().weight is None
        assert "weight" not in graph.tensors()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_edges_are_weighted_row_by_row_and_left_as_they_are_without_weights(dtype):
    numbers = torch.randn(GRAPH.n_edges, 3, dtype=dtype)
    assert torch.equal(GRAPH.times_weight(numbers)[:, 1], numbers[:, 1] * GRAPH.weight)
    assert torch.equal(GRAPH.times_weight(numbers[:, 0]), numbers[:, 0] * GRAPH.weight)
    logits = GRAPH.plus_log_weight(numbers)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.exp(), GRAPH.times_weight(numbers.exp()), rtol=1e-6, atol=0)
    alone = replace(GRAPH, weight=None)
    assert alone.times_weight(numbers) is numbers
    assert alone.plus_log_weight(numbers) is numbers
