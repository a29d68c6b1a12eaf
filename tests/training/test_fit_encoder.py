from dataclasses import replace

import pytest

from metaniche.data.features import FeatureConfig
from metaniche.data.prepare import prepare
from metaniche.data.sampling import SamplingConfig
from metaniche.data.synthetic import SyntheticConfig, generate
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig
from metaniche.training.fit import FitConfig
from metaniche.training.fit_encoder import fit_encoder
from metaniche.training.pretrain import PretrainConfig

TASK = Task("t", "a task", label="nothing", positive=(1,))
CONFIG = FitConfig(
    parameters={"width": 16, "layers": 1, "heads": 2},
    sampling=SamplingConfig(windows=1, window_cells=100, batch_size=4),
    pretrain=PretrainConfig(epochs=30),
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    cohort = generate(SyntheticConfig(n_patients=6, n_cells=300)).cohort()
    prepared = prepare(cohort, GraphConfig(radius_um=60.0), tmp_path_factory.mktemp("prepared"), progress=False)
    return prepared.of(prepared.patients.index)


@pytest.fixture(scope="module")
def encoder(samples):
    return fit_encoder(samples, TASK, CONFIG, about={"cohort": "made up"})


def test_what_is_hidden_is_told_better_than_by_the_mean(encoder):
    assert encoder.about["error_after"] < 0.9
    assert encoder.about["error_before"] > 0.95
    assert encoder.about["cohort"] == "made up"


def test_the_same_seed_gives_the_same_encoder(samples, encoder):
    assert fit_encoder(samples, TASK, CONFIG).sha256 == encoder.sha256
    assert fit_encoder(samples, TASK, CONFIG, seed=1).sha256 != encoder.sha256


def test_an_encoder_without_epochs_is_refused(samples):
    with pytest.raises(ConfigError, match="at least 1"):
        fit_encoder(samples, TASK, replace(CONFIG, pretrain=PretrainConfig()))


def test_an_encoder_of_principal_components_is_refused_before_it_is_trained(samples):
    with pytest.raises(ConfigError, match=r"Set data\.features\.n_components=0"):
        fit_encoder(samples, TASK, replace(CONFIG, features=FeatureConfig(n_components=4)))
