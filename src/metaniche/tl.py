"""The scverse face of prediction and communication: AnnData in, the same AnnData with scores or signals out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaniche.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from anndata import AnnData

    from metaniche.graph import GraphConfig
    from metaniche.signaling import Resource, SignalConfig

__all__ = ["clones", "communicate", "compete", "local_association", "metastatic_potential", "relays"]


def __dir__() -> list[str]:
    return __all__


def metastatic_potential(
    adata: AnnData,
    model: str | Path,
    *,
    um_per_unit: float | None = None,
    patients: pd.DataFrame | None = None,
    coverage_floor: float = 0.5,
    type_aliases: dict[str, str] | None = None,
    device: str = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Score the cells, samples and patients of `adata` with a bundle. Research use only.

    Writes obs["metaniche_potential"], obs["metaniche_attention"], obsm["X_metaniche"] and uns["metaniche"] in place, or
    returns a copy with them. Parameters and errors as in `metaniche.predict.Predictor` and its `predict`; `model` is a bundle
    folder.
    """
    from metaniche.io import keys
    from metaniche.predict import load

    scored = load(model, device).predict(
        adata,
        um_per_unit=um_per_unit,
        patients=patients,
        coverage_floor=coverage_floor,
        type_aliases=type_aliases,
    )
    if copy:
        return scored
    for key in adata.obs.columns.difference(scored.obs.columns):  # what another network had left
        del adata.obs[key]
    for key in scored.obs.columns[scored.obs.columns.str.startswith(f"{keys.PREFIX}_")]:
        adata.obs[key] = scored.obs[key]
    adata.obsm[keys.EMBEDDING] = scored.obsm[keys.EMBEDDING]
    adata.uns[keys.UNS] = scored.uns[keys.UNS]
    return None


def communicate(
    adata: AnnData,
    resource: Resource | pd.DataFrame | str | Path = "consensus",
    *,
    um_per_unit: float | None = None,
    types: str = "cell_type",
    feature_kind: str = "counts",
    graph: dict | None = None,
    device: str = "auto",
    **config,
) -> None:
    """Score and test ligand-receptor signals between the cell types of every sample. Research use only.

    Writes in place: uns["metaniche"]["communication"], the table of `metaniche.signaling.Communication` with `sample_id`
    and `patient_id` in front; obsm["metaniche_sent"] and obsm["metaniche_received"], per cell and pathway; and the parameters
    with the resource's provenance in uns["metaniche"]["communication_parameters"].

    Parameters
    ----------
    adata
        With obsm["spatial"], obs[types], counts in X or layers["counts"], and obs["sample_id"] where there are several.
    resource
        One of LIANA's names (needs the extra `liana`), a table with columns ligand and receptor or its path, or a
        `metaniche.signaling.Resource`.
    um_per_unit
        Micrometres per unit of obsm["spatial"]; None: uns["metaniche"]["um_per_unit"].
    types
        Column of obs with cell types (spots: an annotation). Cells without one are left out of the table.
    feature_kind
        counts, which are log-normalised; intensity: values of X used as they are (proteins, log-normalised counts).
    graph
        Changes to `metaniche.signaling.GRAPH`, the neighbours that are looked at. How far the pairs of contact reach is
        `decays={"contact": {"length_um": ...}}`, and not its contact_um.
    device
        cpu, cuda or cuda:1; auto: a GPU where the CUDA kernels can run on one. A sample that does not fit there is done on the
        CPU.
    config
        Settings of `metaniche.signaling.SignalConfig`, such as null_model="labels".

    A sample that is refused is left out with a warning. Raises InputError for input that cannot be right and where no sample
    is left, ConfigError for an unknown setting.
    """
    from metaniche.communicate_anndata import communicate_anndata, write_into

    pairs, settings, neighbours = _settings(resource, config, graph)
    how = {"um_per_unit": um_per_unit, "types": types, "feature_kind": feature_kind, "device": device}
    found = communicate_anndata(adata, pairs, settings, neighbours, **how)
    write_into(adata, *found)


