"""The scverse face of the figures: AnnData or tables in, a matplotlib Figure out, which a notebook shows as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.coordinates import resolve_um_per_unit
from metaniche.io.wording import listed
from metaniche.metrics.names import METRICS, Metric
from metaniche.report import figures
from metaniche.report.vocabulary import metrics_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from metaniche.communicate_anndata import PairInTissue

__all__ = [
    "communication_chord",
    "communication_dotplot",
    "communication_heatmap",
    "comparison",
    "kaplan_meier",
    "length_scale",
    "metastatic_potential",
    "roc",
    "signal_directions",
    "signal_edges",
    "signals_of_patients",
]


def __dir__() -> list[str]:
    return __all__


RINGS_UM = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0)


def metastatic_potential(
    adata: AnnData,
    sample: str | Sequence[str] | None = None,
    value: str = keys.POTENTIAL,
    um_per_unit: float | None = None,
) -> Figure:
    """Map of the metastatic potential that `metaniche.tl.metastatic_potential` wrote.

    Parameters
    ----------
    adata
        With obs[value] and obsm["spatial"]; obs["sample_id"], obs["cell_type"] and obs["is_malignant"] where given.
    sample
        One sample or several; None: the first four.
    value
        Any numeric obs column, e.g. "metaniche_attention".
    um_per_unit
        Micrometres per unit of obsm["spatial"]; None: uns["metaniche"]["um_per_unit"], which scoring writes.

    Attention is drawn relative to the mean of its sample: 1 is an equal share.

    Raises InputError when the values, the coordinates, their unit or the sample are not there.
    """
    if value not in adata.obs or keys.SPATIAL not in adata.obsm:
        raise InputError(
            f"Expected obs[{value!r}] and obsm[{keys.SPATIAL!r}], found {list(adata.obs)} and {list(adata.obsm)}. "
            "Run metaniche.tl.metastatic_potential(adata, model=...) first."
        )
    scale = resolve_um_per_unit(adata, um_per_unit, where="adata", remedy="Give um_per_unit=")
    columns = [c for c in (keys.SAMPLE, keys.CELL_TYPE, keys.MALIGNANT, value) if c in adata.obs]
    cells = adata.obs[columns].copy()
    cells["x_um"], cells["y_um"] = (np.asarray(adata.obsm[keys.SPATIAL])[:, :2] * scale).T
    if keys.SAMPLE not in cells:
        cells[keys.SAMPLE] = "sample"
    if value == keys.ATTENTION:
        cells[value] = cells[value] / cells.groupby(keys.SAMPLE, observed=True)[value].transform("mean")
    cells[keys.SAMPLE] = cells[keys.SAMPLE].astype(str)
    wanted = _known(sample, cells[keys.SAMPLE], f"obs[{keys.SAMPLE!r}]")
    return figures.spatial_map(cells, wanted, value=value)


def roc(predictions: pd.DataFrame, highlight: Sequence[str] | None = None) -> Figure:
    """ROC of held-out predictions: columns model, y, risk and optional repeat. See `report.figures.roc`."""
    _require(predictions, ("model", "y", "risk"))
    return figures.roc(predictions, highlight)


def kaplan_meier(predictions: pd.DataFrame, model: str | None = None, time_label: str = "Time") -> Figure:
    """Kaplan-Meier curves by held-out risk: columns model, patient_id, risk, time, event and optional repeat and score.

    `model` None: the first one. Groups as in `report.figures.risk_groups`.
    """
    _require(predictions, ("model", keys.PATIENT, "risk", "time", "event"))
    model = predictions["model"].iloc[0] if model is None and len(predictions) else model
    groups = figures.risk_groups(predictions, model)
    return figures.kaplan_meier(groups, time_label, f"Event-free, by held-out risk of {model}")


def comparison(table: pd.DataFrame, metric: str | None = None) -> Figure:
    """Forest plot of a comparison table (evaluation.comparison_table); `metric` None: its primary one."""
    table = table if "model" in table else table.rename_axis("model").reset_index()
    found = {m.column: m for m in metrics_of(table)}
    name = metric or next(iter(found), "auroc")
    shown = found.get(name) or METRICS.get(name) or Metric(name, name)
    return figures.forest(table, name, shown.label, shown.chance, ascending=shown.better == "lower")


def communication_heatmap(
    data: AnnData | pd.DataFrame,
    sample: str | Sequence[str] | None = None,
    value: str = "n_significant",
    alpha: float = 0.05,
) -> Figure:
    """How many pairs signal from each cell type to each other one. See `report.figures.sender_receiver_heatmap`.

    Parameters
    ----------
    data
        What `metaniche.tl.communicate` has written into, or a table of signals as it makes them.
    sample
        One sample or several; None: all. Several are averaged, within their patient first where patient_id is there.
    value
        n_significant: pairs with q < alpha; z: the mean z.

    Raises InputError when there is no table, no signal was tested, or a column or the sample is not there.
    """
    needed = ("z",) if value == "z" else ()
    return figures.sender_receiver_heatmap(_signals(data, sample, needed), value, alpha)


def communication_dotplot(
    data: AnnData | pd.DataFrame,
    sample: str | Sequence[str] | None = None,
    n_pairs: int = 20,
    color: str = "z",
    alpha: float = 0.05,
) -> Figure:
    """The pairs with the smallest q, by sender and receiver. See `report.figures.pair_dotplot`.

    `data`, `sample` and errors as in `communication_heatmap`; `color` z or enrichment.
    """
    needed = ("ligand", "receptor", "z") if color == "z" else ("ligand", "receptor")
    return figures.pair_dotplot(_signals(data, sample, needed), n_pairs, color, alpha)


def communication_chord(
    data: AnnData | pd.DataFrame, sample: str | Sequence[str] | None = None, alpha: float = 0.05
) -> Figure:
    """Who signals to whom, as ribbons between cell types. See `report.figures.chord`.

    `data`, `sample` and errors as in `communication_heatmap`.
    """
    return figures.chord(_signals(data, sample, ()), alpha)


def signals_of_patients(table: pd.DataFrame, n_signals: int = 20, alpha: float = 0.05) -> Figure:
    """Signals over patients with their intervals, smallest p first. See `report.figures.signals_of_patients`.

    `table` as `signaling.consistent_signals` or `signaling.differential_communication` makes it, or as metaniche-communicate
    writes it: patients.parquet, differential.parquet. Raises InputError when a column is not there.
    """
    value = "difference" if "difference" in table else "enrichment"
    _require(table, ("sender", "receiver", "ligand", "receptor", value, "low", "high", "q"), "signals of patients")
    return figures.signals_of_patients(table, n_signals, alpha)


def signal_edges(
    adata: AnnData,
    ligand: str,
    receptor: str,
    sample: str | None = None,
    n_edges: int = 1000,
    *,
    types: str | None = None,
    feature_kind: str | None = None,
    um_per_unit: float | None = None,
    signaling_type: str | None = None,
) -> Figure:
    """The cells between which one pair signals most, as arrows over the tissue. See `report.figures.edge_map`.

    Parameters
    ----------
    adata
        As for `metaniche.tl.communicate`. Where that has run, its graph, score and decays are used; else the defaults.
    ligand, receptor
        Names as in the table of signals; subunits of a complex are joined by "_".
    sample
        Which sample; None: the only one.
    n_edges
        How many edges at most, the strongest ones.
    types, feature_kind, um_per_unit
        As given to `metaniche.tl.communicate`; None: what it wrote down, else "cell_type" and "counts".
    signaling_type
        Chooses the decay; None: what the table of signals says of the pair, else "unknown".

    Raises InputError when the pair is not measured, the sample is not there or not named among several, or the cells
    cannot be read.
    """
    from metaniche.signaling import strongest_edges

    how = {"types": types, "feature_kind": feature_kind, "um_per_unit": um_per_unit, "signaling_type": signaling_type}
    shown = _pair_in_tissue(adata, ligand, receptor, sample, **how)
    found = strongest_edges(shown.problem, 0, max(shown.problem.indices.numel(), 1))
    cell_types = shown.sample.cell_types
    return figures.edge_map(
        shown.sample.graph.pos_um[:, :2].numpy(),
        np.stack((found.sender.numpy(), found.receiver.numpy())),
        found.signal.numpy(),
        None if cell_types is None else cell_types.astype(object),
        n_edges,
        _named(ligand, receptor),
    )


def signal_directions(
    adata: AnnData,
    ligand: str,
    receptor: str,
    sample: str | None = None,
    bins: int = 20,
    *,
    types: str | None = None,
    feature_kind: str | None = None,
    um_per_unit: float | None = None,
    signaling_type: str | None = None,
) -> Figure:
    """Where the signals of one pair go: the mean of what cells send, as a vector, in squares over the tissue.

    A cell's vector is the sum of its unit vectors to receivers, weighted by their signals (see
    `metaniche.signaling.sent_direction`); cells that send nothing count as 0. See `report.figures.vector_field`.
    Parameters and errors as in `signal_edges`; `bins` squares along the longer side.
    """
    from metaniche.signaling import sent_direction

    how = {"types": types, "feature_kind": feature_kind, "um_per_unit": um_per_unit, "signaling_type": signaling_type}
    shown = _pair_in_tissue(adata, ligand, receptor, sample, **how)
    direction = sent_direction(shown.problem, shown.carrying)[:, 0, :2]
    return figures.vector_field(
        shown.carrying.pos_um[:, :2].numpy(), direction.numpy(), bins=bins, of=_named(ligand, receptor)
    )


def length_scale(
    adata: AnnData,
    ligand: str,
    receptor: str,
    sender: str,
    receiver: str,
    sample: str | None = None,
    edges_um: Sequence[float] = RINGS_UM,
    *,
    types: str | None = None,
    feature_kind: str | None = None,
    um_per_unit: float | None = None,
) -> Figure:
    """How far a pair acts between two cell types: its signal over its null of positions, by distance.

    The signal is scored as `metaniche.tl.communicate` did, mass_action as a product. The legend gives the length of an
    exponential decay with its 95 % interval, where the profile has one (see `metaniche.signaling.length_scale`). Parameters
    and errors as in `signal_edges`; `sender` and `receiver` are types, `edges_um` ascending bounds of the rings, up to which
    neighbours are searched.
    """
    from metaniche.signaling import length_profile
    from metaniche.signaling import length_scale as fitted
    from metaniche.signaling.by_type import type_codes

    reach = float(max(edges_um, default=0.0))
    how = {"types": types, "feature_kind": feature_kind, "um_per_unit": um_per_unit, "reach_um": reach}
    shown = _pair_in_tissue(adata, ligand, receptor, sample, signaling_type="unknown", **how)
    cell_types = shown.sample.cell_types
    found = type_codes(pd.Categorical([]) if cell_types is None else cell_types)
    absent = [t for t in (sender, receiver) if t not in found.names]
    if absent:
        raise InputError(
            f"Expected cell types among {listed(found.names)}, found {listed(absent)}. Name types of the cells."
        )
    ends = found.names.index(sender), found.names.index(receiver)
    config = replace(shown.config, score="product") if shown.config.score == "mass_action" else shown.config
    profile = length_profile(
        shown.expression, shown.sample.graph, found.code_N, found.n, *ends, tuple(edges_um), config
    )
    scale = fitted(profile)
    text = "no decay" if np.isnan(scale.length_um) else "{:.0f} µm ({:.0f} to {:.0f})".format(*scale)
    return figures.length_scale(profile.assign(pair=f"{text}: {sender} to {receiver}"))


def _pair_in_tissue(adata: AnnData, ligand: str, receptor: str, sample: str | None, **how) -> PairInTissue:
    from metaniche.communicate_anndata import pair_in_tissue

    return pair_in_tissue(_one_sample(adata, sample), ligand, receptor, **how)


def _one_sample(adata: AnnData, sample: str | None) -> AnnData:
    if keys.SAMPLE not in adata.obs:
        return adata
    ids = adata.obs[keys.SAMPLE].astype(str)
    where = f"obs[{keys.SAMPLE!r}]"
    if sample is None and ids.nunique() > 1:
        raise InputError(
            f"Expected one sample to draw, found {ids.nunique()} in {where}. Name one: sample={ids.iloc[0]!r}."
        )
    wanted = _known(sample, ids, where)
    return adata if wanted is None else adata[ids.isin(wanted).to_numpy()]


def _named(ligand: str, receptor: str) -> str:
    return f"{ligand} – {receptor}"


def _signals(
    data: AnnData | pd.DataFrame, sample: str | Sequence[str] | None, columns: tuple[str, ...]
) -> pd.DataFrame:
    """The table of signals, of the samples asked for."""
    table = data
    if not isinstance(data, pd.DataFrame):
        record = data.uns.get(keys.UNS, {})
        if keys.COMMUNICATION not in record:
            raise InputError(
                f"Expected uns[{keys.UNS!r}][{keys.COMMUNICATION!r}], found {listed(record)} in uns[{keys.UNS!r}]. "
                "Run metaniche.tl.communicate(adata) first."
            )
        table = record[keys.COMMUNICATION]
    _require(table, ("sender", "receiver", "q", *columns), "table of signals")
    if sample is not None:
        _require(table, (keys.SAMPLE,), "table of signals")
        wanted = _known(sample, table[keys.SAMPLE], f"the table's {keys.SAMPLE}")
        table = table[table[keys.SAMPLE].astype(str).isin(wanted)]
    if not table["q"].notna().any():
        raise InputError(
            f"Expected tested signals (with q) in the table, found none in {len(table)} rows. Signals are tested with "
            "any null_model but 'none', where cells of two types stand within reach of each other."
        )
    return table


def _known(sample: str | Sequence[str] | None, ids: pd.Series, where: str) -> list[str] | None:
    """The samples asked for, all of which must be there; None: no wish."""
    if sample is None:
        return None
    wanted = [str(s) for s in ([sample] if isinstance(sample, str) or np.isscalar(sample) else sample)]
    known = ids.astype(str).unique()
    absent = [s for s in wanted if s not in known]
    if absent:
        raise InputError(f"Expected sample(s) among {list(known)}, found {absent}. Name samples of {where}.")
    return wanted


def _require(frame: pd.DataFrame, columns: tuple[str, ...], where: str = "predictions") -> None:
    absent = [c for c in columns if c not in frame]
    if absent:
        raise InputError(f"Expected columns {list(columns)} in the {where}, found {list(frame.columns)}: no {absent}.")
