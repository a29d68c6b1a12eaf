"""Small tissues with ligands and receptors, and the pairs between them."""

import numpy as np
import pandas as pd
import pytest
import torch

from metaniche.graph import GraphConfig, build_graph
from metaniche.signaling import Resource

GENES = [f"L{i}" for i in range(4)] + [f"R{i}" for i in range(4)]
TYPES = ["a", "b", "c"]


@pytest.fixture(scope="session")
def resource():
    pairs = pd.DataFrame(
        {
            "ligand": [f"L{i}" for i in range(4)],
            "receptor": [f"R{i}" for i in range(4)],
            "signaling_type": ["contact", "secreted", "secreted", "ecm"],
            "pathway": ["one", "two", "two", None],
        }
    )
    return Resource(pairs, "invented", version="1", licence="none")


@pytest.fixture(scope="session")
def tissue():
    """seed -> (x, cell types, graph): types in regions, expression by type, cells of a type alike wherever they stand.

    With `planted` above 0, a's cells express the more L1 the nearer b is; at 1 without exception.
    """

    def make(seed, n_cells=400, planted=0.0):
        rng = np.random.default_rng(seed)
        pos = rng.random((n_cells, 2)) * np.sqrt(n_cells / 0.004)
        field = np.sin(pos[:, 0] / 60) + np.cos(pos[:, 1] / 50) + rng.normal(0, 0.7, n_cells)
        codes = np.digitize(field, [-0.5, 0.5])
        rate = rng.gamma(1.0, 1.0, (len(TYPES), len(GENES)))
        x = np.log1p(rng.poisson(rate[codes])).astype(np.float32)
        graph = build_graph(
            torch.from_numpy(pos).float(), torch.tensor([0, n_cells]), GraphConfig(radius_um=80.0, max_paracrine=None)
        )
        if planted:
            senders, receivers = np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)
            near = np.linalg.norm(pos[senders][:, None] - pos[receivers], axis=2).min(1)
            order = np.argsort(near + rng.normal(0, 40 * (1 - planted), len(senders)))
            x[senders[order], 1] = np.sort(x[senders, 1])[::-1]
        return x, pd.Categorical.from_codes(codes, TYPES), graph

    return make
