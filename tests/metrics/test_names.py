from metaniche.data.task import Task
from metaniche.evaluation.scores import metric_names
from metaniche.metrics.names import METRICS


def test_every_metric_of_every_kind_of_task_has_a_name():
    for kind in ("binary", "cox"):
        task = Task(name="t", title="T", kind=kind, label="y", positive=(1,), time="t", event="e")
        assert set(metric_names(task)) <= set(METRICS)


def test_a_metric_is_filed_under_its_column():
    assert all(column == metric.column for column, metric in METRICS.items())
    assert {metric.better for metric in METRICS.values()} <= {"higher", "lower", "near 1"}
