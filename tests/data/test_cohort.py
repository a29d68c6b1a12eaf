import hashlib
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy import sparse
from slide import make_slide

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import InputError
from metaniche.io import datasets

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


def config(**options):
    return CohortConfig(**{"name": "study", "um_per_unit": 1.0, "feature_kind": "counts"} | options)


def two_samples():
    """An AnnData of two samples whose cells alternate."""
    slide = make_slide(40)
    slide.obs["sample_id"] = ["s1", "s2"] * 20
    slide.obs["patient_id"] = ["p1", "p2"] * 20
    return slide


PATIENTS = pd.DataFrame({"event": [1, 0]}, index=["p1", "p2"])


def test_memory_and_disk_give_the_same_samples(tmp_path):
    slide = two_samples()
    memory = Cohort.from_anndata(slide, PATIENTS, config())
    for sample in ("s1", "s2"):
        slide[slide.obs["sample_id"] == sample].copy().write_h5ad(tmp_path / f"{sample}.h5ad")
    (tmp_path / "samples.csv").write_text("sample_id,patient_id,path\ns1,p1,s1.h5ad\ns2,p2,s2.h5ad\n")
    PATIENTS.rename_axis("patient_id").to_csv(tmp_path / "patients.csv")
    disk = Cohort.from_manifest(tmp_path / "samples.csv", tmp_path / "patients.csv", config())
    pd.testing.assert_frame_equal(memory.patients, disk.patients)
    pd.testing.assert_frame_equal(memory.samples, disk.samples[["patient_id"]])
    for sample in ("s1", "s2"):
        a, b = memory.read_checked(sample), disk.read_checked(sample)
        assert a.n_obs == 20
        np.testing.assert_array_equal(a.to_df(), b.to_df())
        np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])
        assert list(a.obs["cell_type"]) == list(b.obs["cell_type"])
    assert "s1.h5ad (sample s1)" in disk.where("s1")
    assert memory.where("s1") == "study, sample s1"


def test_patients_may_be_an_index_or_a_column():
    by_column = PATIENTS.rename_axis("patient_id").reset_index()
    a, b = (Cohort.from_anndata(two_samples(), table, config()).patients for table in (PATIENTS, by_column))
    pd.testing.assert_frame_equal(a, b)


def test_types_are_renamed_then_dropped():
    slide = two_samples()
    slide.obs = slide.obs.rename(columns={"cell_type": "annotation_2"})
    settings = config(
        cell_type_key="annotation_2",
        type_aliases={"T cell": "immune", "fibroblast": "stroma"},
        drop_types=["stroma"],
        malignant_types=["tumor"],
    )
    sample = Cohort.from_anndata(slide, PATIENTS, settings).read_checked("s1")
    raw = slide[slide.obs["sample_id"] == "s1"].obs["annotation_2"]
    assert list(sample.obs["cell_type"].cat.categories) == ["immune", "tumor"]
    assert list(sample.obs_names) == list(raw.index[raw != "fibroblast"])
    assert (sample.obs["cell_type"] == "immune").sum() == (raw == "T cell").sum()


def test_two_names_may_become_one():
    settings = config(type_aliases={"T cell": "stroma", "fibroblast": "stroma"})
    sample = Cohort.from_anndata(two_samples(), PATIENTS, settings).read_checked("s2")
    assert set(sample.obs["cell_type"]) == {"stroma", "tumor"}


def test_missing_types_stay_missing():
    slide = two_samples()
    slide.obs.loc["cell0", "cell_type"] = None
    sample = Cohort.from_anndata(slide, PATIENTS, config(drop_types=["fibroblast"])).read_checked("s1")
    assert sample.obs["cell_type"].isna().tolist() == [True] + [False] * (sample.n_obs - 1)


def test_raw_counts_are_taken_from_their_layer():
    slide = two_samples()
    slide.layers["counts"] = slide.X.copy()
    slide.X = slide.X.log1p()
    sample = Cohort.from_anndata(slide, PATIENTS, config()).read_checked("s1")
    np.testing.assert_array_equal(sample.X.toarray(), slide.layers["counts"][::2].toarray())


def test_without_features_there_are_no_columns():
    sample = Cohort.from_anndata(two_samples(), PATIENTS, config(feature_kind="none")).read_checked("s1")
    assert sample.shape == (20, 0)


