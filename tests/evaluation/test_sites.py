import numpy as np

from metaniche.evaluation.sites import per_label


def test_each_site_keeps_its_known_labels_only(cohort, tasks):
    targets = cohort.targets(tasks["sites"])
    parts = per_label(targets)
    assert list(parts) == ["liver", "lung"]
    for site, part in parts.items():
        known = targets.table[site].dropna()
        np.testing.assert_array_equal(part.table["y"], known)
        assert part.task.kind == "binary"


def test_a_site_without_a_known_label_is_left_out(cohort, tasks):
    targets = cohort.targets(tasks["sites"])
    targets.table["lung"] = np.nan
    assert list(per_label(targets)) == ["liver"]


def test_other_tasks_are_left_as_they_are(cohort, tasks):
    targets = cohort.targets(tasks["binary"])
    assert per_label(targets) == {"y": targets}
