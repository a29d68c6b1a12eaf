"""Tables of samples and patients that do not make a cohort, and the words that say why."""

import numpy as np
import pandas as pd
import pytest
from slide import make_slide

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.errors import ConfigError, InputError

SAMPLES = "sample_id,patient_id,path\ns1,p1,s1.h5ad\ns2,p2,s2.h5ad\n"
PATIENTS = "patient_id,age,metastasis\np1,61,1\np2,70,0\n"


def config(**options):
    return CohortConfig(**{"name": "study", "um_per_unit": 1.0, "feature_kind": "counts"} | options)


def on_disk(folder, samples=SAMPLES, patients=PATIENTS, *, suffix=".csv", read=False, **options):
    """Write two slides and both tables, and open them as a cohort."""
    for i in (1, 2):
        make_slide(20, seed=i).write_h5ad(folder / f"s{i}.h5ad")
    for name, content in (("samples", samples), ("patients", patients)):
        path = folder / f"{name}{suffix}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    cohort = Cohort.from_manifest(folder / f"samples{suffix}", folder / f"patients{suffix}", config(**options))
    return cohort.read_checked("s1") if read else cohort


def row(name):
    """The sample table with another name for its first sample."""
    return SAMPLES.replace("s1,p1", f"{name},p1")


TABLES = {
    "unknown patient in the sample table": (
        {"samples": SAMPLES.replace("p2", "p02")},
        ["every patient_id of the sample table", "'p02' unknown (first: sample 's2')", "Did you mean 'p2'?"],
    ),
    "two patients with one id": (
        {"patients": PATIENTS + "p1,33,0\n"},
        ["patients.csv", "each patient_id once", "'p1' more than once", "give two people two ids"],
    ),
    "two samples with one id": (
        {"samples": SAMPLES + "s1,p2,s2.h5ad\n"},
        ["samples.csv", "each sample_id once", "'s1' more than once"],
    ),
    "one file for two samples": (
        {"samples": SAMPLES.replace("s2.h5ad", "./s1.h5ad")},
        ["a file of its own", "'s1', 's2' with one path", "would leak"],
    ),
    "path in a sample id": ({"samples": row("../s1")}, ["sample ids of letters", "'../s1'", "column 'path'"]),
    "slash in a sample id": ({"samples": row("a/b")}, ["become file names", "'a/b'"]),
    "backslash in a sample id": ({"samples": row("a\\b")}, ["become file names"]),
    "absolute sample id": ({"samples": row("/etc/passwd")}, ["become file names", "'/etc/passwd'"]),
    "dots for a sample id": ({"samples": row("..")}, ["become file names", "'..'"]),
    "null in a sample id": ({"samples": row("a\0b")}, ["samples.csv", "null bytes", "UTF-8"]),
    "endless sample id": ({"samples": row("a" * 500)}, ["become file names"]),
    "blank sample id": ({"samples": row("")}, ["a sample_id in every row", "data row(s) '1'"]),
    "blank patient of a sample": (
        {"samples": SAMPLES.replace("s2,p2", "s2,")},
        ["a patient_id for every sample", "samples 's2' without one"],
    ),
    "blank patient id": ({"patients": PATIENTS + ",50,1\n"}, ["a patient_id in every row", "data row(s) '3'"]),
    "no sample column": (
        {"samples": SAMPLES.replace("sample_id", "sample")},
        ["a column 'sample_id'", "Did you mean 'sample'?"],
    ),
    "no path column": ({"samples": SAMPLES.replace("path", "file")}, ["a column 'path'", "'file'", "Rename or add"]),
    "no patient column": (
        {"patients": PATIENTS.replace("patient_id", "id")},
        ["patients.csv", "a column 'patient_id'"],
    ),
    "semicolons in a csv": (
        {"samples": SAMPLES.replace(",", ";")},
        ["separated by commas", "semicolons in 'sample_id;patient_id;path'", "change the suffix"],
    ),
    "tabs in a csv": ({"patients": PATIENTS.replace(",", "\t")}, ["separated by commas", "tabs in"]),
    "commas in a tsv": ({"suffix": ".tsv"}, ["separated by tabs", "commas in"]),
    "unknown table format": ({"suffix": ".xls"}, ["a csv, tsv or parquet table", "'.xls'"]),
    "not a parquet table": ({"suffix": ".parquet"}, ["a readable table", "arquet"]),
    "column named twice": (
        {"patients": PATIENTS.replace("age", "metastasis")},
        ["each column name once", "'metastasis' more than once"],
    ),
    "a cell too many in a row": ({"patients": PATIENTS + "p3,1,2,3,4\n"}, ["a readable table", "line 4"]),
    "a cell too many in all rows": (
        {"patients": PATIENTS.replace(",61", ",x,61").replace(",70", ",x,70")},
        ["a readable table", "Length of header"],
    ),
    "empty table": ({"patients": ""}, ["patients.csv", "a readable table"]),
    "header only": ({"samples": "sample_id,patient_id,path\n"}, ["at least one row", "none"]),
    "not text": ({"patients": b"\xff\xfe\x00p\xd8"}, ["patients.csv", "UTF-8"]),
    "absent file": (
        {"samples": SAMPLES.replace("s2.h5ad", "gone.h5ad")},
        ["every file of the column 'path'", "1 of 2 absent", "gone.h5ad", "relative to"],
    ),
    "sha256 of another length": (
        {
            "samples": SAMPLES.replace("path", "path,sha256")
            .replace("s1.h5ad", "s1.h5ad,abc")
            .replace("s2.h5ad", "s2.h5ad,")
        },
        ["64 hexadecimal digits in 'sha256'", "'s1'"],
    ),
    "altered file": (
        {
            "samples": SAMPLES.replace("path", "path,sha256")
            .replace("s1.h5ad", f"s1.h5ad,{'0' * 64}")
            .replace("s2.h5ad", "s2.h5ad,"),
            "read": True,
        },
        ["s1.h5ad", "content with sha256 000", "fetch it again"],
    ),
    "types needed and absent": (
        {"read": True, "cell_type_key": "celltype", "malignant_types": ["tumor"]},
        ["s1.h5ad (sample s1)", "obs['celltype']", "Did you mean 'cell_type'?"],
    ),
    "nothing left after drop_types": (
        {"read": True, "drop_types": ["tumor", "fibroblast", "T cell"]},
        ["s1.h5ad (sample s1)", "not of drop_types", "0 of 20", "shorten drop_types"],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_refused_with_the_right_words(name, tmp_path):
    options, words = TABLES[name]
    with pytest.raises(InputError) as caught:
        on_disk(tmp_path, **options)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert all(word in message for word in words), message


def in_memory(change, patients=("p1", "p2"), **options):
    """One AnnData of two samples after `change(obs)`, as a cohort."""
    adata = make_slide(40)
    adata.obs["sample_id"] = ["s1", "s2"] * 20
    adata.obs["patient_id"] = ["p1", "p2"] * 20
    change(adata.obs)
    table = pd.DataFrame({"age": 60.0}, index=list(patients))
    return Cohort.from_anndata(adata, table, config(**options))


MEMORY = {
    "no sample key": (lambda: in_memory(lambda o: o.drop(columns="sample_id", inplace=True)), ["obs['sample_id']"]),
    "no patient key": (lambda: in_memory(lambda o: o.drop(columns="patient_id", inplace=True)), ["obs['patient_id']"]),
    "cells without a sample": (
        lambda: in_memory(lambda o: o.__setitem__("sample_id", [None, *o["sample_id"][1:]])),
        ["obs['sample_id'] for every cell", "1 cells without one"],
    ),
    "one sample, two patients": (
        lambda: in_memory(lambda o: o.__setitem__("sample_id", "s1")),
        ["every sample to belong to one patient", "'s1' with two or more"],
    ),
    "unfit sample id": (
        lambda: in_memory(lambda o: o.__setitem__("sample_id", [f"../{s}" for s in o["sample_id"]])),
        ["become file names", "'../s1'"],
    ),
    "unknown patient": (lambda: in_memory(lambda o: None, patients=["p1"]), ["'p2' unknown"]),
    "two patients with one id": (
        lambda: in_memory(lambda o: None, patients=["p1", "p2", "p2"]),
        ["each patient_id once", "'p2' more than once"],
    ),
    "misspelt malignant type": (
        lambda: in_memory(lambda o: None, malignant_types=["tumour"]),
        ["found no 'tumour'", "Did you mean 'tumor'?", "'fibroblast'"],
    ),
    "types absent": (
        lambda: in_memory(lambda o: o.drop(columns="cell_type", inplace=True), feature_kind="none"),
        ["cohort study", "obs['cell_type']"],
    ),
    "unknown sample": (
        lambda: in_memory(lambda o: None).read_checked("s3"),
        ["a known sample", "'s3'", "cohort.samples"],
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_anndata_refused_with_the_right_words(name):
    build, words = MEMORY[name]
    with pytest.raises(InputError) as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)


CONFIGS = {
    "unknown feature kind": ({"feature_kind": "tpm"}, ["`feature_kind`", "'tpm'", "'intensity'"]),
    "unknown organism": ({"organism": "Homo sapiens"}, ["`organism`", "'human'", "'Homo sapiens'"]),
    "malignant and dropped": (
        {"malignant_types": ["tumor"], "drop_types": ["tumor"]},
        ["'tumor' is both malignant and dropped"],
    ),
    "text for a list": ({"malignant_types": "tumor"}, ["`malignant_types` to be a list", "'tumor'"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_refused_with_the_right_words(name):
    options, words = CONFIGS[name]
    with pytest.raises(ConfigError) as caught:
        config(**options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_patients_without_a_label_are_left_out_and_said(tmp_path):
    from metaniche.data.task import Task, make_targets

    patients = PATIENTS + "p3,55,1\n"
    samples = SAMPLES + "s3,p3,s3.h5ad\n"
    make_slide(20).write_h5ad(tmp_path / "s3.h5ad")
    cohort = on_disk(tmp_path, samples, patients.replace("p2,70,0", "p2,70,"))
    task = Task("metastasis", "Metastasis", label="metastasis", positive=(1,), negative=(0,))
    targets = make_targets(task, cohort.patients, cohort.samples)
    assert list(targets.table.index) == ["p1", "p3"]
    assert list(targets.left_out) == ["p2"]
    assert "metastasis" in targets.left_out["p2"]


def test_patients_without_a_sample_are_left_out_and_said(tmp_path, caplog):
    cohort = on_disk(tmp_path, patients=PATIENTS + "p9,44,1\n")
    assert cohort.left_out == {"p9": "no sample in the sample table"}
    assert list(cohort.patients.index) == ["p1", "p2"]
    assert "1 patients left out" in caplog.text
    assert "'p9'" in caplog.text


def test_ids_keep_their_spelling(tmp_path):
    """Leading zeros, and a patient whose name reads like a missing value."""
    samples = SAMPLES.replace("p1", "007").replace("p2", "NA").replace("s1,", "01,").replace("s2,", "1,")
    cohort = on_disk(tmp_path, samples, PATIENTS.replace("p1", " 007 ").replace("p2", "NA"))
    assert list(cohort.samples.index) == ["01", "1"]
    assert list(cohort.samples["patient_id"]) == list(cohort.patients.index) == ["007", "NA"]
    assert cohort.patients["age"].dtype == np.int64
