"""Files that must not be opened, or cannot be, and the words that say why."""

import json
import sys

import anndata
import h5py
import numpy as np
import pytest
import zarr
from slide import make_slide

from metaniche.errors import InputError
from metaniche.io.read import read_sample

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::anndata.OldFormatWarning")


@pytest.fixture(autouse=True)
def secret(tmp_path):
    """A file beside the sample that nobody may read."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["key"] = np.arange(120.0).reshape(60, 2)
    (tmp_path / "secret.txt").write_bytes(b"\x07" * 960)
    return path


def h5ad(change):
    """A valid h5ad after `change(file, folder)`."""

    def build(folder):
        path = folder / "slide.h5ad"
        make_slide().write_h5ad(path)
        with h5py.File(path, "r+") as file:
            change(file, folder)
        return path

    return build


def raw(content):
    """An h5ad after its bytes went through `content`."""

    def build(folder):
        path = folder / "slide.h5ad"
        make_slide().write_h5ad(path)
        path.write_bytes(content(path.read_bytes()))
        return path

    return build


def store(change, zarr_format=3):
    """A valid AnnData zarr after `change(folder)`."""

    def build(folder):
        path = folder / "slide.zarr"
        with anndata.settings.override(zarr_write_format=zarr_format):
            make_slide().write_zarr(path)
        change(path)
        return path

    return build


def place(name, make):
    def build(folder):
        make(folder / name)
        return folder / name

    return build


def external_link(file, folder):
    file["obsm/secret"] = h5py.ExternalLink(str(folder / "secret.h5"), "/key")


def external_group(file, folder):
    del file["obsm"]
    file["obsm"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")


def external_storage(file, folder):
    del file["obsm/spatial"]
    file["obsm"].create_dataset("spatial", (60, 2), "f8", external=[(str(folder / "secret.txt"), 0, 960)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((60, 2), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "key", (60, 2))
    file["obsm"].create_virtual_dataset("secret", layout)


def soft_link(file, _):
    file["obsm/again"] = h5py.SoftLink("/obsm/spatial")


def cycle(file, _):
    file["uns/loop"] = file["uns"]


def bomb(file, _):
    file.create_dataset("layers/bomb", (100_000, 50_000), "f8", chunks=(1000, 1000), compression="gzip")


def unknown_filter(file, _):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((10,))
    plist.set_filter(32_099, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file["uns"].id, b"odd", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((100,)), plist)


def index_out_of_range(file, _):
    file["X/indices"][5] = 10_000_000


def raw_out_of_range(file, _):
    file.copy("X", "layers/counts")
    file["layers/counts/indptr"][3] = -1


def code_out_of_range(file, _):
    file["obs/cell_type/codes"][0] = 99


def rows_missing(file, _):
    del file["obsm/spatial"]
    file["obsm/spatial"] = np.zeros((7, 2))


def unknown_encoding(file, _):
    file["X"].attrs["encoding-type"] = "csr_tensor"


def no_obs(file, _):
    del file["obs"]


def zarr_symlink(path):
    (path / "uns" / "secret").symlink_to(path.parent / "secret.h5")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def pickle_codec(path):
    """A zarr v2 array whose filter would unpickle every chunk on reading."""
    group = zarr.open_group(path / "uns" / "old", mode="w", zarr_format=2)
    group.create_array("x", shape=(4,), chunks=(4,), dtype="f8")
    edit(path / "uns" / "old" / "x" / ".zarray", lambda meta: meta.update(filters=[{"id": "pickle"}]))


def pickle_in_summary(path):
    edit(path / ".zmetadata", lambda meta: meta["metadata"]["obsm/spatial/.zarray"].update(filters=[{"id": "pickle"}]))


def unknown_codec(path):
    edit(path / "obsm" / "spatial" / "zarr.json", lambda meta: meta["codecs"].append({"name": "run-code"}))


def zarr_bomb(path):
    edit(path / "obsm" / "spatial" / "zarr.json", lambda meta: meta.update(shape=[10**9, 10**3]))


def zarr_shape(path):
    edit(path / "obsm" / "spatial" / "zarr.json", lambda meta: meta.update(shape=["60", 2]))


def consolidated_bomb(path):
    """The arrays are honest; the summary at the top, which is what zarr reads, is not."""
    array = json.loads((path / "obsm" / "spatial" / "zarr.json").read_text()) | {"shape": [10**9, 10**3]}
    content = {"metadata": {"obsm/spatial": array}, "kind": "inline", "must_understand": False}
    edit(path / "zarr.json", lambda meta: meta.update(consolidated_metadata=content))


def consolidated_escape(path):
    array = json.loads((path / "obsm" / "spatial" / "zarr.json").read_text())
    content = {"metadata": {"../../secret": array}, "kind": "inline", "must_understand": False}
    edit(path / "zarr.json", lambda meta: meta.update(consolidated_metadata=content))


def spatialdata_store(path):
    path.mkdir()
    attributes = {"spatialdata_attrs": {"version": "0.2"}}
    (path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}))


CASES = {
    "absent": (lambda folder: folder / "slide.h5ad", ["slide.h5ad", "no such file", "Check the path"]),
    "another format": (place("slide.loom", lambda p: p.touch()), ["a .h5ad file", "'.loom'", "write_h5ad"]),
    "no suffix": (place("slide", lambda p: p.touch()), ["a .h5ad file", "suffix ''"]),
    "folder called h5ad": (place("slide.h5ad", lambda p: p.mkdir()), ["a folder with suffix '.h5ad'"]),
    "file called zarr": (place("slide.zarr", lambda p: p.touch()), ["a file with suffix '.zarr'"]),
    "empty file": (raw(lambda content: b""), ["complete HDF5 file", "truncated or damaged"]),
    "table called h5ad": (raw(lambda content: b"cell,x,y\n1,2,3\n"), ["complete HDF5 file", "OSError"]),
    "truncated by half": (raw(lambda content: content[: len(content) // 2]), ["complete HDF5 file", "truncated"]),
    "truncated by one byte": (raw(lambda content: content[:-1]), ["complete HDF5 file", "truncated"]),
    "external link": (h5ad(external_link), ["'/obsm/secret' to be inside the file", "secret.h5", "save it again"]),
    "external link on the way": (h5ad(external_group), ["'/obsm' to be inside the file", "an external link"]),
    "external storage": (h5ad(external_storage), ["'/obsm/spatial' to be inside", "external storage", "secret.txt"]),
    "virtual dataset": (h5ad(virtual), ["'/obsm/secret' to be stored", "a virtual dataset"]),
    "soft link": (h5ad(soft_link), ["'/obsm/again' to be stored in place", "a link to '/obsm/spatial'"]),
    "group inside itself": (h5ad(cycle), ["a tree of groups", "a link back"]),
    "claims 40 GB": (h5ad(bomb), ["'/layers/bomb'", "40,000,000,000 bytes claimed and 0 stored"]),
    "filter not installed": (h5ad(unknown_filter), ["'/uns/odd'", "filter 32099", "hdf5plugin"]),
    "column index out of range": (h5ad(index_out_of_range), ["X to be a valid CSR", "10000000", "damaged"]),
    "row pointer out of range": (h5ad(raw_out_of_range), ["layers['counts'] to be a valid CSR"]),
    "category code out of range": (h5ad(code_out_of_range), ["an AnnData", "cell_type", "damaged"]),
    "fewer positions than cells": (h5ad(rows_missing), ["an AnnData", "spatial"]),
    "unknown encoding": (h5ad(unknown_encoding), ["an AnnData", "csr_tensor"]),
    "no obs": (h5ad(no_obs), ["an AnnData"]),
    "zarr: symbolic link": (store(zarr_symlink), ["uns: expected files inside the store", "'secret'"]),
    "zarr: pickle codec": (store(pickle_codec), [".zarray", "only stores numbers or text", "'pickle'"]),
    "zarr: pickle codec in the summary": (store(pickle_in_summary, 2), [".zmetadata", "'pickle'"]),
    "zarr: unknown codec": (store(unknown_codec), ["obsm/spatial/zarr.json", "'run-code'"]),
    "zarr: broken metadata": (
        store(lambda path: (path / "obs" / "zarr.json").write_text("{")),
        ["obs/zarr.json", "zarr metadata in JSON"],
    ),
    "zarr: claims 8 TB": (store(zarr_bomb), ["'obsm/spatial'", "8,000,000,000,000 bytes claimed"]),
    "zarr: shape of text": (store(zarr_shape), ["a shape of whole numbers", "['60', 2]"]),
    "zarr: summary claims 8 TB": (store(consolidated_bomb), ["'obsm/spatial'", "8,000,000,000,000 bytes claimed"]),
    "zarr: summary leads outside": (store(consolidated_escape), ["inside the store", "../../secret"]),
    "zarr: empty folder": (place("slide.zarr", lambda p: p.mkdir()), ["an AnnData", "save it again"]),
    "SpatialData without the extra": (
        place("slide.zarr", spatialdata_store),
        ["optional package spatialdata", "not installed", "pip install 'metaniche[spatialdata]'"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_the_right_words(name, tmp_path, monkeypatch):
    if "SpatialData" in name:
        monkeypatch.setitem(sys.modules, "spatialdata", None)
    build, words = CASES[name]
    path = build(tmp_path)
    with pytest.raises(InputError) as caught:
        read_sample(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert all(word in message for word in words), message


def test_more_bytes_than_allowed(tmp_path):
    make_slide().write_h5ad(tmp_path / "slide.h5ad")
    with pytest.raises(InputError, match=r"at most 1,000 bytes of arrays.*larger max_bytes"):
        read_sample(tmp_path / "slide.h5ad", max_bytes=1000)


@pytest.mark.parametrize("share", np.linspace(0.02, 0.98, 13))
def test_a_truncated_file_is_never_read(tmp_path, share):
    path = raw(lambda content: content[: int(share * len(content))])(tmp_path)
    with pytest.raises(InputError, match=r"slide\.h5ad"):
        read_sample(path)
