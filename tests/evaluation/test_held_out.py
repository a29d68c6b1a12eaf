import numpy as np
import pytest
from tissue import READ

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import SplitError
from metaniche.evaluation.held_out import held_out_predictions
from metaniche.evaluation.landmark import censoring
from metaniche.evaluation.table import comparison_table
from metaniche.metrics.survival import censoring_survival
from metaniche.predict import Predictor
from metaniche.training.fit import FitConfig, fit_bundle

CONFIG = FitConfig(
    parameters={"width": 8}, features=FeatureConfig(), epochs=1, sampling=SamplingConfig(windows=1, window_cells=30)
)


@pytest.mark.parametrize(
    "task",
    [
        Task("b", "b", label="metastasis", positive=(1,)),
        Task("c", "c", kind="cox", time="time", event="event"),
        Task("s", "s", kind="sites", sites=("liver", "lung")),
        Task("k", "k", level="cell", label="cell_type", positive=("malignant",)),
    ],
    ids=lambda t: t.kind + ":" + t.level,
)
def test_one_split_goes_into_the_same_table(small_cohort, task):
    samples, patients, table = small_cohort
    targets = make_targets(task, patients, table, samples)
    train, test = targets.of([f"p{i}" for i in range(6)]), targets.of([f"p{i}" for i in range(6, 12)])
    scores = Predictor(fit_bundle(samples, train, CONFIG, **READ)).score(
        [s for s in samples if s.patient_id in test.patients]
    )
    cv = held_out_predictions("net", train, test, scores)
    made = comparison_table(cv, n_boot=20)
    assert list(made.index) == ["net"]
    assert "one split by patient" in made.attrs["caption"][0]
    with pytest.raises(SplitError, match="p6"):
        held_out_predictions("net", targets, test, scores)


def test_censoring_is_learned_from_the_training_patients_and_events_are_counted_in_the_others(small_cohort):
    samples, patients, table = small_cohort
    patients = patients.assign(event=[0, 1, 0, 1, 0, 1] + [1] * 6)
    targets = make_targets(Task("c", "c", kind="cox", time="time", event="event"), patients, table)
    train, test = targets.of([f"p{i}" for i in range(6)]), targets.of([f"p{i}" for i in range(6, 12)])
    scores = Predictor(fit_bundle(samples, train, CONFIG, **READ)).score(
        [s for s in samples if s.patient_id in test.patients]
    )
    cv = held_out_predictions("net", train, test, scores)
    _, on_grid = censoring(cv, cv.predictions)
    expected = censoring_survival(train.table["time"].to_numpy(), train.table["event"].to_numpy(), cv.grid)
    np.testing.assert_allclose(on_grid, np.tile(expected, (len(test.table), 1)))
    assert expected.min() < 1
    assert comparison_table(cv, n_boot=20).loc["net", "n_events"] == 6
