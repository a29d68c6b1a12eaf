from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from elsewhere import ELSEWHERE, accelerator
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from tissue import READ

from metaniche.data.features import FeatureConfig
from metaniche.data.organs import OrganProfiles
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import CheckpointError, ConfigError, InputError, SplitError
from metaniche.io.once import log_once
from metaniche.models.bundle import Bundle
from metaniche.predict import Predictor
from metaniche.signaling import Resource
from metaniche.training.checkpoint import AtomicCheckpointIO
from metaniche.training.fit import FitConfig
from metaniche.training.fit import fit_bundle as fit_any

fit_bundle = partial(fit_any, **READ)

BINARY = Task("t", "a task", label="metastasis", positive=(1,), clinical=("age", "sex"))
CONFIG = FitConfig(
    parameters={"width": 8, "layers": 1, "heads": 2},
    features=FeatureConfig(),
    sampling=SamplingConfig(windows=1, window_cells=40, batch_size=4),
    epochs=8,
)


def states_equal(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


def kept_trainer(folder, epochs=4, callbacks=()):
    checkpoint = ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False)
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[checkpoint, *callbacks], plugins=[AtomicCheckpointIO()], use_distributed_sampler=False,
    )  # fmt: skip


class Kill(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def parts(small_cohort):
    samples, patients, table = small_cohort
    return samples, patients, make_targets(BINARY, patients, table)


def test_a_network_learns_a_strong_signal_and_ranks_unseen_patients(parts):
    samples, patients, targets = parts
    train, test = targets.of([f"p{i}" for i in range(8)]), [f"p{i}" for i in range(8, 12)]
    bundle = fit_bundle(samples, train, replace(CONFIG, epochs=30), patients=patients)
    scores = Predictor(bundle).score([s for s in samples if s.patient_id in test])
    risk = scores.units["risk"]
    assert risk[["p9", "p11"]].min() > risk[["p8", "p10"]].max()


def test_the_same_seed_gives_the_same_bits_and_another_does_not(parts):
    samples, _, targets = parts
    one, same, other = (fit_bundle(samples, targets, CONFIG, seed=s).states[0] for s in (1, 1, 2))
    assert states_equal(one, same)
    assert not states_equal(one, other)


def test_members_differ_and_give_an_interval(parts):
    samples, _, targets = parts
    bundle = fit_bundle(samples, targets, replace(CONFIG, members=2, epochs=2))
    assert not states_equal(*bundle.states)
    units = Predictor(bundle).score(samples).units
    assert (units["low"] < units["risk"]).all()
    assert (units["risk"] < units["high"]).all()


def test_a_stopped_run_goes_on_to_the_same_weights(parts, tmp_path):
    samples, _, targets = parts
    config = replace(CONFIG, epochs=4, parameters={**CONFIG.parameters, "attention_dropout": 0.2})
    whole = fit_bundle(samples, targets, config, make_trainer=kept_trainer, run_dir=tmp_path / "whole")
    stopped = partial(kept_trainer, callbacks=[Kill()])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_bundle(samples, targets, config, make_trainer=stopped, run_dir=tmp_path / "stopped")
    resumed = fit_bundle(samples, targets, config, make_trainer=kept_trainer, run_dir=tmp_path / "stopped")
    assert states_equal(whole.states[0], resumed.states[0])


def test_weights_of_another_network_are_refused_in_words(parts, tmp_path):
    samples, _, targets = parts
    config = replace(CONFIG, epochs=1)
    fit_bundle(samples, targets, config, make_trainer=kept_trainer, run_dir=tmp_path)
    wider = replace(config, parameters=config.parameters | {"width": 16})
    with pytest.raises(CheckpointError, match=r"last\.ckpt holds the weights of another network"):
        fit_bundle(samples, targets, wider, make_trainer=kept_trainer, run_dir=tmp_path)


def test_what_test_patients_hold_changes_nothing(parts):
    """The label is written into the cells of held-out patients: the trained model must be the same to the bit."""
    samples, patients, targets = parts
    train = targets.of([f"p{i}" for i in range(8)])
    leaky = [
        s if s.patient_id in train.patients else replace(s, x=s.x + 1e3 * patients.loc[s.patient_id, "metastasis"])
        for s in samples
    ]
    clean, spoilt = (fit_bundle(c, train, replace(CONFIG, epochs=2), patients=patients) for c in (samples, leaky))
    assert states_equal(clean.states[0], spoilt.states[0])
    assert all(np.array_equal(clean.arrays[k], spoilt.arrays[k]) for k in clean.arrays)


def test_a_patient_in_training_and_validation_is_refused(parts):
    samples, _, targets = parts
    with pytest.raises(SplitError, match="p0"):
        fit_bundle(samples, targets, CONFIG, val_targets=targets.of(["p0"]))


@pytest.mark.parametrize("name", ["RelationalMIL", "AttentionMIL", "NicheGIN", "GATv2MIL"])
@pytest.mark.parametrize(
    "task",
    [
        BINARY,
        Task("c", "c", kind="cox", time="time", event="event"),
        Task("d", "d", kind="discrete_time", time="time", event="event", n_bins=3),
        Task("r", "r", kind="discrete_time", time="time", event="event", competing="died", n_bins=3),
        Task("s", "s", kind="sites", sites=("liver", "lung")),
        Task("k", "k", level="cell", label="cell_type", positive=("malignant",)),
    ],
    ids=lambda t: f"{t.kind}:{t.level}{t.competing or ''}",
)
def test_every_architecture_takes_every_task(small_cohort, tmp_path, name, task):
    samples, patients, table = small_cohort
    patients = patients.assign(died=np.arange(12) % 2)
    targets = make_targets(task, patients, table, samples)
    config = replace(CONFIG, architecture=name, parameters={"width": 8}, epochs=1, use_clinical=bool(task.clinical))
    bundle = fit_bundle(samples, targets, config, patients=patients)
    read = Bundle.load(bundle.save(tmp_path / "bundle"))
    scores = Predictor(read).score(samples, patients)
    assert len(scores.units) == 12
    assert np.isfinite(scores.units["risk"]).all()
    malignant = scores.cells["is_malignant"]
    assert scores.cells.loc[malignant, "metaniche_potential"].between(0, 1).all()
    if task.is_survival:
        assert (np.diff(scores.survival.to_numpy(), axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"members": 0}, "members to be a whole number of at least 1, found 0"),
        ({"epochs": 0}, "epochs to be a whole number of at least 1, found 0"),
        ({"pool": "tumour"}, "pool to be one of .*found 'tumour'"),
        ({"architecture": "NicheGINN"}, "found 'NicheGINN'. Did you mean 'NicheGIN'"),
        ({"parameters": {"widht": 8}}, "found 'widht'. Did you mean 'width'"),
        ({"parameters": {"heads": 5}}, "multiple of model.heads, found width=32, heads=5"),
        ({"architecture": "GATv2MIL", "parameters": {"heads": 5}}, "multiple of model.heads"),
        ({"parameters": {"dropout": 2.0}}, r"RelationalMIL cannot be built with {'dropout': 2\.0}"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_fitted(wrong, words):
    with pytest.raises(ConfigError, match=words):
        FitConfig(**wrong)


def test_clinical_variables_that_are_asked_for_must_be_there(parts):
    samples, patients, targets = parts
    config = replace(CONFIG, use_clinical=True)
    with pytest.raises(ConfigError, match="use_clinical=true, found no patient table"):
        fit_bundle(samples, targets, config)
    without = replace(targets, task=replace(BINARY, clinical=()))
    with pytest.raises(ConfigError, match="use_clinical=true, found none in task 't'"):
        fit_bundle(samples, without, config, patients=patients)
    cells = replace(targets, task=replace(BINARY, level="cell"))
    with pytest.raises(ConfigError, match="found task 't' of cells"):
        fit_bundle(samples, cells, config, patients=patients)


def test_organs_speak_for_sites_and_travel_with_the_bundle(small_cohort, tmp_path, caplog):
    samples, patients, table = small_cohort
    pairs = Resource(pd.DataFrame({"ligand": ["CXCL12", "KRT8"], "receptor": ["CXCR4", "CD3E"]}), "made up")
    profiles = OrganProfiles(pd.DataFrame({"liver": [9.0, 1.0], "lung": [1.0, 8.0]}, index=["CXCL12", "KRT8"]))
    config = replace(
        CONFIG, architecture="SeedSoil", parameters={"width": 8}, resource=pairs, organs=profiles, epochs=1
    )
    sites = make_targets(Task("s", "s", kind="sites", sites=("liver", "lung")), patients, table, samples)
    bundle = fit_bundle(samples, sites, config)
    read = Bundle.load(bundle.save(tmp_path / "bundle"))
    first, second = (Predictor(b).score(samples).units[["liver", "lung"]] for b in (bundle, read))
    pd.testing.assert_frame_equal(first, second)
    silent = replace(bundle, states=[s | {"organs.slope": torch.zeros(())} for s in bundle.states])
    assert (Predictor(silent).score(samples).units["liver"] - first["liver"]).abs().max() > 1e-4

    with pytest.raises(ConfigError, match=r"a task of organ sites.*kind 'binary'"):
        fit_bundle(samples, make_targets(BINARY, patients, table), config, patients=patients)
    nobody_knows = [replace(s, cells=s.cells.drop(columns="is_malignant")) for s in samples]
    with pytest.raises(InputError, match=r"nobody says which they are in 12 of 12 samples.*train without organs"):
        fit_bundle(nobody_knows, sites, config)
    with pytest.raises(InputError, match="in 1 of 1 samples"):
        Predictor(bundle).score(nobody_knows[:1])
    Predictor(fit_bundle(nobody_knows, sites, replace(config, organs=None))).score(nobody_knows[:1])
    log_once.cache_clear()
    for deaf in (replace(config, resource=None), replace(config, architecture="NicheGIN")):
        fit_bundle(samples, sites, deaf)
    assert "nothing here: SeedSoil hears no" in caplog.text
    assert "nothing here: NicheGIN hears no" in caplog.text


class Pretended(CPUAccelerator):
    def setup_device(self, device):
        """Nothing to do."""


TASKS = (
    BINARY,
    Task("cells", "c", level="cell", label="cell_type", positive=("malignant",)),
    Task("cox", "c", kind="cox", time="time", event="event"),
    Task("hazards", "h", kind="discrete_time", time="time", event="event"),
    Task("sites", "s", kind="sites", sites=("liver", "lung")),
)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_on_an_accelerator_it_learns_the_same(small_cohort, task):
    """Every tensor of a step is made where the batch is, and nothing is asked for that CUDA does in any order."""
    samples, patients, table = small_cohort
    pairs = pd.DataFrame(
        {"ligand": ["CXCL12", "KRT8"], "receptor": ["CXCR4", "CD3E"], "signaling_type": ["secreted", "ecm"]}
    )
    config = replace(CONFIG, architecture="SeedSoil", parameters={"width": 8}, resource=Resource(pairs, "r"), epochs=2)
    targets = make_targets(task, patients, table, samples)

    def trained(strategy):
        trainer = pl.Trainer(max_epochs=2, barebones=True, strategy=strategy, deterministic=True)
        return fit_bundle(samples, targets, config, make_trainer=lambda folder, epochs: trainer).states[0]

    here = trained(SingleDeviceStrategy(torch.device("cpu"), accelerator=CPUAccelerator()))
    with accelerator():
        there = trained(SingleDeviceStrategy(ELSEWHERE, accelerator=Pretended()))
    assert states_equal(there, here)
