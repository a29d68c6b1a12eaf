import json
import os
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
from verbs import TINY, command, environment, run

from metaniche.data.synthetic import resource


def test_a_run_leaves_its_record_its_bundle_and_a_report(trained):
    folder, said = trained
    run_dir = folder / "runs/tiny"
    for name in (
        "bundle/model.json",
        "bundle/weights.safetensors",
        "run.json",
        "table.csv",
        "history.csv",
        "report.html",
        "MODEL_CARD.md",
    ):
        assert (run_dir / name).is_file(), name
    assert "epoch 2/2" in said
    assert "Research use only" in said
    assert json.loads((run_dir / "run.json").read_text())["n_patients"] == 12


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_weights(trained, tmp_path):
    """SIGKILL after the first of six epochs; the resumed run ends with the bundle of an uninterrupted one."""
    longer = (*TINY[:-1], "trainer.max_epochs=6", "report=false")
    status, said = run("train", tmp_path, "run_name=whole", *longer)
    assert status == 0, said
    process = subprocess.Popen(
        command("train", "run_name=killed", *longer), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if "epoch 2/6" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    status, said = run("train", tmp_path, "run_name=killed", *longer)
    assert status == 0, said
    assert "Going on from" in said
    assert "epoch 1/6" not in said
    bundles = [(tmp_path / f"runs/{name}/bundle/weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert bundles[0] == bundles[1]
    assert list(pd.read_csv(tmp_path / "runs/killed/history.csv")["epoch"]) == list(range(6))


def test_another_configuration_in_the_same_folder_is_refused(trained):
    folder, _ = trained
    status, said = run("train", folder, "run_name=tiny", *TINY, "model.width=16")
    assert status == 2
    assert "model.width (32 there, 16 now)" in said


@pytest.mark.parametrize("what", ["samples", "version", "code"])
def test_other_samples_or_another_version_in_the_same_folder_are_refused(trained, tmp_path, what):
    shutil.copytree(trained[0] / "runs/tiny", tmp_path / "runs/tiny")
    path = tmp_path / "runs/tiny/config.json"
    identity = json.loads(path.read_text())
    other = {"samples": [*identity["samples"][:-1], "others"], "version": "0.0.1", "code": "0" * 16}[what]
    path.write_text(json.dumps(identity | {what: other}))
    status, said = run("train", tmp_path, "run_name=tiny", "keep_held_out=true", *TINY)
    assert status == 2
    assert f"different: {what}" in said


def test_organs_are_part_of_the_run_by_what_they_hold(tmp_path):
    profiles = tmp_path / "organs.csv"
    ligands = resource().pairs["ligand"]
    args = ("run_name=sites", "task=synthetic_sites", "model=seed_soil", f"organs={profiles}", "report=false", *TINY)
    for lung in (1, 5):
        pd.DataFrame({"gene": ligands.unique(), "liver": 3, "lung": lung}).to_csv(profiles, index=False)
        status, said = run("train", tmp_path, *args)
        assert status == (0 if lung == 1 else 2), said
    assert "organs (" in said
    assert (tmp_path / "runs/sites/bundle/weights.safetensors").is_file()
    status, said = run("evaluate", tmp_path, f"organs={profiles}", *TINY)
    assert status == 2
    assert "Expected a task of organ sites" in said


CELLS = ("task=invasive_spots", "task.label=cell_type", "task.positive=[malignant]", "task.negative=[caf]")


PRETRAINED = ("model=seed_soil", "pretrain.epochs=1")


@pytest.mark.parametrize(
    "what", [(), ("model=niche_gin",), CELLS, PRETRAINED], ids=["relational_mil", "niche_gin", "cells", "pretrained"]
)
def test_two_processes_train_one_network(tmp_path, what):
    status, said = run("train", tmp_path, "run_name=ddp", "trainer=ddp_cpu", "report=false", *TINY, *what)
    assert status == 0, said
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said
    assert said.count("Training on") == 1
    assert (tmp_path / "runs/ddp/bundle/weights.safetensors").is_file()


def test_mixed_precision_and_wandb_offline(tmp_path):
    status, said = run(
        "train", tmp_path, "run_name=mixed", "trainer.precision=bf16-mixed", "trainer.accelerator=cpu", "logger=wandb",
        "logger.wandb.offline=true", "report=false", "members=2", *TINY,
    )  # fmt: skip
    assert status == 0, said
    assert len(list((tmp_path / "runs/mixed").glob("wandb/offline-run-*"))) == 2  # one for each member


def test_jobs_of_a_multirun_have_a_folder_each(tmp_path):
    status, said = run("train", tmp_path, "-m", "run_name=many", "optim.lr=0.001,0.002", "report=false", *TINY)
    assert status == 0, said
    rates = [
        json.loads((tmp_path / f"runs/sweeps/many/{job}/config.json").read_text())["optim"]["lr"] for job in (0, 1)
    ]
    assert rates == [0.001, 0.002]
    assert all((tmp_path / f"runs/sweeps/many/{job}/bundle/weights.safetensors").is_file() for job in (0, 1))


def test_a_mistyped_name_ends_with_words_and_not_with_a_stack(tmp_path):
    status, said = run("train", tmp_path, *TINY, "+task.positiv=[1]")
    assert status == 2
    assert "Did you mean 'positive'" in said
    assert "Traceback" not in said


def test_an_encoder_is_pretrained_without_labels_and_started_from(tmp_path):
    small = (*TINY, "report=false", "model=seed_soil", "data.source.synthetic.n_patients=8")
    status, said = run("train", tmp_path, "run_name=encoder", "pretrain.only=true", "pretrain.epochs=2", *small)
    assert status == 0, said
    assert "start from it with pretrain.encoder=" in said
    assert {p.name for p in (tmp_path / "runs/encoder").iterdir()} >= {"encoder.safetensors", "encoder.json"}
    start = ("pretrain.encoder=runs/encoder", "pretrain.freeze=true", *small)
    for verb in ("train", "evaluate"):  # whom they hold out it has seen
        given = [each for each in start if verb == "train" or not each.startswith("model=")]
        status, said = run(verb, tmp_path, f"run_name=seen_{verb}", *(g for g in given if g != "report=false"))
        assert status == 2, said
        assert "has not seen the patients that are held out, found that it was pretrained on" in said
    status, said = run("train", tmp_path, "run_name=on", "holdout=0", *start)
    assert status == 0, said
    assert "Starting from an encoder that knows 100%" in said
    status, said = run("train", tmp_path, "run_name=no", "pretrain.encoder=runs/nothing", *small)
    assert status == 2
    assert "Make one with metaniche-train pretrain.only=true" in said


def test_held_out_patients_with_several_samples_are_drawn_by_their_mean_rank(tmp_path):
    several = ("data.source.synthetic.max_samples=3", "task.level=sample", "model=attention_mil")
    status, said = run("train", tmp_path, "run_name=several", *TINY, *several)
    assert status == 0, said
    folder = tmp_path / "runs/several"
    assert pd.read_parquet(folder / "predictions.parquet")["patient_id"].duplicated().any()
    assert len(pd.read_parquet(folder / "cells.parquet"))
    assert (folder / "report.html").exists()


WHEN_TORCH_LOADS = """
import os, sys
class Hook:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("THP_MEM_ALLOC_ENABLE"))
sys.meta_path.insert(0, Hook())
import metaniche.cli.train
"""


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0")])
def test_a_command_takes_large_pages_unless_told_otherwise(given, expected):
    """torch looks at the variable once, at its first tensor."""
    environment = {key: value for key, value in os.environ.items() if key != "THP_MEM_ALLOC_ENABLE"} | given
    command = [sys.executable, "-c", WHEN_TORCH_LOADS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:1] == [expected]
