import json
import re

import pandas as pd
import pytest
from verbs import TINY, run

import metaniche
from metaniche.cli.communicate import PICTURES, _warn_of_few_permutations
from metaniche.ops.backend import device_of
from metaniche.signaling import SignalConfig

COHORT = (
    "data.source.synthetic.n_patients=12",
    "data.source.synthetic.n_cells=250",
    "data.source.synthetic.max_samples=1",
)
RUN = "runs/synthetic/communication"


def test_a_cohort_becomes_tables_and_a_second_call_reads_them(tmp_path):
    status, said = run("communicate", tmp_path, *COHORT, "compare=metastasis")
    assert status == 0, said
    assert "Research use only" in said
    assert "tested in 12 samples of 12 patients" in said
    assert "Signals that differ: metastasis 1 against 0" in said
    assert re.search(r"patients of 0\W+patients of 1", said)
    folder = tmp_path / RUN
    table = pd.read_parquet(folder / "communication.parquet")
    assert list(table)[:2] == ["sample_id", "patient_id"]
    assert table["patient_id"].nunique() == 12
    assert {"difference", "low", "high", "q"} <= set(pd.read_parquet(folder / "differential.parquet"))
    assert (pd.read_parquet(folder / "patients.parquet")["n_patients"] >= 3).all()
    assert all((folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in PICTURES)
    about = json.loads((folder / "run.json").read_text())
    assert about["resource"]["resource"] == "synthetic tumours"
    assert about["version"] == metaniche.__version__
    assert about["graph"]["max_paracrine"] is None
    assert about["signaling"]["null_model"] == "positions"
    assert about["device"] == str(device_of("auto"))
    kept = {p: p.stat().st_mtime_ns for p in (folder / "samples").rglob("*.parquet")}
    status, said = run("communicate", tmp_path, *COHORT)
    assert status == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert not (folder / "differential.parquet").exists()  # not of this run
    assert not (folder / "differential.png").exists()


def test_pairs_that_compete_and_relays_are_tables_of_their_own(tmp_path):
    (tmp_path / "links.csv").write_text("receptor,target\nCXCR4,VEGFA\n")
    status, said = run("communicate", tmp_path, *COHORT, "competition_um=40", f"targets={tmp_path / 'links.csv'}")
    assert status == 0, said
    assert "Cells that receive one signal and send another" in said
    assert "(communication, competition, relays, patients, relays_patients)" in said
    for name, column in (("competition", "amount"), ("relays", "relay_type"), ("relays_patients", "n_patients")):
        table = pd.read_parquet(tmp_path / RUN / f"{name}.parquet")
        assert column in table
    assert json.loads((tmp_path / RUN / "run.json").read_text())["competition_um"] == 40


def test_too_few_permutations_for_so_many_tests_are_said(tmp_path):
    few = (*COHORT[1:], "data.source.synthetic.n_patients=3", "signaling.n_permutations=9")
    status, said = run("communicate", tmp_path, *few)
    assert status == 0, said
    assert "With signaling.n_permutations=9 no p is below 0.1" in said


@pytest.mark.parametrize(("n", "enough"), [(99, False), (100, True)])
def test_permutations_are_enough_where_one_signal_alone_could_be_found(n, enough, caplog):
    table = pd.DataFrame({"sample_id": ["s"] * 5 + ["t"] * 5, "p": 0.5})
    _warn_of_few_permutations(table, SignalConfig(n_permutations=n))
    assert ("Take at least 100" in caplog.text) != enough


def test_nothing_to_test_is_said_without_a_traceback(tmp_path):
    few = (*COHORT[1:], "data.source.synthetic.n_patients=3", "signaling.min_share=0.9999")
    status, said = run("communicate", tmp_path, *few)
    assert "No pair was tested" in said
    assert "Traceback" not in said


def test_recipes_of_other_verbs_fit_and_all_neighbours_are_heard(tmp_path):
    """Of this one communicates without a null, compares scores, and relays that no pair allows."""
    (tmp_path / "links.csv").write_text("receptor,target\nCXCR4,NOT_MEASURED\n")
    more = ("signaling.null_model=none", "compare=metastasis", "value=score", f"targets={tmp_path / 'links.csv'}")
    status, said = run("communicate", tmp_path, "experiment=synthetic", *COHORT[1:], TINY[0], *more)
    assert status == 0, said
    assert "graph.max_paracrine=24 is not used" in said
    assert "No table of relays: " in said
    assert "signals scored in" in said
    assert "and pictures" not in said
    assert [p.name for p in (tmp_path / RUN).glob("*.png")] == ["differential.png"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "compare=metastasi",
            "ConfigError: Expected compare to be a column of the patient table, found 'metastasi'. Did you",
        ),
        ("compare=age", "Expected compare to be a column of two values with at least 3 patients each"),
        ("types=cell_typ", "Did you mean 'cell_type'"),
        ("resource=nothing.csv", "nothing.csv"),
        ("signaling.score=sum", "ConfigError: Expected signaling.score in"),
        ("signaling.null=labels", "Unknown key `signaling.null`. Did you mean"),
        ("value=z", "Expected value to be one of ('enrichment', 'score')"),
        ("competition_um=500", "at most graph.radius_um, found 500 um and 100 um"),
        ("targets=nothing.csv", "nothing.csv: expected a table"),
        ("signaling.null_model=shifts", "give n_permutations, such as 999"),
        ("signaling.null_model=none", "Take value=score"),
        ("device=gpu", "ConfigError: Expected device to be auto, cpu, cuda or cuda:1, found 'gpu'"),
        ("seed=-1", "Expected seed to be a whole number"),
    ],
)
def test_a_mistake_ends_in_one_line_of_words(tmp_path, override, words):
    more = ("compare=metastasis",) if override.startswith(("value", "signaling.null_model=none")) else ()
    status, said = run("communicate", tmp_path, *COHORT, override, *more)
    assert status == 2, said
    assert words in said
    assert "Traceback" not in said
