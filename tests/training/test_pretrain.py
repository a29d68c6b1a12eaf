from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from tissue import READ

from metaniche.data.features import Features
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.data.units import make_bags
from metaniche.errors import ConfigError
from metaniche.models import ARCHITECTURES
from metaniche.models.encoder import Encoder
from metaniche.predict import Predictor
from metaniche.signaling import Resource
from metaniche.training.datamodule import TumourDataModule
from metaniche.training.fit import FitConfig, fit_pairs
from metaniche.training.fit import fit_bundle as fit_any
from metaniche.training.fit_encoder import fit_encoder
from metaniche.training.module import NetworkModule
from metaniche.training.pretrain import HiddenFeatures, PretrainConfig, _around

fit_bundle = partial(fit_any, **READ)
BINARY = Task("t", "a task", label="metastasis", positive=(1,))
CONFIG = FitConfig(
    parameters={"width": 8, "layers": 1, "heads": 2},
    sampling=SamplingConfig(windows=1, window_cells=40, batch_size=4),
    epochs=8,
)
EPOCHS = PretrainConfig(epochs=15)


@pytest.fixture(scope="module")
def parts(small_cohort):
    samples, patients, table = small_cohort
    return samples, patients, make_targets(BINARY, patients, table)


@pytest.fixture(scope="module")
def encoder(parts):
    return fit_encoder(parts[0], BINARY, replace(CONFIG, pretrain=EPOCHS))


def embed_of(bundle):
    return {k.removeprefix("embed."): v for k, v in bundle.states[0].items() if k.startswith("embed.")}


def test_a_frozen_encoder_stays_as_pretraining_left_it(parts, encoder):
    samples, patients, targets = parts
    given = PretrainConfig(freeze=True, encoder=encoder)
    bundle = fit_bundle(samples, targets, replace(CONFIG, pretrain=given), patients=patients)
    for name, tensor in embed_of(bundle).items():
        assert torch.equal(tensor, encoder.state[name])
    tuned = fit_bundle(samples, targets, replace(CONFIG, pretrain=replace(given, freeze=False)), patients=patients)
    assert any(not torch.equal(tensor, encoder.state[name]) for name, tensor in embed_of(tuned).items())
    assert np.isfinite(Predictor(bundle).score(samples).units["risk"]).all()


def test_pretraining_sees_the_training_patients_only_and_no_label(parts, monkeypatch):
    samples, patients, targets = parts
    train = targets.of([f"p{i}" for i in range(6)])
    seen = []
    plain = HiddenFeatures.errors
    monkeypatch.setattr(
        HiddenFeatures, "errors", lambda self, batch: (seen.append(len(batch.x)), plain(self, batch))[1]
    )
    config = replace(CONFIG, pretrain=PretrainConfig(epochs=3, freeze=True))
    one = fit_bundle(samples, train, config, patients=patients)
    assert seen
    altered = [s if s.patient_id in set(train.patients) else replace(s, x=s.x * 7 + 1) for s in samples]
    other = fit_bundle(altered, train, config, patients=patients)
    flipped = replace(train, table=train.table.assign(y=1 - train.table["y"]))
    unlabelled = fit_bundle(samples, flipped, config, patients=patients)
    for name, tensor in embed_of(one).items():
        assert torch.equal(tensor, embed_of(other)[name])
        assert torch.equal(tensor, embed_of(unlabelled)[name])


