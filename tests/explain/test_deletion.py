import copy

import numpy as np
import pytest
import torch

from metaniche.errors import ConfigError, InputError
from metaniche.explain.deletion import deletion_curves
from metaniche.explain.pairs import pair_contributions


@pytest.fixture
def one_voice(hearing):
    """All weight on one pair, so that its place in the order decides."""
    loud, hearing = 2, copy.deepcopy(hearing)
    family = hearing.pairs.pairs["signaling_type"][loud]
    place = int((hearing.pairs.pairs["signaling_type"][:loud] == family).sum())
    with torch.no_grad():
        for network in hearing.members:
            network.pool.score.requires_grad_(False)[-1].weight.zero_()
            network.of_soil[-1].weight.zero_()
            for name, listen in network.families.items():
                listen.raw_weight.zero_()
                listen.scale.fill_(1e-3)
                if name == family:
                    listen.raw_weight[:, place] = 0.2
                    listen.scale[place] = 1.0
    return hearing, loud


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
