"""The scverse face of the graph: AnnData in, the same AnnData with its CellGraph in obsp out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def spatial_graph(adata: AnnData, *, um_per_unit: float | None = None, **config) -> None:
    """Connect cells of the same sample (obs["sample_id"], else all cells) by distance.

    Writes obsp["metaniche_connectivities"] (1 = contact, 2 = paracrine) and obsp["metaniche_distances_um"]; a row is a
    receiver, its columns are senders. `config` goes to `metaniche.graph.GraphConfig`. Units are `um_per_unit`, or what
    uns["metaniche"]["um_per_unit"] says; InputError when neither does.
    """
    import numpy as np
    import pandas as pd
    import torch
    from scipy import sparse

    from metaniche.graph import GraphConfig, build_graph
    from metaniche.io import keys
    from metaniche.io.coordinates import resolve_um_per_unit

    scale = resolve_um_per_unit(adata, um_per_unit, where="adata")
    names = adata.obs[keys.SAMPLE].astype(str) if keys.SAMPLE in adata.obs else pd.Series("sample", adata.obs_names)
    codes, _ = pd.factorize(names)
    order = np.argsort(codes, kind="stable")
    pointer = torch.from_numpy(np.concatenate(([0], np.cumsum(np.bincount(codes)))))
    pos = torch.from_numpy((np.asarray(adata.obsm[keys.SPATIAL])[order] * scale).astype(np.float32))
    stored = None
    if keys.CONNECTIVITIES in adata.obsp:
        stored = sparse.csr_array(adata.obsp[keys.CONNECTIVITIES])[order][:, order]
    graph = build_graph(pos, pointer, GraphConfig(**config), stored)
    back = np.argsort(order)
    for key, values in (("connectivities", graph.relation.numpy() + 1), ("distances_um", graph.distance_um.numpy())):
        matrix = sparse.csr_array((values, graph.indices.numpy(), graph.indptr.numpy()), shape=(adata.n_obs,) * 2)
        adata.obsp[f"{keys.PREFIX}_{key}"] = sparse.csr_matrix(matrix[back][:, back])
