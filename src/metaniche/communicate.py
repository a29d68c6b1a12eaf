"""Prepared samples and a resource -> their signals; of a cohort, one table and what is kept of every sample."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from metaniche.data.prepare import PreparedCohort
from metaniche.data.sample import PreparedSample
from metaniche.errors import GraphError, InputError
from metaniche.io import keys
from metaniche.io.guards import require_column
from metaniche.io.matrices import log_normalised
from metaniche.io.progress import Tell
from metaniche.io.wording import listed, nearest
from metaniche.io.write import write_parquet
from metaniche.signaling import (
    Communication,
    Resource,
    SignalConfig,
    communicate,
    competing_signals,
    estimate_memory,
    pair_expression,
    relays,
)

log = logging.getLogger(__name__)

LAYOUT = 2  # of the tables that are kept; raise it when the same config gives others
DEFAULT = SignalConfig()
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
    x, cell_types = expression_of(sample), _types(sample, types)
    n_stored = x.nnz if hasattr(x, "nnz") else x.size
    needed = estimate_memory(
        sample.n_cells, sample.graph.n_edges, n_stored, len(cell_types.categories), len(resource.pairs)
    )
    level = logging.WARNING if needed > LARGE_BYTES else logging.DEBUG
    log.log(level, "Sample %s takes up to %.1f GB of memory", sample.sample_id, needed / 1e9)
    with named(sample):
        return communicate(x, sample.features, cell_types, sample.graph, resource, config, progress)


def compete_sample(
    sample: PreparedSample,
    resource: Resource,
    reach_um: float,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
) -> pd.DataFrame:
    """`signaling.competing_signals` of one prepared sample: what its pairs move when they share what cells make."""
    cell_types = _types(sample, types)
    with named(sample):
        expression = pair_expression(expression_of(sample), sample.features, resource, config.complexes)
        return competing_signals(expression, cell_types, sample.graph, reach_um)


def relay_sample(
    sample: PreparedSample,
    resource: Resource,
    targets: pd.DataFrame,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
) -> pd.DataFrame:
    """`signaling.relays` of one prepared sample: which of its cells answer one signal with another."""
    cell_types = _types(sample, types)
    with named(sample):
        expression = pair_expression(expression_of(sample), sample.features, resource, config.complexes)
        return relays(expression, cell_types, sample.graph, targets, config)


def expression_of(sample: PreparedSample) -> np.ndarray | sparse.csr_array:
    return log_normalised(sample.x) if sample.feature_kind == "counts" else sample.x


def _types(sample: PreparedSample, column: str) -> pd.Categorical:
    require_column(sample.cells, column, f"Sample {sample.sample_id}", "types")
    return pd.Categorical(sample.cells[column])


@contextmanager
def named(sample: PreparedSample) -> Iterator[None]:
    """Errors of what is in the sample say which one it is."""
    try:
        yield
    except (InputError, GraphError) as error:
        raise type(error)(f"Sample {sample.sample_id}: {error}") from error


def communicate_cohort(
    cohort: PreparedCohort,
    resource: Resource,
    config: SignalConfig,
    run_dir: Path,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Signals of every sample of a cohort (`communicate_sample`) and the samples left out, as `table_of_cohort` gives them."""

    def signals(sample: PreparedSample) -> pd.DataFrame:
        return communicate_sample(sample, resource, config, types).table

    return table_of_cohort(cohort, signals, ["signals", resource.sha256, asdict(config)], run_dir, types, progress)


def compete_cohort(
    cohort: PreparedCohort,
    resource: Resource,
    reach_um: float,
    config: SignalConfig,
    run_dir: Path,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The same of `compete_sample`."""

    def flows(sample: PreparedSample) -> pd.DataFrame:
        return compete_sample(sample, resource, reach_um, config, types)

    made_with = ["competition", resource.sha256, reach_um, config.complexes]
    return table_of_cohort(cohort, flows, made_with, run_dir, types, progress)


def relay_cohort(
    cohort: PreparedCohort,
    resource: Resource,
    targets: pd.DataFrame,
    config: SignalConfig,
    run_dir: Path,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The same of `relay_sample`."""

    def chains(sample: PreparedSample) -> pd.DataFrame:
        return relay_sample(sample, resource, targets, config, types)

    made_with = ["relays", resource.sha256, targets.to_csv(index=False), asdict(config)]
    return table_of_cohort(cohort, chains, made_with, run_dir, types, progress)


def table_of_cohort(
    cohort: PreparedCohort,
    make: Callable[[PreparedSample], pd.DataFrame],
    made_with: list,
    run_dir: Path,
    types: str,
    progress: Tell | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """What `make` finds in every sample of a cohort, one at a time: the table with sample_id and patient_id in front, and
    the samples that were left out, since their cells have no type or `make` refused them, with the reason.

    Each sample's table is kept below `run_dir/samples` and is not made again from the same cohort `made_with` the same.
    """
    content = json.dumps([LAYOUT, cohort.folder.name, made_with, types], default=str, sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
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
            try:
                found = make(sample)
            except (InputError, GraphError) as error:
                left_out[sample_id] = str(error)
                continue
            ids = {keys.SAMPLE: sample_id, keys.PATIENT: sample.patient_id}
            write_parquet(pd.DataFrame(ids, index=found.index).join(found), path)
        tables.append(pd.read_parquet(path))
    if progress is not None:
        progress(len(cohort.samples), len(cohort.samples), "done")
    reasons = [why for why in left_out.values() if not why.startswith("no cell has")]
    if not tables and reasons:
        raise InputError(f"Cohort {cohort.name}: no sample could be used. {reasons[0]}")
    if not tables:
        columns = cohort.load(cohort.samples.index[0]).cells.columns
        raise InputError(
            f"Cohort {cohort.name}: expected samples whose cells have a {types}, found none. {nearest(types, columns)}"
            f"Columns of the first sample: {listed(columns)}."
        )
    return pd.concat(tables, ignore_index=True), left_out
