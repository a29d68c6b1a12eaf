from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.errors import ConfigError, GraphError, InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.signaling import Resource, SignalConfig
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.length_scale import length_profile, length_scale
from metaniche.signaling.nulls import position_null
from metaniche.signaling.scoring import signal_problem

RINGS = (0, 10, 20, 30, 40, 50, 60, 80, 100)


def planted(length_um, seed, n=4000):
    """Receivers make the receptor in proportion to the ligand that reaches them; the second pair does nothing."""
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy(rng.random((n, 2)) * np.sqrt(n / 0.004)).float()
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=100.0, max_paracrine=None))
    types = rng.integers(0, 2, n)
    ligand = rng.gamma(0.5, 2.0, n) * (types == 0)
    reached = np.zeros(n)
    weight = np.exp(-graph.distance_um.numpy() / length_um)
    np.add.at(reached, graph.receivers().numpy(), weight * ligand[graph.indices.numpy()])
    receptor = reached * rng.gamma(4.0, 0.25, n) * (types == 1)
    x = np.stack([ligand, receptor, rng.gamma(1.0, 1.0, n), rng.gamma(1.0, 1.0, n)], 1).astype(np.float32)
    resource = Resource(pd.DataFrame({"ligand": ["L", "M"], "receptor": ["R", "S"]}), "invented")
    expression = pair_expression(x, ["L", "R", "M", "S"], resource)
    return expression, graph, torch.from_numpy(types.astype(np.int32))


@pytest.mark.parametrize("length_um", [12.0, 25.0])
def test_a_planted_length_is_found_within_a_quarter(length_um):
    found = []
    for seed in range(4):
        profile = length_profile(*planted(length_um, seed), 2, 0, 1, RINGS)
        found.append(length_scale(profile[profile["pair"] == "L - R"]).length_um)
    assert np.median(found) == pytest.approx(length_um, rel=0.25)


def test_a_pair_that_does_nothing_has_no_length_and_stays_at_one():
    profile = length_profile(*planted(25.0, 0), 2, 0, 1, RINGS)
    idle = profile[profile["pair"] == "M - S"]
    assert np.isnan(length_scale(idle).length_um)
    assert ((idle["low"] <= 1) & (idle["high"] >= 1)).mean() >= 0.75


def test_the_band_is_that_of_the_null_around_the_enrichment():
    expression, graph, types = planted(25.0, 2, n=500)
    row = length_profile(expression, graph, types, 2, 0, 1, (0, 40)).set_index("pair").loc["L - R"]
    inside = (graph.distance_um <= 40) & (types[graph.indices.long()] == 0) & (types[graph.receivers()] == 1)
    null = position_null(signal_problem(expression, graph, inside.float(), SignalConfig()), types, 2)
    half = 1.96 * np.sqrt(null.variance[0, 1, 0]) / null.mean[0, 1, 0]
    assert (row["high"] - row["enrichment"], row["enrichment"] - row["low"]) == pytest.approx((half, half))


def test_the_profile_is_of_the_score_that_was_asked_for():
    expression, graph, types = planted(25.0, 2, n=500)
    product, hill = (
        length_profile(expression, graph, types, 2, 0, 1, (0, 40), config)
        for config in (None, SignalConfig(score="hill", null_model="none"))
    )
    assert (product["enrichment"] - hill["enrichment"]).abs().max() > 0.01
    with pytest.raises(ConfigError):
        length_profile(expression, graph, types, 2, 0, 1, (0, 40), SignalConfig(score="mass_action", null_model="none"))


def test_cells_in_one_place_are_in_the_first_ring():
    pos = torch.tensor([[0.0, 0.0], [0.0, 0.0], [10.0, 0.0], [10.0, 0.0]])
    graph = build_graph(pos, torch.tensor([0, 4]), GraphConfig(radius_um=30.0, max_paracrine=None))
    resource = Resource(pd.DataFrame({"ligand": ["L"], "receptor": ["R"]}), "invented")
    expression = pair_expression(np.ones((4, 2), np.float32), ["L", "R"], resource)
    profile = length_profile(expression, graph, torch.tensor([0, 1, 0, 1], dtype=torch.int32), 2, 0, 1, (0, 5, 20))
    assert profile["n_edges"].tolist() == [2, 2]


def test_rings_hold_every_edge_between_the_two_types_once():
    expression, graph, types = planted(25.0, 1, n=500)
    profile = length_profile(expression, graph, types, 2, 0, 1, RINGS)
    between = (types[graph.indices.long()] == 0) & (types[graph.receivers()] == 1)
    assert profile.groupby("pair")["n_edges"].sum().eq(int(between.sum())).all()
    assert profile.groupby("pair")["distance_um"].apply(lambda d: d.is_monotonic_increasing).all()


def test_too_few_rings_make_no_length():
    profile = length_profile(*planted(25.0, 1, n=500), 2, 0, 1, (0, 20, 40))
    assert np.isnan(length_scale(profile[profile["pair"] == "L - R"]).length_um)


def test_what_makes_no_profile_is_refused():
    given = planted(25.0, 1, n=200)
    with pytest.raises(ConfigError, match="ascending"):
        length_profile(*given, 2, 0, 1, (10, 10, 20))
    with pytest.raises(InputError, match="found none"):
        length_profile(*given, 3, 2, 1, RINGS)
    expression, graph, types = given
    drawn = replace(graph, weight=torch.full_like(graph.distance_um, 2.0))
    with pytest.raises(GraphError, match="all neighbours within reach for a profile of distances, found a draw"):
        length_profile(expression, drawn, types, 2, 0, 1, RINGS)
