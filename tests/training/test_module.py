import pytest
import torch

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import TrainingError
from metaniche.training.fit import FitConfig, fit_bundle
from metaniche.training.module import _warm_up_then_cosine

TASK = Task("t", "a task", label="metastasis", positive=(1,))
SAMPLING = SamplingConfig(windows=1, window_cells=30, batch_size=4)


def test_a_loss_that_is_not_finite_stops_the_run(small_cohort):
    samples, patients, table = small_cohort
    explode = FitConfig(
        parameters={"width": 8}, features=FeatureConfig(), sampling=SAMPLING, epochs=9,
        optimizer=lambda p: torch.optim.SGD(p, lr=1e30),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="finite loss"):
        fit_bundle(samples, make_targets(TASK, patients, table), explode)


def test_the_learning_rate_rises_then_falls():
    rates = [_warm_up_then_cosine(i / 100) for i in range(101)]
    assert max(rates) == pytest.approx(rates[10], rel=0.01)
    assert rates[0] < rates[5] < rates[10] > rates[50] > rates[100] > 0
