from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tissue import READ

from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import ConfigError
from metaniche.explain import deletion_curves, edge_deletion_curves
from metaniche.explain.pairs import pair_contributions
from metaniche.predict import Predictor
from metaniche.training.fit import FitConfig, fit_bundle

from .conftest import RESOURCE


def test_contributions_sum_to_the_signals_term_of_every_unit(hearing, small_cohort):
    samples, _, _ = small_cohort
    table = pair_contributions(hearing, samples)
    units = hearing.score(samples).units
    total = table.groupby("unit_id")["contribution"].sum()
    np.testing.assert_allclose(total.reindex(units.index), units["signals"], rtol=1e-3, atol=1e-5)


def test_contributions_are_divided_by_the_temperature_as_the_terms_are(hearing, small_cohort):
    samples = small_cohort[0][:1]
    plain = pair_contributions(hearing, samples)
    warm = copy(hearing)
    warm.bundle = replace(hearing.bundle, calibration={**hearing.bundle.calibration, "temperature": 4.0})
    np.testing.assert_allclose(4 * pair_contributions(warm, samples)["contribution"], plain["contribution"], rtol=1e-6)
    signals = [p.score(samples, coverage_floor=0.0).units["signals"] for p in (warm, hearing)]
    np.testing.assert_allclose(4 * signals[0], signals[1], rtol=1e-5)


def test_every_row_names_types_and_a_pair(hearing, small_cohort):
    samples, _, _ = small_cohort
    table = pair_contributions(hearing, samples[:1])
    assert set(table["sender"]) | set(table["receiver"]) <= {"caf", "malignant", "t_cell"}
    known = set(map(tuple, hearing.pairs.pairs[["ligand", "receptor"]].to_numpy()))
    assert set(map(tuple, table[["ligand", "receptor"]].to_numpy())) == known


def test_without_types_signals_are_untyped(hearing, small_cohort):
    sample = small_cohort[0][0]
    bare = replace(sample, cells=sample.cells.drop(columns="cell_type"))
    assert set(pair_contributions(hearing, [bare])["sender"]) == {"untyped"}


def test_a_network_without_pairs_is_refused(hearing, small_cohort):
    deaf = replace(hearing.bundle, pairs=None)
    with pytest.raises(ConfigError, match="hears ligand-receptor pairs"):
        pair_contributions(type(hearing)(deaf), small_cohort[0])


def test_with_competing_events_terms_and_pairs_are_of_the_event_alone(small_cohort):
    samples, patients, table = small_cohort
    task = Task("r", "r", kind="discrete_time", time="time", event="event", competing="died", n_bins=3)
    targets = make_targets(task, patients.assign(died=np.arange(12) % 2), table)
    config = FitConfig(
        "SeedSoil", {"width": 8}, epochs=2, resource=RESOURCE, sampling=SamplingConfig(windows=1, window_cells=80)
    )
    predictor = Predictor(fit_bundle(samples, targets, config, **READ))
    units = predictor.score(samples).units
    total = pair_contributions(predictor, samples).groupby("unit_id")["contribution"].sum()
    np.testing.assert_allclose(total.reindex(units.index, fill_value=0), units["signals"], rtol=1e-3, atol=1e-5)
    (network,) = predictor.members
    with torch.no_grad():
        for unit, _, batch in predictor.batches(samples):
            of_bag = network(*batch.tissue).of_bag()[:, :3].mean(1)
            assert units.loc[unit, ["seed", "soil", "signals"]].tolist() == pytest.approx(of_bag.tolist(), abs=1e-5)
    curves = deletion_curves(predictor, samples, range(predictor.pairs.n_pairs), n_random=0)
    whole = units[["seed", "soil", "signals"]].sum(axis=1)
    without = whole - units["signals"]
    slope = np.cov(whole, without)[0, 1] / whole.var()
    assert curves.query("curve == 'deletion'")["left"].iloc[-1] == pytest.approx(slope, abs=1e-3)
    edges = edge_deletion_curves(predictor, samples, n_random=0).set_index(["curve", "share"])["left"]
    assert edges["insertion", 0.5] > edges["insertion", 0.01]
