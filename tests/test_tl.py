import numpy as np
from test_predict import as_anndata, bundle  # noqa: F401
from tissue import make_sample

import metaniche
from metaniche.io import keys


def test_in_place_and_as_a_copy(bundle, tmp_path):  # noqa: F811
    folder = bundle.save(tmp_path / "b")
    adata = as_anndata(make_sample("new", "p", seed=50))
    scored = metaniche.tl.metastatic_potential(adata, folder, um_per_unit=1.0, copy=True)
    assert keys.POTENTIAL not in adata.obs
    assert metaniche.tl.metastatic_potential(adata, folder, um_per_unit=1.0) is None
    assert np.array_equal(adata.obs[keys.POTENTIAL], scored.obs[keys.POTENTIAL], equal_nan=True)
    assert adata.uns[keys.UNS]["model_hash"] == bundle.hash
    assert adata.uns[keys.UNS]["um_per_unit"] == 1.0
    assert metaniche.pl.metastatic_potential(adata).axes
