"""Everything that must be true of a sample before a graph is built on it."""

from __future__ import annotations

import warnings
from collections.abc import Collection

import pandas as pd
from anndata import AnnData

from metaniche.errors import ConfigError
from metaniche.io import keys
from metaniche.io.coordinates import check_coordinates, resolve_um_per_unit, unit_suspicions
from metaniche.io.features import check_features
from metaniche.io.matrices import check_compressed, check_matrix, has_negative
from metaniche.io.wording import listed, nearest, refusal

# What a missing name became where a table was written as text.
NOT_A_NAME = frozenset({"", "nan", "NaN", "NA", "N/A", "<NA>", "None", "null"})
FEATURE_KINDS = ("counts", "intensity", "none")


def check_sample(
    adata: AnnData,
    *,
    where: str,
    um_per_unit: float | None,
    feature_kind: str,
    cell_type_key: str | None = None,
    organism: str | None = None,
    panel: Collection[str] | None = None,
) -> AnnData:
    """Check one sample and return it, unchanged and uncopied.

    Parameters
    ----------
    adata
        The sample, with its values in X and cell centres in `obsm["spatial"]`.
    where
        File or sample id, for the messages.
    um_per_unit
        Micrometres per unit of `obsm["spatial"]`; None takes the sample's own `uns["metaniche"]["um_per_unit"]`.
    feature_kind
        "counts" (whole numbers), "intensity" (finite numbers) or "none" (X is not looked at).
    cell_type_key
        Column of obs that must hold cell types; None where none are needed.
    organism
        "human" or "mouse": the spelling that gene symbols must have; None does not ask.
    panel
        Features of which at least one must be there.

    Raises
    ------
    InputError
        Naming the sample, the key, what was found and how to fix it.

    Warns
    -----
    UserWarning
        For what is suspicious and not provably wrong, as listed by `suspicions`.
    """
    if feature_kind not in FEATURE_KINDS:
        raise ConfigError(f"Expected feature_kind in {FEATURE_KINDS}, found {feature_kind!r}.")
    if not isinstance(adata, AnnData):
        raise refusal(where, expected="an AnnData", found=type(adata).__name__, fix="Read it with io.read.read_sample.")
    _check_cells(adata, where)
    _check_labels(adata, where, cell_type_key)
    scale = resolve_um_per_unit(adata, um_per_unit, where=where)
    check_coordinates(adata, where=where, um_per_unit=scale, feature_kind=feature_kind)
    if feature_kind != "none":
        check_features(adata, where=where, feature_kind=feature_kind, organism=organism, panel=panel)
        check_matrix(adata.X, where=where, key="X", feature_kind=feature_kind)
    if keys.CONNECTIVITIES in adata.obsp:
        check_compressed(adata.obsp[keys.CONNECTIVITIES], where=where, key=f"obsp[{keys.CONNECTIVITIES!r}]")
    for text in suspicions(adata, um_per_unit=um_per_unit, feature_kind=feature_kind):
        warnings.warn(f"{where}: {text}", UserWarning, stacklevel=2)
    return adata


def suspicions(adata: AnnData, *, um_per_unit: float | None, feature_kind: str) -> list[str]:
    """Doubts about a sample that passed `check_sample`, one sentence each: units, and values that look transformed."""
    scale = resolve_um_per_unit(adata, um_per_unit, where="sample")
    found = unit_suspicions(adata, um_per_unit=scale, feature_kind=feature_kind)
    if feature_kind == "intensity" and has_negative(adata.X):
        found.append("X has negative intensities, as after z-scoring; raw intensities are expected.")
    return found


def _check_cells(adata: AnnData, where: str) -> None:
    if adata.n_obs < 2:
        raise refusal(
            where,
            expected="at least two cells",
            found=f"{adata.n_obs} in obs",
            fix="Leave this sample out of the sample table.",
        )
    names = adata.obs_names
    blank = names.isna() | (names.astype(str).str.strip() == "")
    if blank.any():
        fix = "Number them: adata.obs_names = [str(i) for i in range(adata.n_obs)]."
        raise refusal(where, expected="an id for every cell", found=f"{int(blank.sum())} blank in obs_names", fix=fix)
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        raise refusal(
            where,
            expected="unique cell ids in obs_names",
            found=f"{len(repeated)} ids more than once ({listed(repeated)})",
            fix="If fields of view were joined, prefix the ids with the field; else adata.obs_names_make_unique().",
        )


def _check_labels(adata: AnnData, where: str, cell_type_key: str | None) -> None:
    if cell_type_key is not None:
        require_column(adata.obs, cell_type_key, where, "cell_type_key")
        if adata.obs[cell_type_key].isna().all():
            fix = "Fill the column, or use a cohort without cell types."
            raise refusal(where, expected=f"cell types in obs[{cell_type_key!r}]", found="missing values only", fix=fix)
    if keys.MALIGNANT in adata.obs:
        column = adata.obs[keys.MALIGNANT]
        if column.isna().any() or not column.isin([0, 1]).all():
            raise refusal(
                where,
                expected=f"obs[{keys.MALIGNANT!r}] to be true or false for every cell",
                found=listed(pd.unique(column.astype(object))),
                fix="Convert it to bool; drop the column where malignancy is not known.",
            )


def require_column(obs: pd.DataFrame, name: str, where: object, setting: str | None = None) -> None:
    """Raise InputError, with the nearest name, unless obs has this column; `setting` names it in the cohort's config."""
    if name not in obs:
        fix = f"Name the column in the config ({setting}), or add it." if setting else "Rename or add the column."
        raise refusal(
            where,
            expected=f"a column obs[{name!r}]",
            found=f"columns {listed(sorted(map(str, obs.columns)))}",
            fix=f"{nearest(name, obs.columns)}{fix}",
        )


def named_categories(values: pd.Series) -> pd.Series:
    """As a categorical of the categories in use, in which words for "missing" (NOT_A_NAME) are missing."""
    of_all = values.astype("category")
    words = [name for name in of_all.cat.categories if str(name).strip() in NOT_A_NAME]
    return of_all.cat.remove_categories(words).cat.remove_unused_categories()
