import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData, concat
from scipy import sparse

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.data.prepare import prepare, prepare_anndata
from metaniche.data.task import Task
from metaniche.errors import InputError
from metaniche.graph import GraphConfig
from metaniche.ops import hilbert_order

CONFIG = CohortConfig("c", um_per_unit=0.5, feature_kind="counts", malignant_types=("tumour",), drop_types=("debris",))
GRAPH = GraphConfig(max_paracrine=6)


class Source:
    """Three samples of two patients in pixels; counts how often it is read."""

    def __init__(self):
        self.reads = []

    def read(self, sample_id):
        self.reads.append(sample_id)
        rng = np.random.default_rng(int(sample_id[1:]))
        types = np.array(["tumour", "stroma", "debris"])[rng.permutation(60) % 3]
        return AnnData(
            sparse.csr_array(rng.poisson(1.0, (60, 5)).astype(np.float32)),
            obs=pd.DataFrame({"cell_type": types}, index=[f"{sample_id}_{i}" for i in range(60)]),
            var=pd.DataFrame(index=list("ABCDE")),
            obsm={"spatial": rng.uniform(0, 300, (60, 2))},
        )

    def cohort(self, config=CONFIG):
        samples = pd.DataFrame({"patient_id": ["p", "p", "q"]}, index=pd.Index(["s0", "s1", "s2"], name="sample_id"))
        patients = pd.DataFrame({"y": [1, 0]}, index=pd.Index(["p", "q"], name="patient_id"))
        return Cohort(config, samples, patients, self.read, version="1")


@pytest.fixture
def source():
    return Source()


def test_cells_are_in_micrometres_in_place_and_typed(source, tmp_path):
    prepared = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    sample, raw = prepared.load("s1"), source.read("s1")
    assert sample.n_cells == 40
    assert not (sample.cells["cell_type"] == "debris").any()
    assert np.allclose(sample.graph.pos_um, raw.obsm["spatial"][sample.file_order] * 0.5, atol=1e-4)
    assert (sample.cells.index == raw.obs_names[sample.file_order]).all()
    assert np.array_equal(sample.x.toarray(), raw.X.toarray()[sample.file_order])
    assert np.array_equal(sample.is_malignant, sample.cells["cell_type"] == "tumour")
    sample.graph.validate()


def test_a_second_call_reads_nothing(source, tmp_path):
    prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    source.reads.clear()
    prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert source.reads == []


def test_a_killed_call_goes_on_where_it_was(source, tmp_path):
    def dies(sample_id):
        if sample_id == "s1":
            raise KeyboardInterrupt
        return source.read(sample_id)

    with pytest.raises(KeyboardInterrupt):
        prepare(replace(source.cohort(), read=dies), GRAPH, tmp_path, progress=False)
    prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert source.reads == ["s0", "s1", "s2"]


@pytest.mark.parametrize("change", ["graph", "config", "version"])
def test_whatever_decides_the_result_gets_a_folder_of_its_own(source, tmp_path, change):
    first = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    cohort, graph = source.cohort(), GRAPH
    if change == "graph":
        graph = GraphConfig(max_paracrine=5)
    elif change == "config":
        cohort = source.cohort(replace(CONFIG, drop_types=()))
    else:
        cohort = replace(cohort, version="2")
    assert prepare(cohort, graph, tmp_path, progress=False).folder != first.folder


def test_samples_of_patients_and_their_targets(source, tmp_path):
    prepared = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert [s.sample_id for s in prepared.of(["p"])] == ["s0", "s1"]
    assert prepared.samples["n_cells"].tolist() == [40, 40, 40]
    targets = prepared.targets(Task("t", "t", label="y", positive=(1,)))
    assert targets.table["y"].to_dict() == {"p": 1.0, "q": 0.0}


def test_only_so_much_is_kept_in_memory(source, tmp_path, monkeypatch):
    monkeypatch.setattr("metaniche.data.prepare.KEPT_BYTES", 1)
    prepared = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert prepared.load("s0") is prepared.load("s0")
    prepared.load("s1")
    assert list(prepared._kept) == ["s1"]


