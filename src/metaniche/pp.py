"""The scverse face of the graph: AnnData in, the same AnnData with its CellGraph in obsp out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData


def spatial_graph(adata: AnnData, *, um_per_unit: float | None = None, **config) -> None:
    """Connect cells of the same sample (obs["sample_id"], else all cells) by distance.

    Writes obsp["metaniche_connectivities"] (1 = contact, 2 = paracrine), obsp["metaniche_distances_um"] and, where not all
    neighbours are kept (`max_paracrine`), obsp["metaniche_weights"], how many an edge stands for; a row is a receiver, its
    columns are senders. `config` goes to `metaniche.graph.GraphConfig`. Units are `um_per_unit`, or what
    uns["metaniche"]["um_per_unit"] says, and are written there. Raises InputError when neither does or the coordinates
    cannot be right, ConfigError for an unknown setting.
    """
    import numpy as np
    import pandas as pd
    import torch
    from scipy import sparse

    from metaniche.graph import GraphConfig, build_graph
    from metaniche.io import keys
    from metaniche.io.coordinates import check_coordinates, positions_um, resolve_um_per_unit
    from metaniche.io.matrices import check_compressed
    from metaniche.io.record import own_record
    from metaniche.io.settings import build
    from metaniche.io.wording import refusal

    settings = build(GraphConfig, config, "graph")
    scale = resolve_um_per_unit(adata, um_per_unit, where="adata", remedy="Give um_per_unit=")
    if keys.SAMPLE in adata.obs and adata.obs[keys.SAMPLE].isna().any():
        found = f"{int(adata.obs[keys.SAMPLE].isna().sum())} cells without one"
        raise refusal(
            "adata", expected=f"obs[{keys.SAMPLE!r}] for every cell", found=found, fix="Fill it in or drop them."
        )
    names = adata.obs[keys.SAMPLE].astype(str) if keys.SAMPLE in adata.obs else pd.Series("sample", adata.obs_names)
    codes, samples = pd.factorize(names)
    for code, sample in enumerate(samples):
        check_coordinates(adata[codes == code], where=f"adata, sample {sample}", um_per_unit=scale)
    order = np.argsort(codes, kind="stable")
    pointer = torch.from_numpy(np.concatenate(([0], np.cumsum(np.bincount(codes)))))
    pos = torch.from_numpy(positions_um(adata, scale)[order])
    stored = None
    if settings.builder == "stored" and keys.CONNECTIVITIES in adata.obsp:
        check_compressed(adata.obsp[keys.CONNECTIVITIES], where="adata", key=f"obsp[{keys.CONNECTIVITIES!r}]")
        stored = sparse.csr_array(adata.obsp[keys.CONNECTIVITIES])[order][:, order]
    graph = build_graph(pos, pointer, settings, stored)
    back = np.argsort(order)
    for key, values in (
        (keys.GRAPH_RELATIONS, graph.relation.numpy() + 1),
        (keys.GRAPH_DISTANCES, graph.distance_um.numpy()),
        (keys.GRAPH_WEIGHTS, None if graph.weight is None else graph.weight.numpy()),
    ):
        if values is None:
            adata.obsp.pop(key, None)
            continue
        matrix = sparse.csr_array((values, graph.indices.numpy(), graph.indptr.numpy()), shape=(adata.n_obs,) * 2)
        adata.obsp[key] = sparse.csr_matrix(matrix[back][:, back])
    adata.uns[keys.UNS] = {**own_record(adata, where="adata"), keys.UM_PER_UNIT: scale}
