from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tissue import READ

from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import ConfigError
from metaniche.models.encoder import Encoder
from metaniche.predict import Predictor
from metaniche.training.fit import FitConfig
from metaniche.training.fit import fit_bundle as fit_any
from metaniche.training.fit_encoder import fit_encoder
from metaniche.training.pretrain import HiddenFeatures, PretrainConfig

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
    plain = HiddenFeatures.error
    monkeypatch.setattr(HiddenFeatures, "error", lambda self, batch: (seen.append(len(batch.x)), plain(self, batch))[1])
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


@pytest.mark.parametrize(
    "settings", [{"epochs": -1}, {"epochs": 1.5}, {"hidden": 0.0}, {"hidden": 1.0}, {"alone": 1.0}, {"freeze": True}]
)
def test_pretraining_of_nothing_is_refused(settings):
    with pytest.raises(ConfigError, match="pretrain"):
        PretrainConfig(**settings)


def test_an_encoders_configuration_has_no_weights_in_it(encoder):
    text = repr(PretrainConfig(encoder=encoder))
    assert encoder.sha256 in text
    assert "tensor" not in text
    assert isinstance(encoder, Encoder)