def test_anndata_for_prediction_is_prepared_in_memory(source):
    adata = source.read("s0")
    (sample,) = prepare_anndata(adata, CONFIG, GRAPH, um_per_unit=0.5)
    assert sample.n_cells == 40
    assert (adata.obs["cell_type"].to_numpy()[sample.file_order] != "debris").all()
    assert list(adata.obs) == ["cell_type"]


def test_anndata_without_cells_is_refused(source):
    with pytest.raises(InputError, match="expected cells, found none"):
        prepare_anndata(source.read("s0")[:0], CONFIG, GRAPH, um_per_unit=0.5)


def test_a_stored_graph_must_be_there(source, tmp_path):
    with pytest.raises(InputError, match="spatial_connectivities"):
        prepare(source.cohort(), GraphConfig(builder="stored"), tmp_path, progress=False)


def test_the_real_cohorts_are_prepared(mirror, monkeypatch, tmp_path):
    """One core of crc_codex, as the loader gives it."""
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    config = CohortConfig("crc_codex", 0.377, "none", malignant_types=("tumor cells",), drop_types=("undefined",))
    cohort = Cohort.from_dataset("crc_codex", config)
    small = replace(cohort, samples=cohort.samples.iloc[:1])
    sample = prepare(small, GraphConfig(), tmp_path, progress=False).load(small.samples.index[0])
    assert sample.x.shape == (sample.n_cells, 0)
    assert 5 < sample.graph.select("contact").distance_um.mean() < 20


def test_a_sample_that_moved_to_another_patient_is_made_again(source, tmp_path):
    prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    source.reads.clear()
    moved = replace(source.cohort(), samples=source.cohort().samples.assign(patient_id=["p", "q", "q"]))
    assert prepare(moved, GRAPH, tmp_path, progress=False).load("s1").patient_id == "q"
    assert source.reads == ["s1"]


def test_a_cohort_in_memory_that_changed_is_prepared_apart(source, tmp_path):
    adata = concat([source.read(s) for s in ("s0", "s1")], index_unique="-", merge="same", uns_merge="same")
    adata.obs["sample_id"] = np.repeat(["s0", "s1"], [len(source.read(s)) for s in ("s0", "s1")])
    adata.obs["patient_id"] = "p"
    patients = pd.DataFrame({"y": [1]}, index=pd.Index(["p"], name="patient_id"))

    def prepared(adata):
        return prepare(Cohort.from_anndata(adata, patients, CONFIG), GRAPH, tmp_path, progress=False)

    first = prepared(adata)
    written = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file()}
    assert prepared(adata.copy()).folder == first.folder
    assert {p: p.stat().st_mtime_ns for p in written} == written
    again = prepared(adata[np.arange(adata.n_obs) % 7 > 0].copy())
    assert again.folder != first.folder
    assert again.load("s1").n_cells < first.load("s1").n_cells


def die_while_writing(folder):
    """Prepare until the second sample's table is being written, then be killed as by the machine."""
    torch.set_num_threads(1)
    write = pd.DataFrame.to_parquet
    written = []

    def last_words(table, path):
        write(table, path)
        written.append(path)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    pd.DataFrame.to_parquet = last_words
    prepare(Source().cohort(), GRAPH, folder, progress=False)


