import json
import os

import numpy as np
import pandas as pd
import pytest
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io import write
from metaniche.io.read import read_sample
from metaniche.io.write import replacing, write_json, write_parquet, write_sample

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_round_trip_over_an_older_file(tmp_path, name):
    write_sample(make_slide(10), tmp_path / name)
    slide = make_slide(20, seed=1)
    slide.obs["metaniche_potential"] = np.linspace(0, 1, 20)
    slide.obsm["X_metaniche"] = np.ones((20, 4), np.float32)
    slide.uns["metaniche"] = {"um_per_unit": 1.0, "version": "0", "note": "Research use only."}
    assert write_sample(slide, tmp_path / name) == tmp_path / name
    back = read_sample(tmp_path / name)
    np.testing.assert_array_equal(back.to_df(), slide.to_df())
    np.testing.assert_array_equal(back.obs["metaniche_potential"], slide.obs["metaniche_potential"])
    assert dict(back.uns["metaniche"]) == slide.uns["metaniche"]
    assert os.listdir(tmp_path) == [name]


def test_the_sample_is_not_changed_by_writing(tmp_path):
    slide = make_slide()
    slide.obs["note"] = [f"n{i % 3}" for i in range(60)]
    dtype = slide.obs["note"].dtype
    write_sample(slide, tmp_path / "a.h5ad")
    assert slide.obs["note"].dtype == dtype


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, name):
    write_sample(make_slide(10), tmp_path / name)
    slide = make_slide(20)
    slide.uns["odd"] = object()
    with pytest.raises(InputError, match=r"that anndata can store.*odd"):
        write_sample(slide, tmp_path / name)
    assert read_sample(tmp_path / name).n_obs == 10
    assert os.listdir(tmp_path) == [name]


def test_a_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write_sample(make_slide(10), tmp_path / "a.zarr")
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 3:  # the first finds a folder in its place, the second moves that aside
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(write.os, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        write_sample(make_slide(20), tmp_path / "a.zarr")
    assert read_sample(tmp_path / "a.zarr").n_obs == 10


def test_an_interrupted_block_leaves_nothing(tmp_path):
    def interrupted():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_wrong_suffix_and_absent_folder(tmp_path):
    with pytest.raises(InputError, match=r"ending in \.h5ad or \.zarr, found '\.csv'"):
        write_sample(make_slide(), tmp_path / "a.csv")
    with pytest.raises(InputError, match="an existing folder"):
        write_sample(make_slide(), tmp_path / "gone" / "a.h5ad")


def test_a_failed_table_leaves_the_old_one_and_no_rubbish(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(pd.DataFrame({"a": [1]}), path)
    with pytest.raises(Exception, match="complex"):
        write_parquet(pd.DataFrame({"a": [1j]}), path)
    assert pd.read_parquet(path)["a"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_json_is_plain(tmp_path):
    write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": tmp_path})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 0.5, "b": str(tmp_path)}