def compete(
    adata: AnnData,
    resource: Resource | pd.DataFrame | str | Path = "consensus",
    reach_um: float = 50.0,
    *,
    um_per_unit: float | None = None,
    types: str = "cell_type",
    feature_kind: str = "counts",
    complexes: str = "minimum",
    device: str = "auto",
) -> None:
    """How much each pair moves between cell types when all pairs share what cells make. Research use only.

    COMMOT's model, collective optimal transport over cells up to `reach_um` micrometres apart; no test. Writes the table of
    `metaniche.signaling.competing_signals` with `sample_id` and `patient_id` in front to uns["metaniche"]["competition"].
    Other parameters and errors as in `communicate`.
    """
    from dataclasses import asdict

    from metaniche.communicate import competition_analysis
    from metaniche.communicate_anndata import table_of_anndata
    from metaniche.ops.backend import device_of
    from metaniche.signaling import graph_within

    if not isinstance(reach_um, (int, float)) or not reach_um > 0:
        raise ConfigError(f"Expected reach_um to be a number above 0, found {reach_um!r}.")
    pairs, settings, neighbours = _settings(resource, {"complexes": complexes}, asdict(graph_within(reach_um)))
    how = {"um_per_unit": um_per_unit, "types": types, "feature_kind": feature_kind}
    where = device_of(device)
    about = {**pairs.provenance(), "reach_um": reach_um, "complexes": complexes, "device": str(where)}
    table_of_anndata(adata, competition_analysis(pairs, reach_um, settings, device=where), neighbours, about, **how)


def relays(
    adata: AnnData,
    targets: pd.DataFrame | str | Path,
    resource: Resource | pd.DataFrame | str | Path = "consensus",
    *,
    um_per_unit: float | None = None,
    types: str = "cell_type",
    feature_kind: str = "counts",
    graph: dict | None = None,
    device: str = "auto",
    **config,
) -> None:
    """Which cells answer one signal with another (ligand - receptor - target - ligand - receptor). Research use only.

    Writes the table of `metaniche.signaling.relays` with `sample_id` and `patient_id` in front to uns["metaniche"]["relays"].

    Parameters
    ----------
    targets
        A table, or the path of one, with the columns `receptor` and `target`: genes that signaling through the receptor
        induces. Links from NicheNet, CytoSig or DoRothEA can be written so.
    config
        As in `communicate`, without min_share; null_model is positions, in closed form, or shifts (with n_permutations).

    Other parameters and errors as in `communicate`.
    """
    from dataclasses import asdict

    from metaniche.communicate import relay_analysis
    from metaniche.communicate_anndata import table_of_anndata
    from metaniche.ops.backend import device_of
    from metaniche.signaling import read_targets, relay_null

    _check_null(config, ("positions", "shifts"))
    if "min_share" in config or (config.get("n_permutations") and config.get("null_model") != "shifts"):
        raise ConfigError(
            f"Expected no min_share, and n_permutations with null_model=shifts only, found {sorted(config)}: every type that "
            "relays at all is tested, against positions in closed form."
        )
    pairs, settings, neighbours = _settings(resource, config, graph)
    links = read_targets(targets) if isinstance(targets, (str, Path)) else targets
    how = {"um_per_unit": um_per_unit, "types": types, "feature_kind": feature_kind}
    where = device_of(device)
    about = {
        **pairs.provenance(),
        "n_links": len(links),
        "device": str(where),
        "signaling": asdict(settings) | {"null_model": relay_null(settings)},
    }
    table_of_anndata(adata, relay_analysis(pairs, links, settings, device=where), neighbours, about, **how)