def test_units_are_told_and_coordinates_left_alone():
    slide = two_samples()
    slide.obsm["spatial"] /= 0.5
    slide.uns["metaniche"] = {"um_per_unit": 0.5, "version": "0"}
    sample = Cohort.from_anndata(slide, PATIENTS, config(um_per_unit=None)).read_checked("s1")
    assert sample.uns["metaniche"] == {
        "um_per_unit": 0.5, "version": "0", "feature_kind": "counts", "found_types": ["T cell", "fibroblast", "tumor"],
    }  # fmt: skip
    np.testing.assert_array_equal(sample.obsm["spatial"], slide.obsm["spatial"][::2])


def test_rows_are_those_of_the_source(tmp_path):
    """Also after cells were dropped, and whatever an older column of the file says."""
    slide = two_samples()
    slide.obs["metaniche_row"] = 0
    settings = config(drop_types=["tumor"])
    sample = Cohort.from_anndata(slide, PATIENTS, settings).read_checked("s2")
    assert list(slide.obs_names[sample.obs["metaniche_row"]]) == list(sample.obs_names)
    one = slide[slide.obs["sample_id"] == "s1"].copy()
    one.write_h5ad(tmp_path / "s1.h5ad")
    (tmp_path / "s.csv").write_text("sample_id,patient_id,path\ns1,p1,s1.h5ad\n")
    (tmp_path / "p.csv").write_text("patient_id,event\np1,1\n")
    sample = Cohort.from_manifest(tmp_path / "s.csv", tmp_path / "p.csv", settings).read_checked("s1")
    assert sample.n_obs < one.n_obs
    assert list(one.obs_names[sample.obs["metaniche_row"]]) == list(sample.obs_names)


def test_reading_leaves_the_source_alone():
    slide = two_samples()
    before = slide.copy()
    Cohort.from_anndata(slide, PATIENTS, config(drop_types=["tumor"])).read_checked("s1")
    pd.testing.assert_frame_equal(slide.obs, before.obs)
    assert "metaniche" not in slide.uns


def test_the_manifests_sha256_is_checked_before_reading(tmp_path):
    path = tmp_path / "s1.h5ad"
    make_slide(20).write_h5ad(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "s.csv").write_text(f"sample_id,patient_id,path,sha256\ns1,p1,s1.h5ad,{sha256}\n")
    (tmp_path / "p.csv").write_text("patient_id,event\np1,1\n")
    cohort = Cohort.from_manifest(tmp_path / "s.csv", tmp_path / "p.csv", config())
    assert cohort.read_checked("s1").n_obs == 20
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="content with sha256"):
        cohort.read_checked("s1")


