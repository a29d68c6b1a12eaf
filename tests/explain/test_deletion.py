import copy

import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.data.clinical import ClinicalFeatures
from metaniche.errors import ConfigError, InputError
from metaniche.explain.deletion import STEPS, _of_unit, _steps, curve_table, deletion_curves
from metaniche.explain.pairs import pair_contributions
from metaniche.metrics.shares import variance_shares


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


def test_a_network_without_a_signals_term_is_refused(hearing, small_cohort):
    deaf = copy.deepcopy(hearing)
    for network in deaf.members:
        network.families.clear()
    with pytest.raises(ConfigError, match="whose network hears pairs"):
        deletion_curves(deaf, small_cohort[0], range(4))


def test_shuffled_orders_are_shown_by_their_mean_and_random_ones_with_their_spread():
    table = curve_table("n", [4], np.array([[[2.0, 0.5, 0.1, -0.3, 0.2, 0.0], [4.0, 1.0, 0.2, -0.6, 0.4, 0.0]]]), 2)
    assert table[["n", "curve"]].to_numpy().tolist() == [[4, "deletion"], [4, "insertion"]]
    columns = ["left", "shuffled", "random", "random_low", "random_high"]
    assert table.loc[0, columns].tolist() == pytest.approx([2.0, 0.3, -0.1 / 3, -0.3, 0.2])
    assert table.loc[1, columns].tolist() == pytest.approx([4.0, 0.6, -0.2 / 3, -0.6, 0.4])


@pytest.mark.parametrize("n_pairs", [1, 7, 30, 1000])
def test_the_first_pair_is_a_step_however_many_there_are(n_pairs):
    steps = _steps(n_pairs)
    assert [*steps[:2], steps[-1]] == [0, 1, n_pairs]
    assert len(steps) <= STEPS


def test_without_random_orders_their_columns_are_empty(hearing, small_cohort):
    table = deletion_curves(hearing, small_cohort[0][:3], range(4), n_random=0)
    assert table["n_pairs"].unique().tolist() == [0, 1, 2, 3, 4]
    assert table["random"].isna().all()


def test_silence_is_what_a_network_without_the_pairs_says(one_voice, small_cohort):
    """Against copies of the networks in which the pairs weigh nothing, run as they are."""
    hearing, loud = one_voice
    rng = np.random.default_rng(0)
    heard = np.array([*np.eye(hearing.pairs.n_pairs, dtype=bool), rng.random(hearing.pairs.n_pairs) < 0.5])
    families = hearing.pairs.pairs["signaling_type"].to_numpy()
    for _, _, batch in hearing.batches(small_cohort[0][:2], None):
        with torch.no_grad():
            whole, left = _of_unit(hearing, batch, heard)
        expected = []
        for kept in [np.ones(hearing.pairs.n_pairs, dtype=bool), *heard]:
            members = [copy.deepcopy(m) for m in hearing.members]
            for family, listen in ((f, x) for m in members for f, x in m.families.items()):
                listen.scale[torch.from_numpy(~kept[families == family])] = 0.0
            with torch.no_grad():
                expected.append(np.mean([float(m(*batch.tissue).bag_logits.mean()) for m in members]))
        np.testing.assert_allclose([whole, *left], expected, atol=1e-5)
        assert np.ptp(left) > 0.01


def test_what_is_left_is_of_the_risk_before_clinical_variables(hearing, small_cohort):
    """Whatever the patients are like beside their tissue: the curves end at the share that the terms in sum have."""
    samples, patients, _ = small_cohort
    clinical = copy.deepcopy(hearing)
    clinical.clinical = ClinicalFeatures.fit(patients, ["age"])
    for network in clinical.members:
        network.clinical = torch.nn.Linear(1, 1, bias=False)
    units = clinical.score(samples, patients).units
    assert not np.allclose(units["risk"], hearing.score(samples).units["risk"])
    with_them = deletion_curves(clinical, samples, range(4), patients)
    pd.testing.assert_frame_equal(with_them, deletion_curves(hearing, samples, range(4)))
    silent = with_them.query("curve == 'insertion' and n_pairs == 0")["left"].iloc[0]
    shares = variance_shares(units[["seed", "soil", "signals"]])
    assert silent == pytest.approx(1 - shares["signals"], abs=1e-3)
