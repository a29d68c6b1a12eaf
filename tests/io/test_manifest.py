import gzip

import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.io.manifest import check_patients, check_samples, read_manifest, read_table

SAMPLES = pd.DataFrame(
    {"sample_id": ["a", "b"], "patient_id": ["1", "2"], "path": ["x/a.h5ad", "b.zarr"], "batch": [1, 2]}
)
PATIENTS = pd.DataFrame({"patient_id": ["1", "2"], "event": [0, 1], "time": [1.5, None]})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.h5ad").touch()
    (tmp_path / "b.zarr").mkdir()
    return tmp_path


def save(table, path):
    if ".parquet" in path.name:
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_both_tables_in_every_format(folder, suffix):
    samples, patients = read_manifest(
        save(SAMPLES, folder / f"samples{suffix}"), save(PATIENTS, folder / f"patients{suffix}")
    )
    assert samples.index.name == "sample_id"
    assert list(samples.index) == ["a", "b"]
    assert list(samples["path"]) == [str((folder / p).resolve()) for p in SAMPLES["path"]]
    assert list(samples["batch"]) == [1, 2]
    assert patients.index.name == "patient_id"
    assert list(patients["event"]) == [0, 1]
    assert patients["time"].isna().tolist() == [False, True]


def test_numbers_as_ids_become_text(folder):
    numbers = SAMPLES.assign(sample_id=[1, 2], patient_id=[1, 2])
    samples, patients = read_manifest(
        save(numbers, folder / "s.parquet"), save(PATIENTS.assign(patient_id=[1, 2]), folder / "p.csv")
    )
    assert list(samples.index) == ["1", "2"]
    assert samples["patient_id"].isin(patients.index).all()


def test_excel_csv_with_a_byte_order_mark(folder):
    path = folder / "p.csv"
    path.write_bytes(b"\xef\xbb\xbfpatient_id,age\r\n1,50\r\n")
    assert list(read_table(path, ids=("patient_id",))["age"]) == [50]


def test_a_cut_gzip_is_unreadable_not_a_crash(folder):
    path = folder / "p.csv.gz"
    path.write_bytes(gzip.compress(PATIENTS.to_csv().encode())[:-9])
    with pytest.raises(InputError, match="readable table"):
        read_table(path, ids=("patient_id",))


@pytest.mark.parametrize("name", ["s1", "P-01_A+B", "Tumour 3", "a.b=c@d", "Zürich7", "_x"])
def test_ids_that_are_file_names_pass(name):
    table = pd.DataFrame({"sample_id": [name], "patient_id": ["1"]})
    assert list(check_samples(table, where="t").index) == [name]


@pytest.mark.parametrize("name", [".hidden", "-rf", "a/..", "x\ny", "con:", "*", "a..b", "trailing "])
def test_ids_that_are_no_file_names_are_refused(name):
    with pytest.raises(InputError, match="become file names"):
        check_samples(pd.DataFrame({"sample_id": [name], "patient_id": ["1"]}), where="t")


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: expected a table, found no such file"):
        read_table(tmp_path / "gone.csv", ids=("patient_id",))


def test_the_tables_given_are_not_changed():
    before = PATIENTS.copy()
    check_patients(PATIENTS, where="t")
    pd.testing.assert_frame_equal(PATIENTS, before)
