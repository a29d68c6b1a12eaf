"""Digests of what is in memory: whether something is what it was."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from metaniche.io import keys
from metaniche.io.record import own_record


def table_digest(table: pd.DataFrame) -> str:
    """sha256 over a table's index, column names and values as text."""
    rows = pd.util.hash_pandas_object(table.astype("object").map(str), index=True).to_numpy()
    return hashlib.sha256(rows.tobytes() + ",".join(map(str, table.columns)).encode()).hexdigest()


def sample_digest(adata: AnnData) -> str:
    """sha256 over what a sample is prepared from: cells, genes, expression, coordinates, stored neighbours and the unit."""
    state = hashlib.sha256(table_digest(adata.obs).encode())
    state.update("\n".join(map(str, adata.var_names)).encode())
    arrays = adata.X, adata.layers.get(keys.COUNTS), adata.obsm.get(keys.SPATIAL), adata.obsp.get(keys.CONNECTIVITIES)
    for array in arrays:
        parts = (array.indptr, array.indices, array.data) if sparse.issparse(array) else (array,)
        for part in map(np.asarray, parts):
            values = part.astype(str) if part.dtype == object else part
            state.update(f"{values.shape} {values.dtype}".encode() + np.ascontiguousarray(values).tobytes())
    state.update(str(own_record(adata, where="adata").get(keys.UM_PER_UNIT)).encode())
    return state.hexdigest()
