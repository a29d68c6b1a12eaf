import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from metaniche.data import synthetic_tissue
from metaniche.data.synthetic_tissue import (
    DENSITIES,
    DRIVER,
    NOISE,
    PAIRS,
    RANGE_SCALES,
    SPACING_UM,
    TYPES,
    counts,
    gene_panel,
    grow,
    reached,
)
from metaniche.errors import ConfigError


@pytest.fixture(scope="module")
def pair():
    """The same random numbers at the two ends of the signal."""
    return [grow(500, "mixed", signal, DRIVER, np.random.default_rng(3)) for signal in (0.0, 1.0)]


def test_only_the_choice_of_senders_depends_on_the_signal(pair):
    low, high = pair
    for name in ("pos_um", "types", "clones", "receives"):
        assert np.array_equal(getattr(low, name), getattr(high, name)), name
    assert low.sends.sum() == high.sends.sum() > 0
    assert (low.types[low.sends] == TYPES.index(DRIVER.sender)).all()


def test_the_signal_is_what_was_asked_for(pair):
    low, high = pair
    malignant = high.types == TYPES.index("malignant")
    assert low.signal[malignant].mean() == pytest.approx(0, abs=0.02)
    assert high.signal[malignant].mean() == pytest.approx(1, abs=0.15)


def test_reached_is_the_sum_over_sources_within_reach():
    rng = np.random.default_rng(0)
    at, sources = rng.uniform(0, 100, (20, 2)), rng.uniform(0, 100, (15, 2))
    d = np.linalg.norm(at[:, None] - sources, axis=2)
    assert np.allclose(reached(at, sources, 20.0, 40.0), np.where(d <= 40, np.exp(-d / 20), 0).sum(1))
    assert (reached(at, sources[:0], 20.0, 40.0) == 0).all()


def test_senders_and_receivers_show_in_the_counts(pair):
    _, tissue = pair
    panel = gene_panel(60)
    x = counts(tissue, panel, NOISE["low"], np.ones(len(panel)), np.random.default_rng(0)).toarray()
    for gene, acts in ((DRIVER.ligand, tissue.sends), (DRIVER.receptor, tissue.receives)):
        column = x[:, panel.index(gene)]
        assert column[acts].mean() > 5 * column[~acts].mean()


@pytest.mark.parametrize("density", ["grid", "uniform", "mixed"])
def test_cells_fill_the_tissue(density):
    pos = grow(400, density, 0.5, DRIVER, np.random.default_rng(0)).pos_um
    assert pos.shape == (400, 2)
    assert 2 < np.median(cKDTree(pos).query(pos, 2)[0][:, 1]) < 20


@settings(max_examples=12, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99), st.sampled_from(DENSITIES))
def test_any_signal_is_met_in_any_tissue(signal, seed, density):
    tissue = grow(500, density, signal, DRIVER, np.random.default_rng(seed))
    malignant = tissue.types == TYPES.index("malignant")
    assert tissue.signal[malignant].mean() == pytest.approx(signal, abs=0.12)
    assert (tissue.signal[~tissue.receives] == 0).all()


def test_unheard_senders_are_out_of_reach_of_the_tumour(pair):
    low, _ = pair
    tumour = cKDTree(low.pos_um[low.types == TYPES.index("malignant")])
    assert tumour.query(low.pos_um[low.sends])[0].min() > RANGE_SCALES * DRIVER.length_scale_um


def test_nests_have_a_core_a_front_and_stroma_and_three_clones():
    tissue = grow(900, "mixed", 0.5, DRIVER, np.random.default_rng(1))
    malignant = tissue.types == TYPES.index("malignant")
    assert set(tissue.types) == set(range(len(TYPES)))
    assert set(tissue.clones[malignant]) == {0, 1, 2}
    assert (tissue.clones[~malignant] == -1).all()
    shares = [malignant[tissue.regions == region].mean() for region in range(3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.6 > 0.2 > shares[2]


def test_without_noise_counts_tell_the_states_exactly(pair):
    _, tissue = pair
    panel = gene_panel(0)
    x = counts(tissue, panel, NOISE["none"], np.ones(len(panel)), np.random.default_rng(0)).toarray()
    assert np.array_equal(x[:, panel.index(DRIVER.ligand)] > 0, tissue.sends)
    assert np.array_equal(x[:, panel.index(DRIVER.receptor)] > 0, tissue.receives)


def test_a_grid_is_regular_and_chance_is_not():
    spacing = {}
    for density in DENSITIES:
        pos = grow(400, density, 0.5, DRIVER, np.random.default_rng(0)).pos_um
        spacing[density] = cKDTree(pos).query(pos, 2)[0][:, 1]
    assert np.allclose(spacing["grid"], SPACING_UM)
    assert spacing["mixed"].std() > 1
    assert spacing["uniform"].std() > 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 200))
def test_a_panel_names_every_gene_once(n_genes):
    panel = gene_panel(n_genes)
    assert len(set(panel)) == len(panel) == max(n_genes, len(gene_panel(0)))
    assert {gene for p in PAIRS for gene in (p.ligand, p.receptor)} <= set(panel)


def test_tissue_without_room_for_the_signal_is_refused(monkeypatch):
    monkeypatch.setattr(synthetic_tissue, "FULL_SIGNAL", 1e9)
    monkeypatch.setattr(synthetic_tissue, "ATTEMPTS", 2)
    with pytest.raises(ConfigError, match="Raise n_cells"):
        grow(500, "grid", 0.5, DRIVER, np.random.default_rng(0))
