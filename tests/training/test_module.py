import lightning.pytorch as pl
import pytest
import torch
from tissue import READ

from metaniche.data.batch import collate
from metaniche.data.features import FeatureConfig, Features
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.data.units import make_bags
from metaniche.errors import TrainingError
from metaniche.models import ARCHITECTURES
from metaniche.training.fit import FitConfig, fit_bundle
from metaniche.training.module import NetworkModule, _warm_up_then_cosine

TASK = Task("t", "a task", label="metastasis", positive=(1,))
SAMPLING = SamplingConfig(windows=1, window_cells=30, batch_size=4)


def test_a_loss_that_is_not_finite_stops_the_run(small_cohort):
    samples, patients, table = small_cohort
    explode = FitConfig(
        parameters={"width": 8}, features=FeatureConfig(), sampling=SAMPLING, epochs=9,
        optimizer=lambda p: torch.optim.SGD(p, lr=1e30),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="finite loss"):
        fit_bundle(samples, make_targets(TASK, patients, table), explode, **READ)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_every_batch_has_random_numbers_of_its_own(small_cohort, monkeypatch, accumulated):
    samples, patients, table = small_cohort
    seeds, step = [], NetworkModule.training_step
    monkeypatch.setattr(
        NetworkModule, "training_step", lambda self, *a: (seeds.append(torch.initial_seed()), step(self, *a))[1]
    )

    def trainer(folder, epochs):
        return pl.Trainer(max_epochs=epochs, barebones=True, accelerator="cpu", accumulate_grad_batches=accumulated)

    config = FitConfig(parameters={"width": 8}, sampling=SAMPLING, epochs=2)
    fit_bundle(samples, make_targets(TASK, patients, table), config, make_trainer=trainer, **READ)
    assert len(seeds) == len(set(seeds)) == 6


def test_the_learning_rate_rises_then_falls():
    rates = [_warm_up_then_cosine(i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(rates[10], rel=0.01)
    assert rates[0] < rates[5] < rates[10] > rates[50] > rates[100] > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("task", [TASK, Task("k", "k", level="cell", label="cell_type", positive=("malignant",))])
def test_every_parameter_that_is_trained_gets_a_gradient(small_cohort, name, task):
    """What gets none must be frozen: processes that average gradients would wait for it."""
    samples, patients, table = small_cohort
    features = Features.fit(samples[:2], FeatureConfig())
    batch = collate(make_bags(samples[:2], features, task, targets=make_targets(task, patients, table, samples)))
    module = NetworkModule(ARCHITECTURES[name](len(features.names), 1, width=8), task, torch.optim.SGD)
    module._training_loss(module(batch), batch).backward()
    assert [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None] == []
