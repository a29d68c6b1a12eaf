import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist

import metaniche
from metaniche.errors import InputError


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


def test_the_unit_must_be_known(slides):
    with pytest.raises(InputError, match="um_per_unit"):
        metaniche.pp.spatial_graph(slides)