def local_association(
    adata: AnnData,
    resource: Resource | pd.DataFrame | str | Path = "consensus",
    statistic: str = "moran",
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    um_per_unit: float | None = None,
    types: str = "cell_type",
    feature_kind: str = "counts",
    graph: dict | None = None,
    **config,
) -> None:
    """Where in the tissue ligand and receptor of a pair stand together, cell by cell. Research use only.

    Writes obsm["metaniche_local"], a column per pair (see `metaniche.signaling.local_association`: moran, lee or cosine), and
    to uns["metaniche"]["association"] the value of each pair in every sample with its p and q (`signaling.global_scores`).
    Types are not looked at: a ligand of one type and a receptor of another stand apart wherever cells hold one of the two,
    which lee, with what a cell has itself, counts and moran does not.

    Parameters
    ----------
    pairs
        (ligand, receptor) names; None: all that are measured, which for a large panel are thousands of columns. Where they
        would take more than 2 GB, pairs must be named.
    config
        complexes and decays, as in `communicate`.

    Other parameters and errors as in `communicate`; cell types are not needed.
    """
    from dataclasses import asdict

    from metaniche.communicate_anndata import local_anndata, record_table, samples_of, storable
    from metaniche.io import keys

    if unused := set(config) - {"complexes", "decays"}:
        raise ConfigError(
            f"Expected settings among complexes and decays, found {sorted(unused)}: nothing else is used here."
        )
    known, settings, neighbours = _settings(resource, config, graph)
    how = {"um_per_unit": um_per_unit, "types": types, "feature_kind": feature_kind}
    read = samples_of(adata, neighbours, **how, typed=False)
    cells, table, left_out = local_anndata(adata, read, known, settings, statistic, pairs)
    adata.obsm[keys.LOCAL] = storable(cells)
    about = known.provenance() | how | {"statistic": statistic, "graph": asdict(neighbours), "left_out": left_out}
    record_table(adata, keys.ASSOCIATION, table, about)


def clones(adata: AnnData, caller: Callable[[AnnData], Sequence | pd.Series] | None = None) -> None:
    """Write obs["clone_id"], so that scoring gives a potential per clone. Research use only.

    Parameters
    ----------
    caller
        adata -> a clone for every cell, missing where there is none: your own copy-number caller. A Series is read by its index
        of obs_names, anything else in the order of the cells. None: what infercnvpy left in obs["cnv_leiden"] (run its
        `tl.infercnv`, `pp.neighbors` and `tl.leiden` first).

    Raises InputError where there is nothing to read, not one value per cell, or a Series of other names.
    """
    import pandas as pd

    from metaniche.io import keys
    from metaniche.io.wording import listed, refusal

    if caller is None and keys.CNV_CLUSTERS not in adata.obs:
        raise refusal(
            "adata",
            expected=f"obs[{keys.CNV_CLUSTERS!r}] of infercnvpy, or a caller",
            found=f"columns {listed(sorted(map(str, adata.obs.columns)))}",
            fix="Run infercnvpy, or give caller=, a function of adata.",
        )
    found = adata.obs[keys.CNV_CLUSTERS] if caller is None else caller(adata)
    if len(found) != adata.n_obs:
        raise refusal(
            "adata", expected=f"a clone for each of {adata.n_obs} cells", found=f"{len(found)}", fix="See caller=."
        )
    if isinstance(found, pd.Series):
        if not found.index.equals(adata.obs_names):
            if not found.index.is_unique or not adata.obs_names.isin(found.index).all():
                raise refusal(
                    "adata",
                    expected="a Series of clones indexed by obs_names",
                    found=f"an index of {listed(found.index)}",
                    fix="Set its index, or return an array in the order of the cells.",
                )
            found = found.reindex(adata.obs_names)
        found = found.to_numpy(dtype=object, na_value=None)
    adata.obs[keys.CLONE] = pd.Categorical([None if pd.isna(clone) else str(clone) for clone in found])


def _check_null(config: dict, known: tuple[str, ...]) -> None:
    if config.get("null_model", known[0]) not in known:
        raise ConfigError(f"Expected null_model in {known}, found {config['null_model']!r}.")


def _settings(
    resource: Resource | pd.DataFrame | str | Path, config: dict, graph: dict | None
) -> tuple[Resource, SignalConfig, GraphConfig]:
    """What was asked for, checked."""
    from dataclasses import asdict

    import pandas as pd

    from metaniche.graph import GraphConfig
    from metaniche.io.settings import build
    from metaniche.signaling import GRAPH, Resource, SignalConfig, open_resource

    if isinstance(resource, pd.DataFrame):
        resource = Resource(resource, "table")
    pairs = resource if isinstance(resource, Resource) else open_resource(resource)
    return (
        pairs,
        build(SignalConfig, config, "signaling"),
        build(GraphConfig, asdict(GRAPH) | (graph or {}), "graph"),
    )
