"""Fixtures shared by all rooms: a small tissue whose label is known, and the real cohorts' mirror."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tissue import make_sample

# Small tensors: more threads only wait for each other. The variable reaches the processes that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def small_cohort():
    """(samples, patients, sample table) of 12 patients, one sample each; odd patients carry a strong signal."""
    samples = [make_sample(f"s{i}", f"p{i}", signal=3.0 * (i % 2), seed=i) for i in range(12)]
    rng = np.random.default_rng(1)
    patients = pd.DataFrame(
        {
            "metastasis": [i % 2 for i in range(12)],
            "time": rng.exponential(10, 12) + 0.1,
            "event": [1, 1, 0] * 4,
            "liver": [0.0, 1.0, np.nan] * 4,
            "lung": [1.0, np.nan, 0.0] * 4,
            "age": rng.normal(60, 9, 12),
            "sex": ["f", "m"] * 6,
        },
        index=pd.Index([f"p{i}" for i in range(12)], name="patient_id"),
    )
    table = pd.DataFrame(
        {"patient_id": [s.patient_id for s in samples]},
        index=pd.Index([s.sample_id for s in samples], name="sample_id"),
    )
    return samples, patients, table


@pytest.fixture(scope="session")
def mirror():
    """Folder with the real cohorts' files in upstream layout; skips where there is none."""
    folder = Path(os.environ.get("METANICHE_MIRROR", Path(__file__).parents[2] / "shared/data/mirror"))
    if not folder.is_dir():
        pytest.skip("no mirror of the public cohorts: set METANICHE_MIRROR to run on real data")
    return folder
