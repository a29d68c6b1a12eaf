"""AnnData in, the same AnnData with signals out; and one pair in one sample, to draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from metaniche.communicate import (
    Analysis,
    Found,
    attempt,
    communicate_sample,
    named,
    of_sample,
    pairs_of,
    say_left_out,
    within,
)
from metaniche.data.cohort import CohortConfig
from metaniche.data.prepare import cohort_of_anndata, prepare_sample
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, GraphError, InputError
from metaniche.graph import CellGraph, GraphConfig
from metaniche.io import keys
from metaniche.io.guards import require_column
from metaniche.io.progress import Progress, Tell
from metaniche.io.record import own_record
from metaniche.io.wording import refusal
from metaniche.ops import LigandReceptor
from metaniche.ops.backend import device_of
from metaniche.signaling import (
    GRAPH,
    Communication,
    PairExpression,
    Resource,
    SignalConfig,
    global_scores,
    local_scores,
    signal_problem,
)

if TYPE_CHECKING:
    from anndata import AnnData

OF_SAMPLE = ("n_cells", "n_untyped", "n_tested")  # of what a result was made with


def communicate_anndata(
    adata: AnnData,
    resource: Resource,
    config: SignalConfig,
    graph: GraphConfig,
    *,
    um_per_unit: float | None = None,
    types: str = keys.CELL_TYPE,
    feature_kind: str = "counts",
    device: torch.device | str = "auto",
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict]:
    """Signals of the samples of an AnnData: their table with `sample_id` and `patient_id` in front, per-cell tables in its row
    order, and what they were made with. Cells that are dropped on reading, and those of a sample that is left out, have NaN.
    See `tl.communicate`.
    """
    device = device_of(device)
    read = samples_of(adata, graph, um_per_unit=um_per_unit, types=types, feature_kind=feature_kind)

    def signals(sample: PreparedSample, progress: Tell | None) -> Communication:
        return communicate_sample(sample, resource, config, progress=progress, device=device)

    kept, left_out = _of_each(read, signals)
    tables, of_samples, about = [], {}, {}
    per_cell: dict[str, list[pd.DataFrame]] = {keys.SENT: [], keys.RECEIVED: []}
    for sample, found in kept:
        tables.append(of_sample(found.table, sample))
        for key, signal in ((keys.SENT, found.sent), (keys.RECEIVED, found.received)):
            per_cell[key].append(signal.set_axis(sample.file_order, axis=0))
        about = {k: v for k, v in found.provenance.items() if k not in OF_SAMPLE}
        of_samples[sample.sample_id] = {k: found.provenance[k] for k in OF_SAMPLE}
    cells = {key: _at_cells(adata, parts) for key, parts in per_cell.items()}
    made_from = {
        "types": types,
        "feature_kind": feature_kind,
        "graph": asdict(graph),
        keys.UM_PER_UNIT: um_per_unit,
        "device": str(device),
    }
    return (
        pd.concat(tables, ignore_index=True),
        cells,
        {**about, **made_from, "samples": of_samples, "left_out": left_out},
    )


class Samples(NamedTuple):
    """Of an AnnData: the samples that could be read, the others with the reason, and whether they must have cell types."""

    prepared: list[PreparedSample]
    left_out: dict[str, str]
    typed: bool


def _of_each(
    read: Samples, make: Callable[[PreparedSample, Tell | None], Found]
) -> tuple[list[tuple[PreparedSample, Found]], dict[str, str]]:
    """What is made of every sample, with progress, and the samples that are left out with the reason."""
    kept, left_out, total = [], {}, len(read.prepared)
    with Progress() as progress:
        for number, sample in enumerate(read.prepared):
            tell = within(progress, number, total, sample.sample_id)
            found = attempt(partial(make, progress=tell), sample, keys.CELL_TYPE if read.typed else None)
            if isinstance(found, str):
                left_out[sample.sample_id] = found
            else:
                kept.append((sample, found))
    left_out |= read.left_out  # what all samples share comes first
    say_left_out(left_out, total + len(read.left_out))
    return kept, left_out


def samples_of(
    adata: AnnData,
    graph: GraphConfig,
    *,
    um_per_unit: float | None,
    types: str,
    feature_kind: str,
    typed: bool = True,
) -> Samples:
    """The samples of an AnnData with their graphs; `types` is the column of cell types, which must be there if `typed`. Which
    cells are malignant is not asked."""
    if typed:
        require_column(adata.obs, types, "adata")
        if adata.n_obs and adata.obs[types].isna().all():
            raise refusal("adata", expected=f"cell types in obs[{types!r}]", found="none", fix="Name another column.")
    reading = CohortConfig(name="adata", um_per_unit=None, feature_kind=feature_kind, cell_type_key=types)
    cohort = cohort_of_anndata(adata, reading, um_per_unit=um_per_unit, unread=[keys.MALIGNANT])
    prepared, left_out = [], {}
    for sample_id in cohort.samples.index:
        try:
            prepared.append(prepare_sample(cohort, sample_id, graph)[0])
        except (InputError, GraphError) as error:
            left_out[sample_id] = str(error)
    return Samples(prepared, left_out, typed)


def local_anndata(
    adata: AnnData,
    read: Samples,
    resource: Resource,
    config: SignalConfig,
    statistic: str,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """`signaling.local_association` in the cells of an AnnData, a column "ligand - receptor" per pair, NaN where a cell was
    dropped on reading; `signaling.global_scores` of its samples; and the samples that are left out with the reason. `pairs`
    None: all that are measured. Raises InputError for a pair that is not.
    """
    chosen = None if pairs is None else _checked_pairs(pairs)

    def scores(sample: PreparedSample, progress: Tell | None) -> tuple[pd.DataFrame, pd.DataFrame]:
        with named(sample):
            expression = pairs_of(sample, resource, config)
            if chosen is not None:
                expression = expression.select([expression.position(*pair) for pair in chosen])
            where = local_scores(expression, sample.graph, config, statistic)
            return where, global_scores(expression, sample.graph, config, statistic)

    kept, left_out = _of_each(read, scores)
    parts = [where.set_axis(sample.file_order, axis=0) for sample, (where, _) in kept]
    tables = [of_sample(table, sample) for sample, (_, table) in kept]
    return _at_cells(adata, parts), pd.concat(tables, ignore_index=True), left_out


def _checked_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """As a list of different pairs of two names."""
    named = [pairs] if isinstance(pairs, str) else [p if isinstance(p, str) else tuple(p) for p in pairs]
    if not named or any(isinstance(p, str) or len(p) != 2 for p in named):
        raise ConfigError(f"Expected pairs as [(ligand, receptor), ...], found {pairs!r}.")
    return list(dict.fromkeys(named))


def _at_cells(adata: AnnData, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of samples whose index is the row in the AnnData, as one table in its order."""
    return pd.concat(parts).reindex(pd.RangeIndex(adata.n_obs)).set_axis(adata.obs_names, axis=0)


