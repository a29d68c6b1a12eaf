"""Prepared samples and a resource -> their signals; AnnData in, AnnData out; or a cohort in, one table out."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from metaniche.data.cohort import CohortConfig
from metaniche.data.prepare import PreparedCohort, prepare_anndata
from metaniche.data.sample import PreparedSample
from metaniche.errors import InputError
from metaniche.graph import GraphConfig
from metaniche.io import keys
from metaniche.io.guards import require_column
from metaniche.io.matrices import log_normalised
from metaniche.io.progress import Tell
from metaniche.io.record import own_record
from metaniche.io.wording import listed, nearest
from metaniche.io.write import write_parquet
from metaniche.signaling import Communication, Resource, SignalConfig, communicate, estimate_memory

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger(__name__)

LAYOUT = 1  # of the tables that are kept; raise it when the same config gives others
DEFAULT = SignalConfig()
OF_SAMPLE = ("n_cells", "n_untyped", "n_tested")  # of what a result was made with
LARGE_BYTES = 1_000_000_000


def communicate_sample(
    sample: PreparedSample,
    resource: Resource,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
) -> Communication:
    """Signals of one prepared sample; counts are log-normalised first. `types` is the column of its cell table to use.

    Raises InputError where that column is missing, and as `signaling.communicate`, with the sample's name in front.
    """
    require_column(sample.cells, types, f"Sample {sample.sample_id}", "types")
    cell_types = pd.Categorical(sample.cells[types])
    x = log_normalised(sample.x) if sample.feature_kind == "counts" else sample.x
    n_stored = x.nnz if hasattr(x, "nnz") else x.size
    needed = estimate_memory(
        sample.n_cells, sample.graph.n_edges, n_stored, len(cell_types.categories), len(resource.pairs)
    )
    level = logging.WARNING if needed > LARGE_BYTES else logging.DEBUG
    log.log(level, "Sample %s takes up to %.1f GB of memory", sample.sample_id, needed / 1e9)
    try:
        return communicate(x, sample.features, cell_types, sample.graph, resource, config, progress)
    except InputError as error:
        raise InputError(f"Sample {sample.sample_id}: {error}") from error


def communicate_anndata(
    adata: AnnData,
    resource: Resource,
    config: SignalConfig,
    graph: GraphConfig,
    *,
    um_per_unit: float | None = None,
    types: str = keys.CELL_TYPE,
    feature_kind: str = "counts",
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict]:
    """Signals of the samples of an AnnData: their table with `sample_id` in front, per-cell tables in its row order, and
    what they were made with. Cells that are dropped on reading have NaN. See `tl.communicate`.
    """
    require_column(adata.obs, types, "adata")
    reading = CohortConfig(name="adata", um_per_unit=None, feature_kind=feature_kind, cell_type_key=types)
    samples = prepare_anndata(adata, reading, graph, um_per_unit=um_per_unit)
    tables, of_samples, about = [], {}, {}
    per_cell: dict[str, list[pd.DataFrame]] = {keys.SENT: [], keys.RECEIVED: []}
    for sample in samples:
        found = communicate_sample(sample, resource, config)
        tables.append(found.table.assign(**{keys.SAMPLE: sample.sample_id}))
        for key, signal in ((keys.SENT, found.sent), (keys.RECEIVED, found.received)):
            per_cell[key].append(signal.set_axis(sample.file_order, axis=0))
        about = {k: v for k, v in found.provenance.items() if k not in OF_SAMPLE}
        of_samples[sample.sample_id] = {k: found.provenance[k] for k in OF_SAMPLE}
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, keys.SAMPLE, table.pop(keys.SAMPLE))
    rows = pd.RangeIndex(adata.n_obs)
    cells = {key: pd.concat(parts).reindex(rows).set_axis(adata.obs_names, axis=0) for key, parts in per_cell.items()}
    return table, cells, {**about, "graph": asdict(graph), "samples": of_samples}


def annotated(adata: AnnData, table: pd.DataFrame, cells: dict[str, pd.DataFrame], about: dict) -> None:
    """Write the results of `communicate_anndata` into `adata`, in types that anndata can store."""
    text = table.select_dtypes(exclude="number").columns
    stored = table.assign(**{c: table[c].astype(object).fillna("").astype(str) for c in text})
    record = own_record(adata, where="adata")
    adata.uns[keys.UNS] = {
        **record,
        keys.COMMUNICATION: stored.set_axis(stored.index.astype(str), axis=0),
        f"{keys.COMMUNICATION}_parameters": json.dumps(about, default=str),
    }
    for key, values in cells.items():
        # A slash would be a group of the file.
        adata.obsm[key] = values.rename(columns=lambda name: str(name).replace("/", "|")).astype(np.float32)


def communicate_cohort(
    cohort: PreparedCohort,
    resource: Resource,
    config: SignalConfig,
    run_dir: Path,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Signals of every sample of a cohort, one at a time: the table with sample_id and patient_id in front, and the
    samples that were left out with the reason.

    Each sample's table is kept below `run_dir/samples` and is not made again under the same configuration.
    """
    key = _key(cohort, resource, config, types)
    tables, left_out = [], {}
    for number, sample_id in enumerate(cohort.samples.index):
        if progress is not None:
            progress(number, len(cohort.samples), sample_id)
        path = Path(run_dir) / "samples" / key / f"{sample_id}.parquet"
        if not path.exists():
            sample = cohort.load(sample_id)
            if types not in sample.cells or sample.cells[types].isna().all():
                left_out[sample_id] = f"no cell has a {types}"
                continue
            found = communicate_sample(sample, resource, config, types).table
            ids = {keys.SAMPLE: sample_id, keys.PATIENT: sample.patient_id}
            write_parquet(pd.DataFrame(ids, index=found.index).join(found), path)
        tables.append(pd.read_parquet(path))
    if progress is not None:
        progress(len(cohort.samples), len(cohort.samples), "done")
    if not tables:
        columns = cohort.load(cohort.samples.index[0]).cells.columns
        raise InputError(
            f"Cohort {cohort.name}: expected samples whose cells have a {types}, found none. {nearest(types, columns)}"
            f"Columns of the first sample: {listed(columns)}."
        )
    return pd.concat(tables, ignore_index=True), left_out


def _key(cohort: PreparedCohort, resource: Resource, config: SignalConfig, types: str) -> str:
    """Names what the signals of a sample depend on."""
    content = json.dumps(
        [LAYOUT, cohort.folder.name, resource.sha256, asdict(config), types], default=str, sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]
