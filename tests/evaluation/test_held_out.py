import pytest
from tissue import READ

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import SplitError
from metaniche.evaluation.held_out import held_out_predictions
from metaniche.evaluation.table import comparison_table
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
    assert list(comparison_table(cv, n_boot=20).index) == ["net"]
    with pytest.raises(SplitError, match="p6"):
        held_out_predictions("net", targets, test, scores)
