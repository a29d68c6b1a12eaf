"""The runners of clusters are thin and start."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from elsewhere import ELSEWHERE, accelerator

SCRIPTS = Path(__file__).parents[1] / "scripts"


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


def test_networks_on_a_gpu_are_compared_with_those_here(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import gpu_networks

    with accelerator():
        assert gpu_networks.compare(300, ELSEWHERE) == []
        monkeypatch.setattr(gpu_networks, "LIMIT", -1.0)
        assert any("SeedSoil of pairs, logits" in text for text in gpu_networks.compare(300, ELSEWHERE))
        monkeypatch.setattr(torch.Tensor, "square", lambda x: x.cumsum(0))
        assert all(
            "no deterministic" in text or "does not have" in text for text in gpu_networks.compare(300, ELSEWHERE)
        )
