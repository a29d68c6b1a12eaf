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
    measured_pairs,
    named,
    of_sample,
    pairs_of,
    say_left_out,
    say_silent,
    within,
)
from metaniche.data.cohort import Cohort, CohortConfig
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
    graph_within,
    signal_problem,
)

if TYPE_CHECKING:
    from anndata import AnnData

MOST_BYTES = 2_000_000_000  # of local scores of all pairs
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

    say = measured_pairs(resource)

    def signals(sample: PreparedSample, progress: Tell | None) -> Communication:
        say(sample)
        return communicate_sample(sample, resource, config, progress=progress, device=device)

    kept, left_out = _of_each(read, signals)
    left_out |= _silent([(source, found.table) for source, found in kept], keys.COMMUNICATION)
    tables = [of_sample(found.table, source) for source, found in kept]
    cells = {
        keys.SENT: _at_cells(adata, [(source.file_order, found.sent) for source, found in kept]),
        keys.RECEIVED: _at_cells(adata, [(source.file_order, found.received) for source, found in kept]),
    }
    of_samples = {source.sample_id: {k: found.provenance[k] for k in OF_SAMPLE} for source, found in kept}
    about = {k: v for k, v in kept[-1][1].provenance.items() if k not in OF_SAMPLE}
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
    """Of an AnnData: its samples, each read and connected when it is asked for, and whether they must have cell types."""

    cohort: Cohort
    graph: GraphConfig
    typed: bool

    @property
    def ids(self) -> list[str]:
        return list(self.cohort.samples.index)

    def read(self, sample_id: str) -> PreparedSample | str:
        """One of them, or in words why it cannot be read."""
        try:
            return prepare_sample(self.cohort, sample_id, self.graph)[0]
        except (InputError, GraphError) as error:
            return str(error)


class Source(NamedTuple):
    """What is kept of a sample beside what was made of it."""

    sample_id: str
    patient_id: str
    file_order: np.ndarray


def _of_each(
    read: Samples, make: Callable[[PreparedSample, Tell | None], Found]
) -> tuple[list[tuple[Source, Found]], dict[str, str]]:
    """What is made of every sample, one at a time and with progress, and the samples that are left out with the reason."""
    kept, left_out, unread, ids = [], {}, {}, read.ids

    def of(number: int, sample_id: str, progress: Tell) -> None:
        sample = read.read(sample_id)
        if isinstance(sample, str):
            unread[sample_id] = sample
            return
        tell = within(progress, number, len(ids), sample_id)
        found = attempt(partial(make, progress=tell), sample, keys.CELL_TYPE if read.typed else None)
        if isinstance(found, str):
            left_out[sample_id] = found
        else:
            kept.append((Source(sample_id, sample.patient_id, sample.file_order), found))

    with Progress() as progress:
        for number, sample_id in enumerate(ids):
            of(number, sample_id, progress)  # a sample is gone when the next one is read
    left_out |= unread  # what all samples share comes first
    say_left_out(left_out, len(ids))
    return kept, left_out


def _silent(kept: Sequence[tuple[Source, pd.DataFrame]], what: str) -> dict[str, str]:
    """Of the samples whose tables are empty, the reason, which is also said."""
    return say_silent([source.sample_id for source, table in kept if table.empty], len(kept), what)


