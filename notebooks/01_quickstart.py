# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quick start
#
# From cells to a patient's risk on synthetic tumours: a small cohort is made, prepared, split by patient, and a small network is trained.
# Twenty-four patients are enough to see every step and far too few to learn from; no figure here is a result. Research use only.

# %%
import tempfile
from pathlib import Path

from metaniche import pl
from metaniche.data.features import FeatureConfig
from metaniche.data.prepare import prepare
from metaniche.data.sampling import SamplingConfig
from metaniche.data.splits import hold_out
from metaniche.data.synthetic import SyntheticConfig, generate
from metaniche.data.task import Task
from metaniche.graph import GraphConfig
from metaniche.predict import Predictor
from metaniche.training.fit import FitConfig, fit_bundle

tumours = generate(SyntheticConfig(n_patients=24, max_samples=1, n_cells=300))
tumours.patients.head()

# %% [markdown]
# The signal that was planted, and that a model has to find:

# %%
{k: v for k, v in tumours.truth.items() if k in ("ligand", "receptor", "sender", "receiver", "length_scale_um")}

# %% [markdown]
# Reading, checking and connecting the cells happens once; the result is stored and reused.

# %%
folder = Path(tempfile.mkdtemp())
cohort = prepare(tumours.cohort(), GraphConfig(), folder, progress=False)
cohort.samples[["patient_id", "n_cells", "n_edges"]].head()

# %% [markdown]
# Patients are split; whatever is fitted, is fitted on the training patients.

# %%
task = Task("metastasis", "Metastasis", label="metastasis", positive=(1,), negative=(0,))
train, held_out = hold_out(cohort.targets(task), 0.25)
bundle = fit_bundle(
    cohort.of(train.patients),
    train,
    FitConfig(features=FeatureConfig(), sampling=SamplingConfig(windows=1, window_cells=128), epochs=3, members=2),
    graph=cohort.graph,
    cohort=cohort.config,
)
bundle.save(folder / "bundle")

# %% [markdown]
# A new sample: AnnData in, AnnData out.

# %%
sample_id = cohort.samples.index[cohort.samples["patient_id"].isin(held_out.patients)][0]
scored = Predictor(bundle).predict(tumours.read(sample_id))
scored.uns["metaniche"]["units"]

# %%
pl.metastatic_potential(scored)