def test_pretraining_runs_on_the_trainer_that_is_asked_for_and_clips_nothing(parts, monkeypatch):
    asked, clipped = [], []

    def made(folder, epochs):
        asked.append((folder, epochs))
        return pl.Trainer(
            max_epochs=epochs, accelerator="cpu", gradient_clip_val=1e-6, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    clip = pl.LightningModule.clip_gradients
    monkeypatch.setattr(
        pl.LightningModule, "clip_gradients", lambda self, *a, **k: (clipped.append(type(self)), clip(self, *a, **k))
    )
    config = replace(CONFIG, epochs=1, pretrain=PretrainConfig(epochs=2))
    fit_bundle(parts[0], parts[2], config, make_trainer=made)
    assert asked == [(None, 2), (None, 1)]
    assert set(clipped) == {NetworkModule}
    fit_encoder(parts[0], BINARY, config, make_trainer=made)
    assert asked[2:] == [(None, 2)]


def test_the_mean_of_the_neighbours_and_its_gradient_and_none_without_neighbours():
    indptr, indices = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 2, 0], dtype=torch.int32)  # cell 1 has nobody
    graph = SimpleNamespace(indptr=indptr, indices=indices, distance_um=torch.ones(3, dtype=torch.float64))
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.stack(((x[1] + x[2]) / 2, torch.zeros(4, dtype=torch.float64), x[0]))
    torch.testing.assert_close(_around(x, graph), expected)
    assert torch.autograd.gradcheck(lambda x: _around(x, graph), (x,))


def test_signals_of_the_neighbours_are_told_from_the_cell_and_learned(parts, caplog):
    """By their definition; and the encoder is another one for it."""
    samples, patients, targets = parts
    table = pd.DataFrame({"ligand": ["CXCL12", "KRT8"], "receptor": ["CXCR4", "CD3E"]})
    config = replace(CONFIG, architecture="SeedSoil", parameters={"width": 8}, resource=Resource(table, "two"))
    pairs = fit_pairs(config, samples)
    features = Features.fit(samples, config.features)
    data = TumourDataModule(
        make_bags(samples, features, BINARY, targets=targets, pairs=pairs), [], train_patients=[], val_patients=[],
        sampling=config.sampling, seed=0, hops=1,
    )  # fmt: skip
    torch.manual_seed(0)
    network = ARCHITECTURES["SeedSoil"](n_features=len(features.names), n_outputs=1, width=8, pairs=pairs.columns())
    with_signals = PretrainConfig(epochs=20, signals=0.5)
    module = HiddenFeatures(network, with_signals, 0, n_signals=4)
    batch = next(iter(data.train_dataloader()))
    torch.manual_seed(1)
    _, found = module.errors(batch)
    torch.manual_seed(1)
    hidden = torch.rand_like(batch.x) < with_signals.hidden
    hidden |= torch.rand(len(batch.x), 1) < with_signals.alone
    heard = module.hear(network.embed(batch.x.masked_fill(hidden, 0.0)))
    i, j = batch.graph.receivers(), batch.graph.indices.long()
    near = torch.stack(
        [batch.signals[j[i == cell]].sum(0) / max(int((i == cell).sum()), 1) for cell in range(len(batch.x))]
    )
    near, heard = near[batch.inside], heard[batch.inside]  # around the halo nobody is seen
    near = (near - near.mean(0)) / near.std(0)
    assert found.item() == pytest.approx(0.5 * (heard - near).square().mean().item(), rel=1e-4)
    deaf = HiddenFeatures(network, replace(with_signals, signals=0.0), 0, n_signals=4)
    assert deaf.errors(batch)[1].item() == 0
    fit_encoder(samples, BINARY, replace(config, resource=None, pretrain=replace(with_signals, epochs=1)))
    assert "has nothing to tell" in caplog.text
    one, other = (
        fit_encoder(samples, BINARY, replace(config, pretrain=replace(with_signals, signals=weight)))
        for weight in (0.0, 0.5)
    )
    assert any(not torch.equal(one.state[name], other.state[name]) for name in one.state)


@pytest.mark.parametrize(
    "settings",
    [
        {"signals": -1.0},
        {"signals": 1.0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"hidden": 0.0},
        {"hidden": 1.0},
        {"alone": 1.0},
        {"freeze": True},
    ],
)
def test_pretraining_of_nothing_is_refused(settings):
    with pytest.raises(ConfigError, match="pretrain"):
        PretrainConfig(**settings)


def test_an_encoders_configuration_has_no_weights_in_it(encoder):
    text = repr(PretrainConfig(encoder=encoder))
    assert encoder.sha256 in text
    assert "tensor" not in text
    assert isinstance(encoder, Encoder)
