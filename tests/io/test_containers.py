import anndata
import h5py
import numpy as np
import pytest
import zarr
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io.containers import check_h5, check_zarr


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_what_anndata_writes_passes(tmp_path, compression):
    slide = make_slide()
    slide.uns["nested"] = {"text": "a", "list": np.array(["a", "b"]), "none": np.float64(1)}
    slide.write_h5ad(tmp_path / "a.h5ad", compression=compression)
    check_h5(tmp_path / "a.h5ad")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_anndata_writes_as_zarr_passes(tmp_path, zarr_format):
    with anndata.settings.override(zarr_write_format=zarr_format):
        make_slide().write_zarr(tmp_path / "a.zarr")
    check_zarr(tmp_path / "a.zarr")


def test_a_large_array_of_zeros_is_no_bomb(tmp_path):
    """Zeros compress a thousandfold; that is the limit of deflate, not a lie."""
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("x", data=np.zeros(20_000_000, np.float64), chunks=(1_000_000,), compression="gzip")
        assert file["x"].id.get_storage_size() > 0
    check_h5(tmp_path / "a.h5ad")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_image_of_a_spatialdata_store_may_be_large(tmp_path):
    for folder in ("images", "tables"):
        root = zarr.open_group(tmp_path / f"{folder}.zarr" / folder, mode="w")
        root.create_array("x", shape=(100_000, 100_000), chunks=(1000, 1000), dtype="u1")
    check_zarr(tmp_path / "images.zarr", max_bytes=1000)
    with pytest.raises(InputError, match="'tables/x' to store what it claims"):
        check_zarr(tmp_path / "tables.zarr")


def test_the_sum_of_all_arrays_is_bounded(tmp_path):
    make_slide().write_h5ad(tmp_path / "a.h5ad")
    check_h5(tmp_path / "a.h5ad", max_bytes=100_000)
    with pytest.raises(InputError, match="at most 2,000 bytes"):
        check_h5(tmp_path / "a.h5ad", max_bytes=2000)


def test_one_dataset_under_two_names_passes(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["a/x"] = np.arange(3)
        file["b"] = file["a/x"]
    check_h5(tmp_path / "a.h5ad")


def test_an_empty_dataset_passes(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["nothing"] = h5py.Empty("f8")
    check_h5(tmp_path / "a.h5ad")
