import json

import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.report.run import read_run


def test_all_files_are_read(run_folder):
    run = read_run(run_folder)
    assert run.model == "relational_mil"
    assert len(run.table) == 8
    assert run.patients.index.name == "patient_id"
    assert not run.is_survival
    assert run.predictions["score"].equals(run.predictions["risk"])


def test_survival_is_known_from_the_task_or_the_columns(survival_folder, make_run):
    assert read_run(survival_folder).is_survival
    assert make_run(survival=True, info={"task": {}}).is_survival


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="found none of them"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", "{"),
        ("run.json", "[1]"),
        ("data_checks.json", "{}"),
        ("table.csv", ""),
        ("predictions.parquet", "no"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=file):
        read_run(tmp_path)


@pytest.mark.parametrize(("file", "missing"), [("predictions.parquet", "risk"), ("cells.parquet", "x_um")])
def test_a_missing_column_is_named(tmp_path, file, missing):
    pd.DataFrame({"model": ["m"], "unit_id": ["u"], "sample_id": ["s"], "y_um": [1.0]}).to_parquet(tmp_path / file)
    with pytest.raises(InputError, match=missing):
        read_run(tmp_path)


def test_ids_are_text_whatever_they_look_like(tmp_path):
    (tmp_path / "patients.csv").write_text("patient_id,age\n08,60\nNA,\n")
    (tmp_path / "terms.csv").write_text("unit_id,seed\n08,0.5\nNA,\n")
    (tmp_path / "conformal.csv").write_text(
        "model,unit_id,patient_id,y,weight,p0,p1\nm,08,08,1,1,.5,.5\nm,NA,NA,1,1,.5,\n"
    )
    run = read_run(tmp_path)
    for ids in (run.patients.index, run.terms.index, run.sets["unit_id"], run.sets["patient_id"]):
        assert list(ids) == ["08", "NA"]
    assert run.patients["age"].isna().sum() == run.terms["seed"].isna().sum() == run.sets["p1"].isna().sum() == 1


def test_the_model_is_the_one_of_the_record_else_the_first_network(tmp_path):
    (tmp_path / "table.csv").write_text("model,kind,auroc\nridge,baseline,0.6\nnet,network,0.5\n")
    assert read_run(tmp_path).model == "net"
    (tmp_path / "run.json").write_text(json.dumps({"model": "ridge"}))
    assert read_run(tmp_path).model == "ridge"
    (tmp_path / "run.json").write_text(json.dumps({"model": "not in the table"}))
    assert read_run(tmp_path).model == "net"


def test_a_table_without_kinds_claims_none(tmp_path):
    (tmp_path / "table.csv").write_text("model,auroc\nridge,0.6\n")
    assert read_run(tmp_path).kinds == {"ridge": "kind not given"}
