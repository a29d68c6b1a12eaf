import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from thinned import tissue

from metaniche.errors import ConfigError
from metaniche.explain.edges import (
    ALIKE,
    SHARES,
    _added,
    _alike,
    _along,
    _groups,
    _heard,
    _listeners,
    edge_deletion_curves,
)


def test_the_edges_that_speak_are_missed_at_once_and_random_ones_later(one_voice, small_cohort):
    hearing, _ = one_voice
    table = edge_deletion_curves(hearing, small_cohort[0])
    deletion, insertion = (table[table["curve"] == c].set_index("share") for c in ("deletion", "insertion"))
    assert tuple(deletion.index) == SHARES
    assert (deletion["left"].diff().dropna() < 1e-6).all()
    assert (insertion["left"].diff().dropna() > -1e-6).all()
    for share in (0.1, 0.2, 0.5):
        assert deletion.loc[share, "left"] < deletion.loc[share, "random_low"]
        assert insertion.loc[share, "left"] > insertion.loc[share, "random_high"]


def test_what_is_heard_along_all_edges_is_the_signals_term_and_along_none_nothing(hearing, small_cohort):
    units = hearing.score(small_cohort[0]).units
    with torch.inference_mode():
        for unit, _, batch in hearing.batches(small_cohort[0]):
            every, along = torch.ones(batch.graph.n_edges, dtype=torch.bool), _along(_listeners(hearing, batch), batch)
            assert _heard(hearing.task, along, every) == pytest.approx(units.loc[unit, "signals"], abs=1e-5)
            assert _heard(hearing.task, along, ~every) == 0


def test_where_nothing_is_heard_there_is_no_curve(hearing, small_cohort):
    mute = copy.deepcopy(hearing)
    for network in mute.members:
        torch.nn.init.zeros_(network.of_signals.weight)
    assert edge_deletion_curves(mute, small_cohort[0][:2], n_random=1).empty


def test_other_orders_have_edges_of_the_same_relation_and_length_at_every_place(small_cohort):
    graph, rng = small_cohort[0][0].graph, np.random.default_rng(0)
    edges = rng.permutation(graph.n_edges)[: graph.n_edges * 9 // 10]
    distance, relation = graph.distance_um.numpy(), graph.relation.numpy()
    near_first = edges[np.argsort(distance[edges])]
    group = _groups(graph, near_first)
    assert max(np.bincount(np.unique(group, return_inverse=True)[1])) == ALIKE
    other = _alike(near_first, rng.random(graph.n_edges), group, rng)
    assert set(other) == set(edges)
    assert (other != near_first).mean() > 0.5
    np.testing.assert_array_equal(relation[other], relation[near_first])
    for first in (ALIKE, len(edges) // 50, len(edges) // 4):
        assert distance[other[:first]].mean() == pytest.approx(distance[near_first[:first]].mean(), rel=0.1)
    kernel = np.exp(-distance / 15)  # an order by length alone gains nothing over one that is alike
    assert kernel[other[: len(edges) // 50]].sum() == pytest.approx(
        kernel[near_first[: len(edges) // 50]].sum(), rel=0.05
    )


def test_edges_that_stand_for_many_are_beside_others_that_do():
    graph = tissue(24)
    edges = np.random.default_rng(0).permutation(graph.n_edges)
    weight = graph.weight.numpy()[edges]
    most = pd.Series(weight).groupby(_groups(graph, edges)).agg(["min", "max"])
    assert (most["max"] <= 2.01 * most["min"]).all()
    assert weight.max() > 30


def test_within_a_group_the_largest_come_first():
    order, group = np.array([4, 0, 2, 1, 3]), np.array([7, 5, 7, 5, 7])
    size = np.array([1.0, 2.0, 9.0, 3.0, 8.0])
    assert _alike(order, size, group, np.random.default_rng(0)).tolist() == [2, 1, 4, 0, 3]


def test_a_network_that_says_nothing_does_not_inherit_the_order():
    order, rng = np.random.default_rng(1).permutation(40), np.random.default_rng(0)
    other = _alike(order, np.zeros(40), np.zeros(40, int), rng)
    assert set(other) == set(order)
    assert (other != order).mean() > 0.5


def test_edges_from_the_silent_add_nothing_and_those_of_others_what_they_say(hearing, small_cohort):
    *_, batch = next(hearing.batches(small_cohort[0]))
    silent = torch.arange(len(batch.x)) % 2 == 0
    with torch.inference_mode():
        batch = replace(batch, signals=batch.signals * ~silent[:, None])
        size = _added(hearing.task, _listeners(hearing, batch), batch)
    from_silent = silent[batch.graph.indices.long()].numpy()
    assert (size[from_silent] == 0).all()
    assert (size[~from_silent] > 0).any()


def test_networks_that_hear_nothing_have_no_edges_to_delete(hearing, small_cohort):
    deaf = copy.deepcopy(hearing)
    for network in deaf.members:
        network.families.clear()
    with pytest.raises(ConfigError, match="with a signals term"):
        edge_deletion_curves(deaf, small_cohort[0])