def samples_of(
    adata: AnnData,
    graph: GraphConfig,
    *,
    um_per_unit: float | None,
    types: str,
    feature_kind: str,
    typed: bool = True,
) -> Samples:
    """The samples of an AnnData; `types` is the column of cell types, which must be there if `typed`. Which cells are malignant
    is not asked."""
    if typed:
        require_column(adata.obs, types, "adata")
        if adata.n_obs and adata.obs[types].isna().all():
            raise refusal("adata", expected=f"cell types in obs[{types!r}]", found="none", fix="Name another column.")
    reading = CohortConfig(name="adata", um_per_unit=None, feature_kind=feature_kind, cell_type_key=types)
    cohort = cohort_of_anndata(adata, reading, um_per_unit=um_per_unit, unread=[keys.MALIGNANT])
    return Samples(cohort, graph, typed)


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
    None: all that are measured. Raises InputError for a pair that is not, and before any work for so many that are measured
    that their scores are larger than MOST_BYTES.
    """
    chosen = None if pairs is None else _checked_pairs(pairs)
    if chosen is None:
        _check_size(adata, resource)
    local = names = None

    def scores(sample: PreparedSample, progress: Tell | None) -> pd.DataFrame:
        nonlocal local, names
        with named(sample):
            expression = pairs_of(sample, resource, config)
            if chosen is not None:
                expression = expression.select([expression.position(*pair) for pair in chosen])
            if local is None:  # samples of one AnnData measure the same
                names = expression.names
                local = np.full((adata.n_obs, len(names)), np.nan, np.float32)
            return global_scores(expression, sample.graph, config, statistic, local=local, rows=sample.file_order)

    kept, left_out = _of_each(read, scores)
    silent = np.ones(adata.n_obs, bool)
    for source, _ in kept:
        silent[source.file_order] = False
    local[silent] = np.nan  # what was refused halfway
    tables = [of_sample(table, source) for source, table in kept]
    cells = pd.DataFrame(local, adata.obs_names, names, copy=False)
    return cells, pd.concat(tables, ignore_index=True), left_out


def _check_size(adata: AnnData, resource: Resource) -> None:
    n_pairs = resource.overlap(adata.var_names).n_measured
    needed = adata.n_obs * n_pairs * 4
    if needed > MOST_BYTES:
        raise refusal(
            "adata",
            expected=f"local scores of up to {MOST_BYTES / 1e9:g} GB",
            found=f"{needed / 1e9:.1f} GB ({adata.n_obs} cells and {n_pairs} measured pairs)",
            fix="Name the pairs to look at: pairs=[(ligand, receptor), ...].",
        )


def _checked_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """As a list of different pairs of two names."""
    named = [pairs] if isinstance(pairs, str) else [p if isinstance(p, str) else tuple(p) for p in pairs]
    if not named or any(isinstance(p, str) or len(p) != 2 for p in named):
        raise ConfigError(f"Expected pairs as [(ligand, receptor), ...], found {pairs!r}.")
    return list(dict.fromkeys(named))


def _at_cells(adata: AnnData, parts: Sequence[tuple[np.ndarray, pd.DataFrame]]) -> pd.DataFrame:
    """Tables of samples, each with the rows of the AnnData that it is of, as one float32 table in its order."""
    columns = pd.Index(list(dict.fromkeys(name for _, part in parts for name in part)))
    out = np.full((adata.n_obs, len(columns)), np.nan, np.float32)
    for rows, part in parts:
        out[np.ix_(rows, columns.get_indexer(part.columns))] = part.to_numpy()
    return pd.DataFrame(out, adata.obs_names, columns, copy=False)


def write_into(adata: AnnData, table: pd.DataFrame, cells: dict[str, pd.DataFrame], about: dict) -> None:
    """Write the results of `communicate_anndata` into `adata`, in types that anndata can store."""
    record_table(adata, keys.COMMUNICATION, table, about)
    for key, values in cells.items():
        adata.obsm[key] = storable(values)


def storable(cells: pd.DataFrame) -> pd.DataFrame:
    """A table of cells as anndata can store it: a slash would be a group of the file."""
    names = [str(name).replace("/", "|") for name in cells]
    return pd.DataFrame(cells.to_numpy(np.float32), cells.index, names, copy=False)


def table_of_anndata(adata: AnnData, analysis: Analysis, graph: GraphConfig, about: dict, **reading) -> None:
    """Write an analysis of every sample of `adata`, with `sample_id` and `patient_id` in front, as `record_table`; see
    `samples_of` for `reading`.
    """
    kept, left_out = _of_each(samples_of(adata, graph, **reading), analysis.make)
    left_out |= _silent(kept, analysis.name)
    tables = [of_sample(found, source) for source, found in kept]
    made_from = reading | {"graph": asdict(graph), "left_out": left_out}
    record_table(adata, analysis.name, pd.concat(tables, ignore_index=True), about | made_from)


def record_table(adata: AnnData, name: str, table: pd.DataFrame, about: dict) -> None:
    """Write a table, and as JSON what it was made with, below uns["metaniche"], in types that anndata can store."""
    text = table.select_dtypes(exclude="number").columns
    stored = table.assign(**{c: table[c].astype(object).fillna("").astype(str) for c in text})
    record = own_record(adata, where="adata")
    adata.uns[keys.UNS] = {
        **record,
        keys.parameters_of(name): json.dumps(about, default=str),
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
    about = json.loads(record.get(keys.parameters_of(keys.COMMUNICATION), "{}"))
    if signaling_type is None:
        kinds = about.get("signaling_types", {}).items()
        signaling_type = next((kind for kind, names in kinds if f"{ligand} - {receptor}" in names), "unknown")
    graph = GraphConfig(**about["graph"]) if "graph" in about else GRAPH
    if reach_um is not None:
        graph = graph_within(reach_um)
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
    (sample_id,) = read.ids
    sample = read.read(sample_id)
    if isinstance(sample, str):
        raise InputError(sample)
    pair = Resource(pd.DataFrame({"ligand": [ligand], "receptor": [receptor]}), f"{ligand} - {receptor}")
    expression = pairs_of(sample, pair, config)
    weight = config.edge_weights(signaling_type, sample.graph)
    carrying = sample.graph.keep(weight > 0)
    problem = signal_problem(expression, carrying, weight[weight > 0], config)
    return PairInTissue(sample, expression, carrying, problem, config)
