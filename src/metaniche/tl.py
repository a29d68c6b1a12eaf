"""The scverse face of prediction and communication: AnnData in, the same AnnData with scores or signals out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from metaniche.signaling import Resource


def metastatic_potential(
    adata: AnnData,
    model: str | Path,
    *,
    um_per_unit: float | None = None,
    patients: pd.DataFrame | None = None,
    coverage_floor: float = 0.5,
    type_aliases: dict[str, str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Score the cells, samples and patients of `adata` with a bundle. Research use only.

    Writes obs["metaniche_potential"], obs["metaniche_attention"], obsm["X_metaniche"] and uns["metaniche"] in place, or
    returns a copy with them. Parameters and errors as in `metaniche.predict.Predictor.predict`; `model` is a bundle folder.
    """
    from metaniche.io import keys
    from metaniche.predict import load

    scored = load(model).predict(
        adata,
        um_per_unit=um_per_unit,
        patients=patients,
        coverage_floor=coverage_floor,
        type_aliases=type_aliases,
    )
    if copy:
        return scored
    for key in scored.obs.columns[scored.obs.columns.str.startswith(f"{keys.PREFIX}_")]:
        adata.obs[key] = scored.obs[key]
    adata.obsm[keys.EMBEDDING] = scored.obsm[keys.EMBEDDING]
    adata.uns[keys.UNS] = scored.uns[keys.UNS]
    return None


def communicate(
    adata: AnnData,
    resource: Resource | str | Path = "consensus",
    *,
    um_per_unit: float | None = None,
    types: str = "cell_type",
    feature_kind: str = "counts",
    graph: dict | None = None,
    **config,
) -> None:
    """Score and test ligand-receptor signals between the cell types of every sample. Research use only.

    Writes in place: uns["metaniche"]["communication"], the table of `metaniche.signaling.Communication` with `sample_id`
    in front; obsm["metaniche_sent"] and obsm["metaniche_received"], per cell and pathway; and the parameters with the
    resource's provenance in uns["metaniche"]["communication_parameters"].

    Parameters
    ----------
    adata
        With obsm["spatial"], obs[types], counts in X or layers["counts"], and obs["sample_id"] where there are several.
    resource
        One of LIANA's names (needs the extra `liana`), the path of a table, or a `metaniche.signaling.Resource`.
    um_per_unit
        Micrometres per unit of obsm["spatial"]; None: uns["metaniche"]["um_per_unit"].
    types
        Column of obs with cell types (spots: an annotation). Cells without one are left out of the table.
    feature_kind
        counts, which are log-normalised; intensity: values of X used as they are (proteins, log-normalised counts).
    graph
        Changes to `metaniche.signaling.GRAPH`, the neighbours that are looked at.
    config
        Settings of `metaniche.signaling.SignalConfig`, such as null_model="labels".

    Raises InputError for input that cannot be right, ConfigError for an unknown setting.
    """
    from dataclasses import asdict

    from metaniche.communicate import annotated, communicate_anndata
    from metaniche.graph import GraphConfig
    from metaniche.io.settings import build
    from metaniche.signaling import GRAPH, Resource, SignalConfig, open_resource

    pairs = resource if isinstance(resource, Resource) else open_resource(resource)
    settings = build(SignalConfig, config, "signaling")
    neighbours = build(GraphConfig, asdict(GRAPH) | (graph or {}), "graph")
    found = communicate_anndata(
        adata, pairs, settings, neighbours, um_per_unit=um_per_unit, types=types, feature_kind=feature_kind
    )
    annotated(adata, *found)
