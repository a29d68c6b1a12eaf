import copy

import numpy as np
import pytest

from metaniche.errors import ConfigError, InputError
from metaniche.explain.deletion import SHARES, _shuffled_within, deletion_curves, edge_deletion_curves
from metaniche.explain.pairs import pair_contributions


def test_the_pair_that_speaks_is_missed_at_once_and_random_ones_later(one_voice, small_cohort):
    hearing, loud = one_voice
    order = [loud, *(i for i in range(hearing.pairs.n_pairs) if i != loud)]
    table = deletion_curves(hearing, small_cohort[0], order).set_index(["curve", "n_pairs"])
    deletion, insertion = table.loc["deletion"], table.loc["insertion"]
    assert deletion.loc[0, "left"] == pytest.approx(1)
    assert abs(deletion.loc[1, "left"]) < 0.3 < 0.6 < deletion.loc[1, "random"]
    assert insertion.loc[1, "left"] > 0.99
    assert insertion.loc[1, "random"] < 0.9
    last = deletion_curves(hearing, small_cohort[0], order[::-1]).set_index(["curve", "n_pairs"]).loc["deletion"]
    assert last.loc[1, "left"] > 0.99


def test_the_loud_pair_has_the_contribution(one_voice, small_cohort):
    hearing, loud = one_voice
    table = pair_contributions(hearing, small_cohort[0])
    by_pair = table.groupby(["ligand", "receptor"])["contribution"].agg(lambda z: np.abs(z).sum())
    assert by_pair.idxmax() == tuple(hearing.pairs.pairs.loc[loud, ["ligand", "receptor"]])


def test_orders_that_are_none_are_refused(hearing, small_cohort):
    with pytest.raises(ConfigError, match="each of 4 pairs once"):
        deletion_curves(hearing, small_cohort[0], [0, 0, 1, 2])
    with pytest.raises(InputError, match="at least 3 units"):
        deletion_curves(hearing, small_cohort[0][:2], range(4))


def test_the_edges_that_speak_are_missed_at_once_and_random_ones_later(one_voice, small_cohort):
    hearing, _ = one_voice
    table = edge_deletion_curves(hearing, small_cohort[0], {"left": hearing})
    deletion, insertion = (table[table["curve"] == c].set_index("share") for c in ("deletion", "insertion"))
    assert tuple(deletion.index) == SHARES
    for name in ("left", "random"):
        assert deletion.loc[0.0, name] == insertion.loc[1.0, name] == pytest.approx(1)
    assert (deletion["left"].diff().dropna() < 1e-6).all()
    assert (insertion["left"].diff().dropna() > -1e-6).all()
    for share in (0.1, 0.2, 0.5):
        assert deletion.loc[share, "left"] < deletion.loc[share, "random_low"]
        assert insertion.loc[share, "left"] > insertion.loc[share, "random_high"]


def test_without_any_edge_seed_and_soil_are_left(hearing, small_cohort):
    units = hearing.score(small_cohort[0]).units
    whole = units[["seed", "soil", "signals"]].sum(axis=1)
    slope = np.cov(whole, whole - units["signals"])[0, 1] / whole.var()
    table = edge_deletion_curves(hearing, small_cohort[0], {"left": hearing}, n_random=1).set_index(["curve", "share"])
    for place in (("deletion", 1.0), ("insertion", 0.0)):
        assert table.loc[place, ["left", "random"]].tolist() == pytest.approx([slope, slope], abs=1e-3)


def test_random_orders_have_edges_of_each_group_at_the_same_places():
    rng = np.random.default_rng(0)
    relation = rng.integers(0, 2, 50)
    order = rng.permutation(50)[:30]
    other = _shuffled_within(order, relation, rng)
    assert set(other) == set(order)
    assert (other != order).mean() > 0.5
    np.testing.assert_array_equal(relation[other], relation[order])


def test_networks_that_hear_nothing_have_no_edges_to_delete(hearing, small_cohort):
    deaf = copy.deepcopy(hearing)
    for network in deaf.members:
        network.families.clear()
    with pytest.raises(ConfigError, match="with a signals term"):
        edge_deletion_curves(deaf, small_cohort[0], {"left": deaf})
    with pytest.raises(InputError, match="at least 3 units"):
        edge_deletion_curves(hearing, small_cohort[0][:2], {"left": hearing})
