import numpy as np
import pytest
from scipy.spatial import cKDTree

from metaniche.data.synthetic_tissue import DRIVER, NOISE, TYPES, counts, gene_panel, grow, reached


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
