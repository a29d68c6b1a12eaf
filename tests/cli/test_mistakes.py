"""Mistakes on the command line end in one line of words, whichever library finds them first; --help explains the keys."""

import os
import subprocess
from importlib import import_module

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from verbs import TINY, command, run

from metaniche.cli import about, check_complete, explain, verb
from metaniche.errors import ConfigError


def composed(name, *overrides):
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("metaniche.configs", version_base="1.3"):
        return hydra.compose(name, list(overrides))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "Give a value to bundle, input, output: metaniche-predict bundle=... input=... output=..."),
        (("bundel=x", "input=y", "output=z"), "Unknown key `bundel`. Did you mean 'bundle'?"),
        (("bundle=x", "input=a b=c.h5ad", "output=z"), "Cannot read `input=a b=c.h5ad`. A value that holds a space"),
        (
            ("bundle=x", "input=y", "output=z.h5ad", "coverage_floor=abc"),
            "Expected coverage_floor to be a number from 0 to 1",
        ),
    ],
)
def test_a_command_that_cannot_run_says_what_to_type(tmp_path, overrides, words):
    status, said = run("predict", tmp_path, *overrides)
    assert status == 2
    assert f"ConfigError: {words}" in said
    assert "Traceback" not in said
    assert "+bundel" not in said


@pytest.mark.parametrize(
    ("verb", "override", "words"),
    [
        ("train", "members=two", "members to be a whole number of at least 1, found 'two'"),
        ("train", "members=0", "members to be a whole number of at least 1, found 0"),
        ("train", "trainer.max_epochs=ten", "trainer.max_epochs to be a whole number"),
        ("train", "holdout=abc", "holdout to be a number"),
        ("train", "seed=abc", "seed to be a whole number"),
        ("train", "optim.lr=abc", "`optim` to hold settings that torch.optim.AdamW takes"),
        ("train", "data.sampling.windows=0", "data.sampling.windows to be a whole number of at least 1"),
        ("train", "model.heads=5", "multiple of model.heads, found width=32, heads=5"),
        ("train", "graph.radius_um=abc", "`graph.radius_um` to be a number, found 'abc'"),
        ("train", "+data.um_per_unit=9", "Unknown key `data.um_per_unit` of a synthetic cohort"),
        ("train", "group=pairs", "Expected a column 'pairs' in the patient table (as group)"),
        ("train", "use_clinical=true task.clinical=[]", "clinical variables for use_clinical=true, found none"),
        (
            "evaluate",
            "+model.widht=64",
            "niche_gin, relational_mil. Did you mean 'width'?",
        ),
        (
            "evaluate",
            "+model.heads=2 networks=[attention_mil]",
            "Unknown key `model.heads` of attention_mil. Known: dropout",
        ),
        ("evaluate", "+model=niche_gin", "found all of 'niche_gin'. To choose networks: networks=[niche_gin]"),
        ("evaluate", "networks=niche_gin", "networks=[niche_gin]"),
        ("evaluate", "n_boot=0", "n_boot to be a whole number of at least 1"),
        ("evaluate", "networks=[] baselines=false", "Nothing to evaluate"),
        ("evaluate", "task=node_positive task.clinical=[agee]", "Did you mean 'age'?"),
        ("evaluate", "task.positive=[0,1]", "expected units of both outcomes, found all 12 labels are 1"),
        pytest.param(
            "train",
            "trainer=gpu",
            "Expected a GPU for trainer.accelerator=gpu, found none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
    ],
)
def test_a_wrong_value_ends_in_words(tmp_path_factory, verb, override, words, monkeypatch, caplog):
    """In this process: as many new ones would take a minute."""
    folder = tmp_path_factory.getbasetemp() / "mistakes"
    monkeypatch.setenv("METANICHE_ROOT", str(folder))
    quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none")  # the log of the tests stays as it is
    monkeypatch.setattr("sys.argv", [verb, *TINY, *quiet, *override.split()])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as caught:
        import_module(f"metaniche.cli.{verb}").main()
    assert caught.value.code == 2
    assert words in caplog.text


def test_a_value_with_blanks_is_read_when_it_is_quoted_as_the_hint_says():
    assert composed("predict", 'input="a b=c.h5ad"').input == "a b=c.h5ad"


def test_values_that_a_run_fills_in_are_not_asked_for():
    check_complete(composed("train"), "train")
    with pytest.raises(
        ConfigError, match=r"data\.source\.patients, data\.source\.samples, data\.um_per_unit: metaniche"
    ):
        check_complete(composed("train", "data=manifest"), "train")


@pytest.mark.parametrize(
    ("overrides", "near"),
    [
        (["modle=gatv2_mil"], "'model'"),
        (["trainer.max_epoch=3", "seed=1"], "'trainer.max_epochs'"),
        (["data=manifest", "data.cell_type_kye=x"], "'data.cell_type_key'"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest(overrides, near):
    with pytest.raises(HydraException) as caught:
        composed("train", *overrides)
    assert f"Did you mean {near}?" in explain(caught.value, "train", overrides)


def test_an_unknown_option_comes_with_the_options():
    with pytest.raises(HydraException) as caught:
        composed("train", "model=gatv")
    said = explain(caught.value, "train", ["model=gatv"])
    assert "gatv2_mil" in said
    assert "provider" not in said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tnbc_mibi", "settings are key=value. Did you mean experiment=tnbc_mibi or data=tnbc_mibi?"),
        ("recurrence", "Did you mean task=recurrence?"),
        ("no-such", "settings are key=value. metaniche-evaluate --help"),
    ],
)
def test_a_name_without_its_key_comes_with_the_key(override, words):
    with pytest.raises(HydraException) as caught:
        composed("evaluate", override)
    assert words in explain(caught.value, "evaluate", [override])


@pytest.mark.parametrize(("name", "words"), [("train", "goes on from there"), ("predict", "overwrite=true makes all")])
def test_an_interrupted_command_says_what_the_next_one_does(monkeypatch, capsys, name, words):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(hydra, "main", lambda **_: lambda _: interrupted)
    with pytest.raises(SystemExit) as caught:
        verb(name)(lambda _: None)()
    assert caught.value.code == 130
    assert words in capsys.readouterr().err


def test_a_pipe_that_breaks_within_a_run_is_no_end_without_words(monkeypatch):
    def broken():
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr(hydra, "main", lambda **_: lambda _: broken)
    monkeypatch.setattr("sys.argv", ["metaniche-train", "seed=1"])
    with pytest.raises(BrokenPipeError):
        verb("train")(lambda _: None)()


@pytest.mark.parametrize("override", ["model=niche_gin", "model.width=64"])
def test_evaluate_says_how_networks_are_chosen_and_changed(override):
    with pytest.raises(HydraException) as caught:
        composed("evaluate", override)
    assert "networks=[niche_gin]; +model.width=64" in explain(caught.value, "evaluate", [override])


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "sweep", "communicate", "predict"])
def test_a_command_is_explained_in_the_words_of_its_config(name):
    what, *rest = about(name).splitlines()
    assert what[0] == what[0].lower()
    assert what.endswith(".")
    assert "defaults:" not in rest
    assert name == "prepare" or any(" # " in line for line in rest)


def test_help_begins_with_what_the_command_does(tmp_path):
    status, said = run("train", tmp_path, "--help")
    assert status == 0
    assert said.startswith("metaniche-train: one network")
    assert "run_name: ${data.name}/" in said


def test_help_into_a_pipe_that_closes_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command("predict", "--help"), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
