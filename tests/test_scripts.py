"""The runners of clusters are thin and start."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from elsewhere import ELSEWHERE, accelerator, kernels
from simt.machine import Machine, compiler

SCRIPTS = Path(__file__).parents[1] / "scripts"
BUILD = Path(__file__).parents[1] / "build" / "simt"


@pytest.mark.parametrize("verb", ["train", "sweep", "predict"])
def test_a_runner_shows_the_help_of_its_verb(verb, tmp_path):
    command = [sys.executable, str(SCRIPTS / f"{verb}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"train": "max_epochs", "sweep": "hparams_search", "predict": "coverage_floor"}[verb] in done.stdout


@pytest.mark.parametrize("verb", ["train", "sweep", "predict"])
def test_a_job_hands_its_arguments_to_the_runner(verb, tmp_path):
    """With an `srun` that says what it was asked to run."""
    (tmp_path / "srun").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "srun").chmod(0o755)
    command = ["bash", str(SCRIPTS / f"{verb}.sbatch"), "input=a b.h5ad"]
    done = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    assert said[:2] == ["python", f"scripts/{verb}.py"], done.stderr
    assert said[-1] == "input=a b.h5ad"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts by name, as they find one another."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module


@pytest.fixture
def emulated():
    """A machine for kernels of more cells than most tests have."""
    if compiler() is None:
        pytest.skip("no g++ on this machine: the CUDA kernels cannot be run on the host")
    BUILD.mkdir(parents=True, exist_ok=True)
    return Machine(BUILD, seconds=300, most_switches=10**9)


LARGE = {
    "gpu_check.large_neighbors": (150, 1),
    "gpu_check.large_segments": (150,),
    "gpu_attention.compare": (64, ELSEWHERE, ((2, 8),)),
    "gpu_check_ligrec.large_ligrec": (60, 1),
    "gpu_sparse.large": (60,),
    "gpu_check_nulls.large_nulls": (150, 1),
    "gpu_networks.compare": (300, ELSEWHERE),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_a_gpu_is_asked_for_runs_and_agrees_with_the_cpu(scripts, emulated, name):
    """`make gpu` has to run at the first try, wherever a GPU is found: its comparisons, of fewer cells, on an emulated one."""
    module, function = name.split(".")
    compare = getattr(scripts(module), function)
    torch.manual_seed(0)
    with kernels(emulated):
        assert compare(*LARGE[name]) == []


def test_networks_that_differ_or_have_no_fixed_order_are_named(scripts, monkeypatch):
    networks = scripts("gpu_networks")
    with accelerator():
        monkeypatch.setattr(networks, "LIMIT", -1.0)
        assert any("SeedSoil of pairs, logits" in text for text in networks.compare(300, ELSEWHERE))
        monkeypatch.setattr(torch.Tensor, "square", lambda x: x.cumsum(0))
        assert all("does not have a deterministic" in text for text in networks.compare(300, ELSEWHERE))
