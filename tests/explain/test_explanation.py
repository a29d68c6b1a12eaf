import numpy as np
import pandas as pd
import pytest
from elsewhere import ELSEWHERE, accelerator

from metaniche.explain import explained, variance_shares
from metaniche.explain.explanation import pair_order
from metaniche.io import run_files
from metaniche.predict import Predictor
from metaniche.report.run import read_run


def test_terms_and_pairs_are_those_of_the_units(one_voice, small_cohort, tmp_path):
    hearing, loud = one_voice
    found = explained(hearing, small_cohort[0])
    risk = hearing.score(small_cohort[0]).units["risk"]
    np.testing.assert_allclose(found.terms.sum(axis=1), np.log(risk / (1 - risk)), atol=1e-4)
    by_unit = found.pairs.groupby("unit_id")["contribution"].sum()
    np.testing.assert_allclose(by_unit.reindex(found.terms.index, fill_value=0), found.terms["signals"], atol=1e-3)
    assert pair_order(hearing, found.pairs, found.terms.index)[0] == loud
    found.save(tmp_path)
    run = read_run(tmp_path)
    pd.testing.assert_frame_equal(run.terms, found.terms, check_dtype=False)
    assert list(run.curves) == list(found.curves)
    pd.testing.assert_frame_equal(run.edge_curves, found.edge_curves, check_dtype=False)
    assert len(run.pairs) == len(found.pairs)
    assert (tmp_path / run_files.PAIRS).exists()


def test_units_in_which_no_pair_speaks_are_counted(hearing):
    """A pair that tells the silent units from others moves more than one that differs a little among those that speak."""
    pairs = hearing.pairs.pairs[["ligand", "receptor"]]
    rows = [(unit, *pairs.iloc[0], 5.0) for unit in "ab"] + [
        (u, *pairs.iloc[1], v) for u, v in (("a", 0.0), ("b", 1.0))
    ]
    table = pd.DataFrame(rows, columns=["unit_id", "ligand", "receptor", "contribution"])
    assert pair_order(hearing, table, pd.Index(list("abcd")))[0] == 0


def test_the_ranking_by_shuffled_weights_fails_where_the_networks_own_does_not(one_voice, small_cohort):
    hearing, _ = one_voice
    lost = []
    for seed in range(6):
        curves = explained(hearing, small_cohort[0], seed=seed).curves.set_index(["curve", "n_pairs"])
        first = curves.loc[("deletion", 1)]
        assert abs(first["left"]) < 0.3
        lost.append(1 - first["shuffled"])
    assert np.mean(np.array(lost) > 0.5) < 0.6  # one of four pairs speaks: it is first by accident in a quarter


def test_edges_ranked_by_shuffled_weights_fail_where_the_networks_own_do_not(one_of_many):
    hearing, samples = one_of_many
    own, shuffled = [], []
    for seed in range(3):
        curves = explained(hearing, samples, seed=seed).edge_curves.set_index(["curve", "share"])
        first = curves.loc[("deletion", 0.1)]  # far edges stand for many neighbours: few edges carry much
        own.append(first["random"] - first["left"])
        shuffled.append(first["random"] - first["shuffled"])
    assert np.min(own) > 0.1
    assert np.mean(shuffled) < 0.4 * np.mean(own)


def test_without_terms_or_without_differences_nothing_is_explained(hearing, small_cohort, caplog):
    assert explained(hearing, small_cohort[0][:2]) is None
    assert "at least 3 units" in caplog.text


def test_a_network_without_pairs_has_terms_only(small_cohort):
    from tissue import READ

    from metaniche.data.features import FeatureConfig
    from metaniche.data.sampling import SamplingConfig
    from metaniche.data.task import Task, make_targets
    from metaniche.predict import Predictor
    from metaniche.training.fit import FitConfig, fit_bundle

    samples, patients, table = small_cohort
    targets = make_targets(Task("t", "a task", label="metastasis", positive=(1,)), patients, table)
    plain = {"features": FeatureConfig(), "epochs": 1, "sampling": SamplingConfig(windows=1, window_cells=40)}
    deaf, mute, other = (
        Predictor(fit_bundle(samples, targets, FitConfig(name, {"width": 8} | more, **plain), **READ))
        for name, more in (("SeedSoil", {}), ("SeedSoil", {"signals": False}), ("AttentionMIL", {}))
    )
    found = explained(deaf, samples)
    assert found.pairs.empty
    assert found.curves.empty
    assert not found.edge_curves.empty
    halves = found.edge_curves[found.edge_curves["share"] == 0.5].set_index("curve")["left"]
    assert 0 < halves["deletion"] < halves["insertion"]
    assert variance_shares(found.terms).sum() == pytest.approx(1)
    found = explained(mute, samples)
    assert found.edge_curves.empty
    assert (found.terms["signals"] == 0).all()
    assert explained(other, samples) is None


def test_on_an_accelerator_it_is_explained_the_same(hearing, small_cohort):
    here = explained(Predictor(hearing.bundle, "cpu"), small_cohort[0])
    with accelerator():
        there = explained(Predictor(hearing.bundle, ELSEWHERE), small_cohort[0])
    for name in ("terms", "pairs", "curves", "edge_curves", "states"):
        pd.testing.assert_frame_equal(getattr(here, name), getattr(there, name), rtol=1e-4, atol=1e-6)
