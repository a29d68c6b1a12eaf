"""A cohort in memory that behaves as PreparedCohort does, and a model that says what it was shown."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tissue import TYPES, make_sample

from metaniche.data.task import Task, make_targets
from metaniche.evaluation.estimator import Prediction
from metaniche.graph import GraphConfig

BINARY = Task("spread", "spread", label="spread", positive=(1,), clinical=("age", "stage"))
COX = Task("survival", "survival", kind="cox", time="time", event="event", clinical=("age", "stage"))
SITES = Task("organs", "organs", kind="sites", sites=("liver", "lung"), clinical=("age",))
CELLS = Task("front", "front", level="cell", label="region", positive=("front",), negative=("core",))


@dataclass
class MemoryCohort:
    """The part of PreparedCohort that the harness uses, over samples in memory."""

    name: str
    prepared: list
    patients: pd.DataFrame
    feature_kind: str = "intensity"
    folder: Path = Path("memory-0")

    @property
    def samples(self):
        index = pd.Index([s.sample_id for s in self.prepared], name="sample_id")
        return pd.DataFrame({"patient_id": [s.patient_id for s in self.prepared]}, index=index)

    def of(self, patients):
        return [s for s in self.prepared if s.patient_id in set(patients)]

    def targets(self, task):
        return make_targets(task, self.patients, self.samples, self.prepared)

    def with_samples(self, change):
        return replace(self, prepared=[change(s) for s in self.prepared])


@dataclass
class Spy:
    """Predicts from the patients' age, and remembers what it was shown."""

    name: str = "spy"
    role: str = "model"
    fits: list = field(default_factory=list, repr=False)
    shown: list = field(default_factory=list, repr=False)
    fail_on: int = field(default=-1, repr=False)

    def fit(self, samples, targets, clinical, seed):
        if len(self.fits) == self.fail_on:
            raise ValueError("boom")
        self.fits.append((tuple(sorted({s.patient_id for s in samples})), tuple(targets.patients), seed))
        return self

    def predict(self, samples, clinical, unit_ids):
        self.shown.append(samples)
        age = (clinical["age"] - 60) / 20
        risk = 1 / (1 + np.exp(-age))
        return Prediction(risk.reindex(unit_ids))


def set_types(sample, codes):
    """The same sample with other cell types."""
    return replace(sample, cells=sample.cells.assign(cell_type=pd.Categorical.from_codes(codes, TYPES)))


def make_cohort(n_patients=24, samples_per_patient=1, kind="intensity", effect=0.4, seed=0):
    """Odd patients have spread, more malignant cells by `effect`, an earlier event, and are a little older."""
    rng = np.random.default_rng(seed)
    names = [f"p{i:02d}" for i in range(n_patients)]
    spread = np.arange(n_patients) % 2
    samples = []
    for i, name in enumerate(names):
        for k in range(samples_per_patient):
            sample = make_sample(f"s{i}_{k}", name, n_cells=60, signal=0.5 * spread[i], seed=100 * i + k, kind=kind)
            share = 0.3 + effect * spread[i]
            codes = rng.choice(3, sample.n_cells, p=[(1 - share) / 2, share, (1 - share) / 2])
            sample = set_types(sample, codes)
            region = pd.Categorical(np.where(codes == 1, "front", "core"))
            samples.append(replace(sample, cells=sample.cells.assign(region=region)))
    patients = pd.DataFrame(
        {
            "spread": spread,
            "time": np.round(rng.exponential(np.where(spread, 10.0, 40.0)), 1) + 0.1,
            "event": np.where(rng.random(n_patients) < 0.7, 1, 0),
            "liver": np.where(np.arange(n_patients) % 5 == 0, np.nan, spread),
            "lung": np.where(np.arange(n_patients) % 4 == 0, np.nan, rng.integers(0, 2, n_patients)),
            "age": rng.normal(60, 8, n_patients) + 4 * spread,
            "stage": rng.choice(["I", "II", None], n_patients),
        },
        index=pd.Index(names, name="patient_id"),
    )
    return MemoryCohort("made-up", samples, patients, kind)


@pytest.fixture(scope="session")
def cohort():
    return make_cohort()


@pytest.fixture(scope="session")
def cohort_of():
    return make_cohort


@pytest.fixture
def spy():
    return Spy


@pytest.fixture(scope="session")
def tasks():
    return {"binary": BINARY, "cox": COX, "sites": SITES, "cells": CELLS}


@pytest.fixture(scope="session")
def retype():
    return set_types


@pytest.fixture(scope="session")
def prepared_like():
    """A cohort in memory with the facts that a prepared one states about itself."""

    def make(cohort, n_cells=60):
        return SimpleNamespace(
            name=cohort.name,
            samples=cohort.samples.assign(n_cells=n_cells, n_edges=5 * n_cells),
            patients=cohort.patients,
            left_out={"p99": "no sample"},
            graph=GraphConfig(),
            config=SimpleNamespace(um_per_unit=1.0),
        )

    return make
