import numpy as np
import pytest

from metaniche.errors import ConfigError, InputError
from metaniche.explain.deletion import deletion_curves
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
