from dataclasses import replace

import numpy as np
import pytest
import torch

from metaniche.errors import GraphError
from metaniche.graph import CellGraph
from metaniche.ops import LigandReceptor
from metaniche.signaling import SignalConfig
from metaniche.signaling.csr import to_torch
from metaniche.signaling.edges import sent_direction, strongest_edges
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.scoring import signal_problem

from .conftest import GENES

PAIR = 1


@pytest.fixture(scope="module")
def given(tissue, resource):
    x, _, graph = tissue(0, n_cells=120)
    problem = signal_problem(
        pair_expression(x, GENES, resource), graph, torch.exp(-graph.distance_um / 30), SignalConfig()
    )
    return x, graph, problem


def signals(x, graph, weight):
    """(E,) of the pair, edge by edge."""
    return weight * x[graph.indices.numpy(), PAIR] * x[graph.receivers().numpy(), 4 + PAIR]


@pytest.mark.parametrize(("half_saturation", "exponent"), [(None, 1.0), (2.0, 1.0), (2.0, 2.0)])
def test_the_strongest_edges_are_those_of_all(given, half_saturation, exponent):
    x, graph, problem = given
    weight = problem.weight_E.numpy()
    product = signals(x, graph, 1.0)
    if half_saturation is not None:
        product = product**exponent / (half_saturation**exponent + product**exponent)
    every = weight * product
    found = strongest_edges(replace(problem, half_saturation=half_saturation, exponent=exponent), PAIR, k=20)
    np.testing.assert_allclose(found.signal, np.sort(every)[::-1][:20], rtol=1e-5)
    place = {(int(s), int(r)): v for s, r, v in zip(graph.indices, graph.receivers(), every)}
    assert all(place[int(s), int(r)] == pytest.approx(float(v), rel=1e-5) for s, r, v in zip(*found))


def test_edges_without_a_signal_are_not_among_them(given):
    x, graph, problem = given
    found = strongest_edges(problem, PAIR, k=10**6)
    assert len(found.signal) == (signals(x, graph, 1.0) > 0).sum() < graph.n_edges
    assert (found.signal > 0).all()


def test_directions_are_unit_vectors_weighted_by_signals(given):
    x, graph, problem = given
    one = replace(problem, lig_P=problem.lig_P[PAIR : PAIR + 1], rec_P=problem.rec_P[PAIR : PAIR + 1])
    found = sent_direction(one, graph)
    senders, receivers = graph.indices.numpy(), graph.receivers().numpy()
    pos = graph.pos_um.double().numpy()
    step = pos[receivers] - pos[senders]
    unit = step / np.linalg.norm(step, axis=1, keepdims=True)
    expected = np.zeros((graph.n_cells, 2))
    np.add.at(expected, senders, signals(x, graph, problem.weight_E.double().numpy())[:, None] * unit)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_groups_of_pairs_add_up(given):
    _, graph, problem = given
    groups = torch.tensor([0, 1, 1, 0], dtype=torch.int32)
    apart = sent_direction(problem, graph, groups)
    assert apart.shape == (graph.n_cells, 2, 2)
    torch.testing.assert_close(apart.sum(1), sent_direction(problem, graph)[:, 0], rtol=1e-4, atol=1e-4)


def test_cells_at_one_place_have_no_direction():
    graph = CellGraph(
        torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.zeros(2), torch.zeros(2, dtype=torch.uint8),
        torch.zeros(2, 2), torch.tensor([0, 2]),
    )  # fmt: skip
    ones, column = to_torch(np.ones((2, 1))), torch.zeros(1, dtype=torch.int32)
    problem = LigandReceptor(ones, ones, column, column, graph.indptr, graph.indices, torch.ones(2))
    assert (sent_direction(problem, graph) == 0).all()


def test_what_does_not_fit_is_refused(given):
    _, graph, problem = given
    with pytest.raises(GraphError, match="a pair in"):
        strongest_edges(problem, 4)
    with pytest.raises(GraphError, match="k >= 1"):
        strongest_edges(problem, 0, k=0)
    none = {
        "indptr": torch.zeros_like(problem.indptr),
        "indices": problem.indices[:0],
        "weight_E": problem.weight_E[:0],
    }
    fewer = replace(problem, **none)
    with pytest.raises(GraphError, match="Directions need"):
        sent_direction(fewer, graph)