def run_together(target, folder, n=1):
    """Exit codes of `n` processes; each uses one thread, because a fork does not inherit OpenMP's pool."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=target, args=(folder,)) for _ in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


def test_sigkill_leaves_no_half_written_sample(source, tmp_path):
    assert run_together(die_while_writing, tmp_path) == [-signal.SIGKILL]
    prepared = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert source.reads == ["s1", "s2"]
    for name in prepared.samples.index:
        prepared.load(name).graph.validate()


def prepare_here(folder):
    torch.set_num_threads(1)
    prepare(Source().cohort(), GRAPH, folder, progress=False)


def test_processes_may_prepare_one_cohort_at_once(source, tmp_path):
    assert run_together(prepare_here, tmp_path, n=4) == [0, 0, 0, 0]
    prepared = prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert source.reads == []
    for name in prepared.samples.index:
        prepared.load(name).graph.validate()


def test_cells_are_in_hilbert_order(source, tmp_path):
    pos = prepare(source.cohort(), GRAPH, tmp_path, progress=False).load("s0").graph.pos_um
    assert torch.equal(hilbert_order(pos, torch.tensor([0, len(pos)])), torch.arange(len(pos)))


def test_without_types_malignancy_is_as_given_or_anything_may_be(source):
    untyped = CohortConfig("c", um_per_unit=0.5, feature_kind="counts")
    adata = source.read("s0")
    del adata.obs["cell_type"]
    (anything,) = prepare_anndata(adata, untyped, GRAPH, um_per_unit=0.5)
    assert anything.is_malignant.all()
    assert not anything.knows_malignant
    adata.obs["is_malignant"] = True
    (tumour,) = prepare_anndata(adata, untyped, GRAPH, um_per_unit=0.5)
    assert tumour.is_malignant.all()
    assert tumour.knows_malignant
    adata.obs["is_malignant"] = np.arange(60) < 20
    (given,) = prepare_anndata(adata, untyped, GRAPH, um_per_unit=0.5)
    assert np.array_equal(given.is_malignant, given.file_order < 20)


def test_progress_is_a_line_in_a_log(source, tmp_path, caplog):
    with caplog.at_level("INFO"):
        prepare(source.cohort(), GRAPH, tmp_path)
    assert "Preparing 3 of 3 samples of c" in caplog.text
    assert "3/3  samples prepared" in caplog.text


def test_a_sample_in_which_no_malignant_type_occurs_has_no_malignant_cell(source):
    adata = source.read("s0")
    healthy = adata[adata.obs["cell_type"] != "tumour"].copy()
    (sample,) = prepare_anndata(healthy, CONFIG, GRAPH, um_per_unit=0.5)
    assert not sample.is_malignant.any()


def test_where_types_are_asked_for_and_missing_only_malignancy_as_given_will_do(source):
    adata = source.read("s0")
    del adata.obs["cell_type"]
    with pytest.raises(InputError, match="cell_type"):
        prepare_anndata(adata, CONFIG, GRAPH, um_per_unit=0.5)
    adata.obs["is_malignant"] = np.arange(60) < 20
    (given,) = prepare_anndata(adata, CONFIG, GRAPH, um_per_unit=0.5)
    assert np.array_equal(given.is_malignant, given.file_order < 20)


@pytest.mark.parametrize("wrong", [{"malignant_types": ("tumor",)}, {"drop_types": ("debri",)}])
def test_a_misspelt_type_of_a_manifest_is_named_on_every_call(source, tmp_path, wrong):
    """One of three files has debris: a type need not be in each of them."""
    for name in ("s0", "s1", "s2"):
        adata = source.read(name)
        adata = adata if name == "s0" else adata[adata.obs["cell_type"] != "debris"].copy()
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    (tmp_path / "samples.csv").write_text("sample_id,patient_id,path\ns0,p,s0.h5ad\ns1,p,s1.h5ad\ns2,q,s2.h5ad\n")
    (tmp_path / "patients.csv").write_text("patient_id,y\np,1\nq,0\n")

    def opened(config):
        return Cohort.from_manifest(tmp_path / "samples.csv", tmp_path / "patients.csv", config)

    assert prepare(opened(CONFIG), GRAPH, tmp_path, progress=False).load("s1").is_malignant.any()
    for _ in range(2):
        with pytest.raises(InputError, match=r"Did you mean '(tumour|debris)'"):
            prepare(opened(replace(CONFIG, **wrong)), GRAPH, tmp_path, progress=False)


def test_that_every_cell_counts_as_malignant_is_said(source, tmp_path, caplog):
    prepare(source.cohort(replace(CONFIG, malignant_types=())), GRAPH, tmp_path, progress=False)
    assert "nobody says which cells are malignant" in caplog.text
    assert "'stroma', 'tumour'" in caplog.text
    caplog.clear()
    prepare(source.cohort(), GRAPH, tmp_path, progress=False)
    assert "malignant" not in caplog.text
