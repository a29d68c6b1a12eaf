"""Mistakes on the command line end in one line of words, whichever library finds them first."""

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from verbs import run

from metaniche.cli import check_complete, explain
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
    ],
)
def test_a_command_that_cannot_run_says_what_to_type(tmp_path, overrides, words):
    status, said = run("predict", tmp_path, *overrides)
    assert status == 2
    assert f"ConfigError: {words}" in said
    assert "Traceback" not in said
    assert "+bundel" not in said


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


def test_evaluate_says_how_networks_are_chosen():
    with pytest.raises(HydraException) as caught:
        composed("evaluate", "model=gatv2_mil")
    assert "choose them by networks=[...]" in explain(caught.value, "evaluate", ["model=gatv2_mil"])
