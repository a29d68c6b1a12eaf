import sys
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io.read import read_obs, read_sample

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
@pytest.mark.parametrize("kind", ["counts", "intensity", "none"])
def test_what_was_written_comes_back(tmp_path, name, kind):
    slide = make_slide(kind=kind)
    getattr(slide, "write_h5ad" if name == "a.h5ad" else "write_zarr")(tmp_path / name)
    back = read_sample(tmp_path / name)
    pd.testing.assert_frame_equal(back.obs, slide.obs, check_categorical=False, check_dtype=False)
    np.testing.assert_array_equal(back.obsm["spatial"], slide.obsm["spatial"])
    np.testing.assert_array_equal(back.to_df(), slide.to_df())


@pytest.mark.parametrize("name", ["a.h5ad", "a.zarr"])
def test_cells_can_be_read_without_the_rest(tmp_path, name, monkeypatch):
    slide = make_slide()
    getattr(slide, "write_h5ad" if name == "a.h5ad" else "write_zarr")(tmp_path / name)
    expected = read_sample(tmp_path / name).obs
    monkeypatch.setattr(anndata, "read_h5ad", None)
    pd.testing.assert_frame_equal(read_obs(tmp_path / name), expected)


def test_cells_of_a_file_of_another_form_are_read_with_the_rest(tmp_path, monkeypatch):
    slide = make_slide()
    slide.write_h5ad(tmp_path / "a.h5ad")
    monkeypatch.setattr("metaniche.io.read._obs_of_h5", lambda path: np.zeros(3, [("index", "i4")]))
    pd.testing.assert_frame_equal(read_obs(tmp_path / "a.h5ad"), read_sample(tmp_path / "a.h5ad").obs)


def test_a_damaged_file_is_refused_when_only_its_cells_are_asked_for(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"no HDF5")
    for path in (tmp_path / "a.h5ad", tmp_path / "none.h5ad", tmp_path):
        with pytest.raises(InputError):
            read_obs(path)


@pytest.fixture
def spatialdata(monkeypatch, tmp_path):
    """The three calls that reading takes, on a store of one table whose rows are in another order than its region."""
    table = make_slide(4)
    del table.obsm["spatial"]
    table.obs["instance"] = [12, 10, 13, 11]
    table.uns["spatialdata_attrs"] = {"region": "cells", "region_key": "region", "instance_key": "instance"}
    centres = pd.DataFrame({"x": [0.0, 1, 2, 3], "y": [9.0, 8, 7, 6]}, index=[10, 11, 12, 13])

    class Store(dict):
        tables: dict

    store = Store(cells=SimpleNamespace(compute=lambda: centres))
    store.tables = {"table": table}
    module = SimpleNamespace(read_zarr=lambda path: store, get_centroids=lambda region: region)
    monkeypatch.setitem(sys.modules, "spatialdata", module)
    (tmp_path / "s.zarr" / "tables").mkdir(parents=True)
    return SimpleNamespace(path=tmp_path / "s.zarr", store=store, table=table, centres=centres)


def test_spatialdata_centroids_follow_the_table(spatialdata):
    back = read_sample(spatialdata.path)
    np.testing.assert_array_equal(back.obsm["spatial"], [[2, 7], [0, 9], [3, 6], [1, 8]])


def test_spatialdata_keeps_positions_of_its_own(spatialdata):
    spatialdata.table.obsm["spatial"] = np.ones((4, 2))
    np.testing.assert_array_equal(read_sample(spatialdata.path).obsm["spatial"], np.ones((4, 2)))


def test_spatialdata_with_two_tables_or_no_region_is_refused(spatialdata):
    spatialdata.store.tables["other"] = spatialdata.table
    with pytest.raises(InputError, match="one table, found 2: 'table', 'other'"):
        read_sample(spatialdata.path)
    del spatialdata.store.tables["other"]
    spatialdata.table.uns["spatialdata_attrs"]["region"] = ["cells", "nuclei"]
    with pytest.raises(InputError, match="annotates one region"):
        read_sample(spatialdata.path)


def test_spatialdata_cells_outside_the_region_are_named(spatialdata):
    spatialdata.table.obs["instance"] = [12, 10, 99, 11]
    with pytest.raises(InputError, match="found 1 that are not: '99'"):
        read_sample(spatialdata.path)


def test_a_real_spatialdata_store(tmp_path):
    sd = pytest.importorskip("spatialdata", reason="the optional extra spatialdata is not installed")
    table = make_slide(10)
    sd.SpatialData(tables={"table": table}).write(tmp_path / "s.zarr")
    np.testing.assert_array_equal(read_sample(tmp_path / "s.zarr").obsm["spatial"], table.obsm["spatial"])


@pytest.mark.parametrize("content", ["[]", '{"attributes": []}', "3"])
def test_root_metadata_of_another_shape_is_no_crash(tmp_path, content):
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "zarr.json").write_text(content)
    with pytest.raises(InputError, match="expected an AnnData"):
        read_sample(tmp_path / "s.zarr")


def test_an_anndata_zarr_is_not_taken_for_spatialdata(tmp_path):
    slide = make_slide()
    slide.uns["tables"] = {"a": 1}
    slide.write_zarr(tmp_path / "a.zarr")
    assert isinstance(read_sample(str(tmp_path / "a.zarr")), anndata.AnnData)
