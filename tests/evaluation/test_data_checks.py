from dataclasses import replace

import numpy as np
import pytest

from metaniche.evaluation.data_checks import data_checks


def _found(rows, check):
    return next((r["status"], r["detail"]) for r in rows if r["check"] == check)


@pytest.mark.parametrize(("n_cells", "status"), [(99, "warning"), (100, "ok")])
def test_small_samples_are_a_warning(cohort, prepared_like, tasks, n_cells, status):
    rows = data_checks(prepared_like(cohort, n_cells), cohort.targets(tasks["binary"]))
    assert _found(rows, "Cells per sample") == (status, f"{n_cells} to {n_cells}")


@pytest.mark.parametrize(("positives", "status"), [(19, "warning"), (20, "ok"), (21, "warning")])
def test_few_labels_of_either_class_are_a_warning(cohort_of, prepared_like, tasks, positives, status):
    cohort = cohort_of(40)
    targets = cohort.targets(tasks["binary"])
    targets = replace(targets, table=targets.table.assign(y=(np.arange(40) < positives).astype(float)))
    found, detail = _found(data_checks(prepared_like(cohort), targets), "Labels")
    assert found == status
    assert detail.startswith(f"{positives} positive, {40 - positives} negative")


@pytest.mark.parametrize(("events", "status"), [(19, "warning"), (20, "ok")])
@pytest.mark.parametrize("level", ["patient", "sample"])
def test_few_events_are_a_warning_that_names_the_unit(cohort, prepared_like, tasks, events, status, level):
    targets = cohort.targets(replace(tasks["cox"], level=level))
    targets = replace(targets, table=targets.table.assign(event=(np.arange(24) < events).astype(float)))
    rows = data_checks(prepared_like(cohort), targets)
    assert _found(rows, "Events") == (status, f"{events} events in 24 {level}s")


def test_who_was_left_out_is_said_with_the_reason(cohort, prepared_like, tasks):
    rows = data_checks(prepared_like(cohort), cohort.targets(tasks["binary"]))
    assert _found(rows, "Left out") == ("left out", "p99: no sample")
