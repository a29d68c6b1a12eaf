"""Small made-up tissues for tests."""

import numpy as np
import pandas as pd
import torch

from metaniche.data.cohort import CohortConfig
from metaniche.data.sample import PreparedSample
from metaniche.graph import GraphConfig, build_graph

TYPES = ("caf", "malignant", "t_cell")
MARKERS = ("CXCL12", "CXCR4", "KRT8", "CD3E")
GRAPH = GraphConfig(max_paracrine=6)
COHORT = CohortConfig("made_up", um_per_unit=1.0, feature_kind="intensity", malignant_types=("malignant",))
READ = {"graph": GRAPH, "cohort": COHORT}  # how make_sample's tissue is connected and read, for fit_bundle


def make_sample(sample_id, patient_id, *, n_cells=80, signal=0.0, seed=0, kind="intensity", markers=MARKERS):
    """A PreparedSample of random tissue in which `signal` is added to the first marker."""
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy(rng.uniform(0, 10 * np.sqrt(n_cells), (n_cells, 2)).astype(np.float32))
    graph = build_graph(pos, torch.tensor([0, n_cells]), GRAPH)
    types = pd.Categorical.from_codes(rng.integers(0, 3, n_cells), TYPES)
    x = rng.gamma(2.0, 1.0, (n_cells, len(markers))).astype(np.float32)
    x[:, 0] += signal
    x = np.floor(x) if kind == "counts" else x
    cells = pd.DataFrame(
        {"cell_type": types, "is_malignant": np.asarray(types) == "malignant"},
        index=pd.Index([f"c{i}" for i in range(n_cells)], name="cell_id"),
    )
    order = rng.permutation(n_cells)
    if kind == "none":
        x, markers = np.zeros((n_cells, 0), np.float32), ()
    return PreparedSample(sample_id, patient_id, graph, x, tuple(markers), kind, cells, order)
