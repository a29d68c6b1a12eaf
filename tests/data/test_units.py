from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.data import units
from metaniche.data.batch import collate
from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.features import FeatureConfig, Features
from metaniche.data.sampling import SamplingConfig, WindowBatches
from metaniche.data.task import Targets, Task, make_targets
from metaniche.data.units import make_bags, samples_by_unit
from metaniche.errors import ConfigError

TASK = Task("t", "a task", label="metastasis", positive=(1,))


@pytest.fixture
def parts(small_cohort):
    samples, patients, table = small_cohort
    return samples, patients, table, Features.fit(samples, FeatureConfig())


def test_one_bag_per_labelled_patient_with_its_label(parts):
    samples, patients, table, features = parts
    two_slides = [*samples, replace(samples[0], sample_id="s0b")]
    targets = make_targets(TASK, patients.drop("p3"), table)
    bags = make_bags(two_slides, features, TASK, targets=targets)
    assert len(bags) == 11
    assert len(bags[0].pieces) == 2
    assert [float(b.target[0]) for b in bags] == targets.table["y"].tolist()


def test_what_is_too_large_to_keep_is_worked_out_for_the_windows_that_are_drawn(parts, monkeypatch):
    samples, _, _, features = parts
    asked = []
    kept = WindowBatches(make_bags(samples, features, TASK), SamplingConfig(2, 20, 3), seed=0)
    monkeypatch.setattr(units, "KEPT_BYTES", 0)
    monkeypatch.setattr(
        Features, "transform", lambda self, s, of=Features.transform: asked.append(s.n_cells) or of(self, s)
    )
    bags = make_bags(samples, features, TASK)
    assert not asked
    drawn = WindowBatches(bags, SamplingConfig(2, 20, 3), seed=0)
    for number in range(3):
        assert torch.equal(drawn[number].x, kept[number].x)
    assert set(asked) == {20}
    assert torch.equal(collate(bags[:1]).x, collate(make_bags(samples[:1], features, TASK)).x)


def test_prediction_needs_no_labels(parts):
    samples, _, _, features = parts
    bags = make_bags(samples, features, TASK)
    assert [b.target.size for b in bags] == [0] * 12
    assert list(samples_by_unit(samples, TASK)) == [f"p{i}" for i in range(12)]


def test_sample_level_tasks_make_a_bag_per_sample(parts):
    samples, _, _, features = parts
    two_slides = [*samples, replace(samples[0], sample_id="s0b")]
    assert len(make_bags(two_slides, features, replace(TASK, level="sample"))) == 13


def test_cell_labels_stand_at_their_cells(parts):
    samples, _, _, features = parts
    task = replace(TASK, level="cell")
    labelled = pd.DataFrame(
        {"patient_id": "p0", "sample_id": "s0", "y": [1.0, 0.0]},
        index=pd.Index(["s0:c5", "s0:c7"], name="unit_id"),
    )
    bags = make_bags(samples, features, task, targets=Targets(task, labelled))
    labels = bags[0].pieces[0].labels
    assert torch.isfinite(labels).nonzero().flatten().tolist() == [5, 7]
    assert labels[5] == 1
    assert not torch.isfinite(bags[1].pieces[0].labels).any()


def test_pool_malignant_leaves_only_malignant_candidates(parts):
    samples, _, _, features = parts
    bag = make_bags(samples, features, TASK, pool="malignant")[0]
    assert np.array_equal(bag.pieces[0].candidates.numpy(), samples[0].is_malignant)
    with pytest.raises(ConfigError, match="pool"):
        make_bags(samples, features, TASK, pool="tumour")


@pytest.mark.parametrize("n_others", [0, 1, 5])
def test_surroundings_are_who_is_known_not_to_be_malignant_even_if_that_is_nobody(parts, n_others):
    samples, _, _, features = parts
    malignant = np.arange(samples[0].n_cells) >= n_others
    known = replace(samples[0], cells=samples[0].cells.assign(is_malignant=malignant))
    unknown = replace(known, cells=known.cells.drop(columns="is_malignant"))
    of_known, of_unknown = (make_bags([s], features, TASK)[0].pieces[0].surroundings for s in (known, unknown))
    assert np.array_equal(of_known.numpy(), ~malignant)
    assert of_unknown.all()
    assert unknown.is_malignant.all()


def test_clinical_variables_follow_their_patient(parts):
    samples, patients, _, features = parts
    fitted = ClinicalFeatures.fit(patients, ["age"])
    bags = make_bags(samples, features, TASK, clinical=(fitted, patients))
    assert np.allclose([b.clinical[0] for b in bags], fitted.transform(patients)[:, 0])
