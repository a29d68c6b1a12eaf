import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tissue import make_sample

from metaniche.data import cache
from metaniche.data.cache import ABOUT, CELLS, TENSORS, is_saved, load_sample, sample_folder, save_sample
from metaniche.errors import InputError


def variants():
    dense = make_sample("s", "p")
    few = dense.cells.assign(annotation=pd.Categorical([None, "x"] * 40))
    return {
        "dense": dense,
        "sparse": replace(dense, x=sparse.csr_array(dense.x * (dense.x > 2))),
        "no features": make_sample("s", "p", kind="none"),
        "missing annotations": replace(dense, cells=few),
        "edges without weights": replace(dense, graph=replace(dense.graph, weight=None)),
    }


@pytest.mark.parametrize("name", variants())
def test_round_trip(tmp_path, name):
    sample = variants()[name]
    save_sample(tmp_path, sample)
    read = load_sample(tmp_path, "s")
    assert sample.graph.tensors().keys() == read.graph.tensors().keys()
    assert ("weight" in sample.graph.tensors()) == (name != "edges without weights")
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


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_every_id_has_a_folder_of_its_own_inside(tmp_path_factory, first, second):
    root = tmp_path_factory.getbasetemp()
    folders = [sample_folder(root, name) for name in (first, second)]
    assert all(folder.resolve().parent == root.resolve() for folder in folders)
    assert (folders[0] == folders[1]) == (first == second)


@pytest.mark.parametrize("name", ["a/b", "..", "../s", "run 1.2", "Пациент"])
def test_ids_that_are_no_file_names_come_back(tmp_path, name):
    folder = tmp_path / "cache"
    folder.mkdir()
    save_sample(folder, make_sample(name, "p"))
    assert load_sample(folder, name).sample_id == name
    assert [f.name for f in tmp_path.iterdir()] == ["cache"]


def test_a_sample_of_another_source_does_not_count_as_saved(tmp_path):
    save_sample(tmp_path, make_sample("s", "p"), {"bytes": 1})
    assert is_saved(tmp_path, "s")
    assert is_saved(tmp_path, "s", {"bytes": 1})
    assert not is_saved(tmp_path, "s", {"bytes": 2})


@pytest.mark.parametrize("fails", [False, True])
def test_a_sample_that_another_process_saved_first_is_left_alone(tmp_path, monkeypatch, fails):
    """The other process wins between the look and the move: ours is dropped, and theirs is never gone, not for a moment."""
    sample, write, theirs = make_sample("s", "p"), cache._write, []

    def slow_write(folder, *args):
        write(folder, *args)
        monkeypatch.setattr(cache, "_write", write)
        theirs.append(save_sample(tmp_path, sample, {"bytes": 1}).stat().st_ino)
        if fails:
            monkeypatch.setattr("metaniche.io.write._move_onto", lambda *paths: (_ for _ in ()).throw(OSError("busy")))

    monkeypatch.setattr(cache, "_write", slow_write)
    assert [save_sample(tmp_path, sample, {"bytes": 1}).stat().st_ino] == theirs
    assert load_sample(tmp_path, "s").n_cells == sample.n_cells
    assert [f.name for f in tmp_path.iterdir()] == ["s"]


def test_a_sample_of_another_source_is_replaced(tmp_path):
    save_sample(tmp_path, make_sample("s", "p"), {"bytes": 1})
    save_sample(tmp_path, make_sample("s", "q"), {"bytes": 2})
    assert load_sample(tmp_path, "s").patient_id == "q"
    save_sample(tmp_path, make_sample("s", "r"))
    assert load_sample(tmp_path, "s").patient_id == "r"


def test_large_arrays_are_mapped_and_not_read(tmp_path):
    """Loading 64 MB of features takes next to no memory of this process until they are looked at."""
    wide = replace(
        make_sample("s", "p"), x=np.ones((80, 200_000), np.float32), features=tuple(map(str, range(200_000)))
    )
    save_sample(tmp_path, wide)
    before = resident_bytes()
    read = load_sample(tmp_path, "s")
    grown = resident_bytes() - before
    assert read.x[3, 5] == 1
    assert grown < 50_000_000


def resident_bytes():
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("needs /proc to see what a process holds in memory")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