def test_the_version_follows_the_files(tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    make_slide(20).write_h5ad(tmp_path / "s1.h5ad")
    (tmp_path / "s.csv").write_text("sample_id,patient_id,path\ns1,p1,s1.h5ad\n")
    (tmp_path / "p.csv").write_text("patient_id,event\np1,1\n")

    def version():
        return Cohort.from_manifest(tmp_path / "s.csv", tmp_path / "p.csv", config()).version

    before = version()
    assert before == version()
    make_slide(21).write_h5ad(tmp_path / "s1.h5ad")
    assert version() != before
    named = {name: Cohort.from_dataset(name, packaged(name)[1]).version for name in datasets.DATASETS}
    assert len({*named.values(), "", before}) == 5


def test_a_cohort_travels_to_another_process():
    """For our own worker processes; nothing is ever unpickled from a file."""
    cohort = pickle.loads(pickle.dumps(Cohort.from_anndata(two_samples(), PATIENTS, config())))
    assert cohort.read_checked("s2").n_obs == 20


def test_lists_of_a_config_become_tuples():
    settings = config(malignant_types=["tumor"], drop_types=None)
    assert settings.malignant_types == ("tumor",)
    assert settings.drop_types == ()
    assert settings.type_aliases == {}
    assert settings.needs_types
    assert not config().needs_types


def packaged(name):
    """(source, CohortConfig) of configs/data/<name>.yaml, which also holds settings of other rooms."""
    content = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    own = {f.name: content[f.name] for f in fields(CohortConfig) if f.name in content}
    return content["source"], CohortConfig(**own)


@pytest.mark.parametrize("name", sorted(datasets.DATASETS))
def test_packaged_configs_name_known_types(name):
    source, settings = packaged(name)
    assert source == {"dataset": settings.name} == {"dataset": name}
    module = datasets.load(name)
    assert settings.um_per_unit == pytest.approx(module.UM_PER_UNIT)
    assert settings.feature_kind == module.FEATURE_KIND
    assert set(settings.malignant_types + settings.drop_types) <= set(module.CELL_TYPES)


EXPECTED = {
    # samples, patients, cells after drop_types
    "crc_codex": (140, 35, 251_028 - 6_524),
    "her2st": (36, 8, 13_620),
    "tnbc_mibi": (37, 37, 182_029 - 10 - 1_535),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("error")
def test_public_cohorts_pass_every_check(name, mirror, monkeypatch):
    """Without a single warning: the suspicions about units do not fire on real tissue in its true units."""
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    n_samples, n_patients, n_cells = EXPECTED[name]
    source, settings = packaged(name)
    cohort = Cohort.from_dataset(source["dataset"], settings)
    assert len(cohort.samples) == n_samples
    assert len(cohort.patients) == n_patients
    sizes = {}
    for sample in cohort.samples.index:
        adata = cohort.read_checked(sample)
        sizes[sample] = adata.n_obs
        if settings.drop_types:
            assert not set(settings.drop_types) & set(adata.obs["cell_type"].cat.categories)
    assert sum(sizes.values()) == n_cells
    assert len(set(sizes)) == n_samples


@pytest.mark.parametrize("name", ["crc_codex", "tnbc_mibi"])
def test_pixels_of_public_cohorts_declared_as_micrometres_are_noticed(name, mirror, monkeypatch):
    """The sample knows its own pixel size and refuses another; without that knowledge whole numbers give it away."""
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    module = datasets.load(name)
    settings = CohortConfig(name, 1.0, module.FEATURE_KIND)
    cohort = Cohort.from_dataset(name, settings)
    with pytest.raises(InputError, match=f"um_per_unit {module.UM_PER_UNIT}.*1.0 declared"):
        cohort.read_checked("1" if name == "tnbc_mibi" else "1_A")

    def forgetful(sample):
        adata = module.read_sample(sample)
        del adata.uns["metaniche"]
        return adata

    unaware = Cohort(settings, cohort.samples, cohort.patients, forgetful)
    for sample in cohort.samples.index[:5]:
        with pytest.raises(InputError, match="whole numbers, as pixels are"):
            unaware.read_checked(sample)


SHIPPED = {
    "crc_codex": ("cll_dii", "crc_dfs", "crc_dfs_competing", "crc_os", "pn2", "stage_iv"),
    "tnbc_mibi": ("recurrence", "rfs", "rfs_discrete", "node_positive", "tnbc_os"),
    "her2st": ("nodal_status",),
}


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, tasks in SHIPPED.items() for task in tasks])
def test_every_shipped_task_of_a_public_cohort_finds_its_columns(name, task, mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    cohort = Cohort.from_dataset(name, packaged(name)[1])
    values = OmegaConf.to_container(OmegaConf.load(CONFIGS.parent / "task" / f"{task}.yaml"))
    targets = make_targets(Task(**values), cohort.patients, cohort.samples)
    assert len(targets.table) >= 8


def test_patients_left_out_of_public_cohorts_are_named(mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    cohort = Cohort.from_dataset("tnbc_mibi", packaged("tnbc_mibi")[1])
    assert set(cohort.left_out) == {"16", "22", "30", "38"}
    assert not set(cohort.left_out) & set(cohort.patients.index)
    labels = cohort.patients
    assert labels["recurrence"].value_counts().to_dict() == {0: 21, 1: 16}
    assert labels["node_positive"].value_counts().to_dict() == {1.0: 15, 0.0: 11}


def test_a_misspelt_type_of_a_public_cohort_is_refused(mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))
    with pytest.raises(InputError, match=r"found no 'tumour cells'.*Did you mean 'tumor cells'"):
        Cohort.from_dataset("crc_codex", config(feature_kind="none", malignant_types=["tumour cells"]))


def test_edges_between_samples_are_said(caplog):
    mixed = two_samples()
    joined = mixed[np.argsort(mixed.obs["sample_id"].to_numpy(), kind="stable")].copy()
    n = joined.n_obs
    joined.obsp["spatial_connectivities"] = sparse.csr_array(
        (np.ones(n - 1), (np.arange(n - 1), np.arange(1, n))), (n, n)
    )
    Cohort.from_anndata(joined, PATIENTS, config())
    assert f"1 of {n - 1} edges of obsp['spatial_connectivities'] join cells of different samples" in caplog.text
