"""A small valid AnnData, for tests to read, write and spoil."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

GENES = ("CXCL12", "CXCR4", "EPCAM", "KRT8", "CD3E", "COL1A1", "VEGFA", "KDR")
TYPES = ("T cell", "fibroblast", "tumor")


def make_slide(n_cells=60, *, kind="counts", seed=0, sample="s1", patient="p1"):
    """Cells about 7 um apart, in micrometres, with types, and counts (CSR), intensities or nothing in X."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(rng.integers(0, 3, n_cells), TYPES),
            "sample_id": sample,
            "patient_id": patient,
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    genes = () if kind == "none" else GENES
    if kind == "counts":
        x = sparse.csr_matrix(rng.poisson(1.0, (n_cells, len(genes))).astype(np.float32))
    else:
        x = rng.gamma(2.0, 1.0, (n_cells, len(genes))).astype(np.float32)
    xy = rng.uniform(0, 14 * np.sqrt(n_cells), (n_cells, 2))
    return AnnData(X=x, obs=obs, var=pd.DataFrame(index=list(genes)), obsm={"spatial": xy})
