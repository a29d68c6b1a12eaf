"""The scverse face of prediction: AnnData in, the same AnnData with scores out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


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
    for key in (keys.POTENTIAL, keys.ATTENTION):
        adata.obs[key] = scored.obs[key]
    adata.obsm[keys.EMBEDDING] = scored.obsm[keys.EMBEDDING]
    adata.uns[keys.UNS] = scored.uns[keys.UNS]
    return None
