from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from tissue import make_sample

from metaniche.data.cache import ABOUT, CELLS, TENSORS, is_saved, load_sample, save_sample
from metaniche.errors import InputError


def variants():
    dense = make_sample("s", "p")
    few = dense.cells.assign(annotation=pd.Categorical([None, "x"] * 40))
    return {
        "dense": dense,
        "sparse": replace(dense, x=sparse.csr_array(dense.x * (dense.x > 2))),
        "no features": make_sample("s", "p", kind="none"),
        "missing annotations": replace(dense, cells=few),
    }


@pytest.mark.parametrize("name", variants())
def test_round_trip(tmp_path, name):
    sample = variants()[name]
    save_sample(tmp_path, sample)
    read = load_sample(tmp_path, "s")
    for key, tensor in sample.graph.tensors().items():
        assert torch.equal(tensor, read.graph.tensors()[key]), key
    assert (sample.x != read.x).sum() == 0
    pd.testing.assert_frame_equal(sample.cells, read.cells)
    assert (sample.features, sample.feature_kind, sample.patient_id) == (
        read.features,
        read.feature_kind,
        read.patient_id,
    )
    assert np.array_equal(sample.file_order, read.file_order)
    read.graph.validate()


@pytest.mark.parametrize("damage", [TENSORS, CELLS, ABOUT])
@pytest.mark.parametrize("how", ["absent", "cut"])
def test_a_damaged_sample_is_named_with_its_cure(tmp_path, damage, how):
    save_sample(tmp_path, make_sample("s", "p"))
    path = tmp_path / "s" / damage
    path.write_bytes(path.read_bytes()[:40]) if how == "cut" else path.unlink()
    with pytest.raises(InputError, match="Delete this folder"):
        load_sample(tmp_path, "s")


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_sample(tmp_path, make_sample("s", "p"))
    assert not is_saved(tmp_path, "s")
    assert not list(tmp_path.iterdir())
