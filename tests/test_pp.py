import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from scipy.spatial.distance import cdist

import metaniche
from metaniche.errors import ConfigError, InputError


@pytest.fixture
def slides():
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((80, 1), np.float32), obsm={"spatial": rng.uniform(0, 400, (80, 2))})
    adata.obs["sample_id"] = np.where(rng.random(80) < 0.5, "a", "b")
    return adata


def test_distances_are_micrometres_within_a_sample(slides):
    metaniche.pp.spatial_graph(slides, um_per_unit=0.5, radius_um=60.0, max_paracrine=None)
    found = slides.obsp["metaniche_distances_um"].toarray()
    expected = cdist(slides.obsm["spatial"] * 0.5, slides.obsm["spatial"] * 0.5)
    sample = slides.obs["sample_id"].to_numpy()
    near = (expected <= 60) & (sample[:, None] == sample[None]) & ~np.eye(80, dtype=bool)
    assert np.array_equal(found > 0, near)
    assert np.allclose(found[near], expected[near], atol=1e-3)
    relation = slides.obsp["metaniche_connectivities"].toarray()
    assert np.array_equal(relation == 1, near & (expected <= 20))


def test_a_draw_of_neighbours_says_how_many_each_stands_for(slides):
    metaniche.pp.spatial_graph(slides, um_per_unit=0.5, radius_um=90.0, max_paracrine=3)
    weights, relation = (slides.obsp[f"metaniche_{name}"].toarray() for name in ("weights", "connectivities"))
    assert ((weights > 0) == (relation > 0)).all()
    assert (weights[relation == 1] == 1).all()
    assert weights.max() > 1
    everyone = slides.copy()
    metaniche.pp.spatial_graph(everyone, um_per_unit=0.5, radius_um=90.0, max_paracrine=None)
    np.testing.assert_allclose(weights.sum(1), (everyone.obsp["metaniche_connectivities"] > 0).sum(1).A1, rtol=1e-5)
    assert "metaniche_weights" not in everyone.obsp  # of the draw before


def test_the_unit_must_be_known(slides):
    with pytest.raises(InputError, match="um_per_unit"):
        metaniche.pp.spatial_graph(slides)


def test_the_unit_is_written_beside_the_graph(slides):
    metaniche.pp.spatial_graph(slides, um_per_unit=0.5)
    assert slides.uns["metaniche"]["um_per_unit"] == 0.5


def test_what_cannot_be_right_is_refused_in_words(slides):
    with pytest.raises(InputError, match="less than 100 mm"):
        metaniche.pp.spatial_graph(slides, um_per_unit=1000)
    with pytest.raises(InputError, match=r"a number, found text '0.5'"):
        metaniche.pp.spatial_graph(slides, um_per_unit="0.5")
    with pytest.raises(ConfigError, match=r"`graph\.radius`. Did you mean 'radius_um'"):
        metaniche.pp.spatial_graph(slides, um_per_unit=0.5, radius=3)
    del slides.obsm["spatial"]
    with pytest.raises(InputError, match=r"cell centres in obsm\['spatial'\]"):
        metaniche.pp.spatial_graph(slides, um_per_unit=0.5)


def test_cells_without_a_sample_are_refused(slides):
    slides.obs["sample_id"] = slides.obs["sample_id"].where(np.arange(80) > 5)
    with pytest.raises(InputError, match=r"sample_id.*for every cell, found 6 cells without one"):
        metaniche.pp.spatial_graph(slides, um_per_unit=0.5)


def test_a_stored_graph_is_read_only_when_it_is_asked_for(slides):
    same = slides.obs["sample_id"].to_numpy()[:, None] == slides.obs["sample_id"].to_numpy()[None]
    slides.obsp["spatial_connectivities"] = sparse.csr_matrix(np.triu(same, 1), dtype=np.float32)
    metaniche.pp.spatial_graph(slides, um_per_unit=0.5, builder="stored", radius_um=1e4)
    assert np.array_equal(slides.obsp["metaniche_connectivities"].toarray() > 0, np.triu(same, 1))
    slides.obsp["spatial_connectivities"].indices[0] = 999
    with pytest.raises(InputError, match="spatial_connectivities"):
        metaniche.pp.spatial_graph(slides, um_per_unit=0.5, builder="stored")
    metaniche.pp.spatial_graph(slides, um_per_unit=0.5)