def annotated(adata: AnnData, table: pd.DataFrame, cells: dict[str, pd.DataFrame], about: dict) -> None:
    """Write the results of `communicate_anndata` into `adata`, in types that anndata can store."""
    record_table(adata, keys.COMMUNICATION, table, about)
    for key, values in cells.items():
        adata.obsm[key] = storable(values)


def storable(cells: pd.DataFrame) -> pd.DataFrame:
    """A table of cells as anndata can store it: a slash would be a group of the file."""
    return cells.rename(columns=lambda name: str(name).replace("/", "|")).astype(np.float32)


def table_of_anndata(adata: AnnData, analysis: Analysis, graph: GraphConfig, about: dict, **reading) -> None:
    """Write an analysis of every sample of `adata`, with `sample_id` and `patient_id` in front, as `record_table`; see
    `samples_of` for `reading`.
    """
    kept, left_out = _of_each(samples_of(adata, graph, **reading), analysis.make)
    tables = [of_sample(found, sample) for sample, found in kept]
    made_from = reading | {"graph": asdict(graph), "left_out": left_out}
    record_table(adata, analysis.name, pd.concat(tables, ignore_index=True), about | made_from)


def record_table(adata: AnnData, name: str, table: pd.DataFrame, about: dict) -> None:
    """Write a table, and as JSON what it was made with, below uns["metaniche"], in types that anndata can store."""
    text = table.select_dtypes(exclude="number").columns
    stored = table.assign(**{c: table[c].astype(object).fillna("").astype(str) for c in text})
    record = own_record(adata, where="adata")
    adata.uns[keys.UNS] = {
        **record,
        f"{name}_parameters": json.dumps(about, default=str),
        name: stored.set_axis(stored.index.astype(str), axis=0),
    }


class PairInTissue(NamedTuple):
    """One pair in one sample: its cells, expression, and the edges that carry it; and how it is scored."""

    sample: PreparedSample
    expression: PairExpression
    carrying: CellGraph
    problem: LigandReceptor
    config: SignalConfig


def pair_in_tissue(
    adata: AnnData,
    ligand: str,
    receptor: str,
    *,
    types: str | None = None,
    feature_kind: str | None = None,
    um_per_unit: float | None = None,
    signaling_type: str | None = None,
    reach_um: float | None = None,
) -> PairInTissue:
    """One pair in an AnnData of one sample as `communicate_anndata` saw it, where that has been recorded; else by default.

    `signaling_type` None: what the recorded resource says of the pair, else "unknown". `reach_um` asks for all edges up to
    there instead of the graph.
    """
    record = adata.uns.get(keys.UNS, {})
    about = json.loads(record.get(f"{keys.COMMUNICATION}_parameters", "{}"))
    if signaling_type is None:
        kinds = about.get("signaling_types", {}).items()
        signaling_type = next((kind for kind, names in kinds if f"{ligand} - {receptor}" in names), "unknown")
    graph = GraphConfig(**about["graph"]) if "graph" in about else GRAPH
    if reach_um is not None:
        graph = GraphConfig(contact_um=min(20.0, reach_um / 2), radius_um=reach_um, max_paracrine=None)
    rules = {kind: text.split() for kind, text in about.get("decays", {}).items()}
    config = SignalConfig(
        **{key: about[key] for key in ("score", "complexes", "half_saturation") if about.get(key) is not None},
        null_model="none",
        decays={kind: {"kind": words[0], "length_um": float(words[1])} for kind, words in rules.items()},
    )
    read = samples_of(
        adata,
        graph,
        um_per_unit=about.get(keys.UM_PER_UNIT) if um_per_unit is None else um_per_unit,
        types=types or about.get("types", keys.CELL_TYPE),
        feature_kind=feature_kind or about.get("feature_kind", "counts"),
        typed=False,
    )
    if read.left_out:
        raise InputError(next(iter(read.left_out.values())))
    (sample,) = read.prepared
    pair = Resource(pd.DataFrame({"ligand": [ligand], "receptor": [receptor]}), f"{ligand} - {receptor}")
    expression = pairs_of(sample, pair, config)
    weight = config.decay(signaling_type).weights(sample.graph.distance_um)
    carrying = sample.graph.keep(weight > 0)
    problem = signal_problem(expression, carrying, weight[weight > 0], config)
    return PairInTissue(sample, expression, carrying, problem, config)
