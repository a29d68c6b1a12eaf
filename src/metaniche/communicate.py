"""Prepared samples and a resource -> their signals, competition and relays; of a cohort one table, kept sample by sample."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from metaniche.data.prepare import PreparedCohort
from metaniche.data.sample import PreparedSample
from metaniche.errors import GraphError, InputError
from metaniche.graph import CellGraph
from metaniche.io import keys
from metaniche.io.guards import require_column
from metaniche.io.matrices import log_normalised
from metaniche.io.progress import Tell
from metaniche.io.wording import listed, nearest
from metaniche.io.write import write_parquet
from metaniche.ops.backend import device_of, where_it_fits
from metaniche.signaling import (
    Communication,
    PairExpression,
    Resource,
    SignalConfig,
    communicate,
    competing_signals,
    estimate_memory,
    pair_expression,
    relays,
)

log = logging.getLogger(__name__)

LAYOUT = 4  # of the tables that are kept; raise it when the same config gives others
DEFAULT = SignalConfig()
LARGE_BYTES = 1_000_000_000
SILENT = "nothing is found in it: no pair is expressed widely enough within reach"
Found = TypeVar("Found")


def communicate_sample(
    sample: PreparedSample,
    resource: Resource,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
    device: torch.device | str = "auto",
) -> Communication:
    """Signals of one prepared sample; counts are log-normalised first. `types` is the column of its cell table to use;
    `device` does the work, as `ops.backend.device_of` names it, and the CPU where the sample does not fit there.

    Raises InputError where that column is missing, and as `signaling.communicate`, with the sample's name in front.
    """
    x, cell_types = expression_of(sample), _types(sample, types)
    n_stored = x.nnz if hasattr(x, "nnz") else x.size
    sizes = sample.n_cells, sample.graph.n_edges, n_stored, len(cell_types.categories), len(resource.pairs)
    needed = estimate_memory(*sizes, config.n_permutations if config.null_model == "shifts" else 0)
    level = logging.WARNING if needed > LARGE_BYTES else logging.DEBUG
    log.log(level, "Sample %s takes up to %.1f GB of memory", sample.sample_id, needed / 1e9)

    def signals(graph: CellGraph) -> Communication:
        return communicate(x, sample.features, cell_types, graph, resource, config, progress)

    with named(sample):
        return _where_it_fits(signals, sample, device)


def compete_sample(
    sample: PreparedSample,
    resource: Resource,
    reach_um: float,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    device: torch.device | str = "auto",
) -> pd.DataFrame:
    """`signaling.competing_signals` of one prepared sample: what its pairs move when they share what cells make."""
    cell_types = _types(sample, types)

    def flows(graph: CellGraph) -> pd.DataFrame:
        return competing_signals(pairs_of(sample, resource, config, graph.pos_um.device), cell_types, graph, reach_um)

    with named(sample):
        return _where_it_fits(flows, sample, device)


def relay_sample(
    sample: PreparedSample,
    resource: Resource,
    targets: pd.DataFrame,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    progress: Tell | None = None,
    device: torch.device | str = "auto",
) -> pd.DataFrame:
    """`signaling.relays` of one prepared sample: which of its cells answer one signal with another."""
    cell_types = _types(sample, types)

    def chains(graph: CellGraph) -> pd.DataFrame:
        return relays(
            pairs_of(sample, resource, config, graph.pos_um.device), cell_types, graph, targets, config, progress
        )

    with named(sample):
        return _where_it_fits(chains, sample, device)


def _where_it_fits(make: Callable[[CellGraph], Found], sample: PreparedSample, device: torch.device | str) -> Found:
    """`make` of the sample's graph on the device, or on the CPU where the memory of the device is too small."""
    what = f"Sample {sample.sample_id} of {sample.n_cells} cells"
    return where_it_fits(lambda chosen: make(sample.graph.to(chosen)), device_of(device), what)


def expression_of(sample: PreparedSample) -> np.ndarray | sparse.csr_array:
    return log_normalised(sample.x) if sample.feature_kind == "counts" else sample.x


def pairs_of(
    sample: PreparedSample, resource: Resource, config: SignalConfig, device: torch.device | str = "cpu"
) -> PairExpression:
    """Expression of the pairs of `resource` that the sample measures."""
    return pair_expression(expression_of(sample), sample.features, resource, config.complexes, device)


def _types(sample: PreparedSample, column: str) -> pd.Categorical:
    require_column(sample.cells, column, f"Sample {sample.sample_id}", "types")
    return pd.Categorical(sample.cells[column])


@contextmanager
def named(sample: PreparedSample) -> Iterator[None]:
    """Errors of what is in the sample say which one it is."""
    try:
        yield
    except (InputError, GraphError) as error:
        raise type(error)(f"{_of(sample)}{error}") from error


def _of(sample: PreparedSample) -> str:
    return f"Sample {sample.sample_id}: "


class Analysis(NamedTuple):
    """What is made of every sample of a cohort or an AnnData: one table."""

    name: str
    make: Callable[[PreparedSample, Tell | None], pd.DataFrame]
    made_with: list
    """All that the table depends on beside the sample, as plain values."""
    types: str
    """Column of the cell tables with the cell types."""


def signal_analysis(
    resource: Resource,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    device: torch.device | str = "auto",
) -> Analysis:
    """`communicate_sample` of every sample. A table that is kept is used whatever the device that made it."""

    say = measured_pairs(resource)

    def signals(sample: PreparedSample, progress: Tell | None) -> pd.DataFrame:
        say(sample)
        return communicate_sample(sample, resource, config, types, progress, device).table

    return Analysis(keys.COMMUNICATION, signals, [resource.sha256, asdict(config)], types)


def competition_analysis(
    resource: Resource,
    reach_um: float,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    device: torch.device | str = "auto",
) -> Analysis:
    """`compete_sample` of every sample."""

    def flows(sample: PreparedSample, progress: Tell | None) -> pd.DataFrame:
        return compete_sample(sample, resource, reach_um, config, types, device)

    return Analysis(keys.COMPETITION, flows, [resource.sha256, reach_um, config.complexes], types)


def relay_analysis(
    resource: Resource,
    targets: pd.DataFrame,
    config: SignalConfig = DEFAULT,
    types: str = keys.CELL_TYPE,
    device: torch.device | str = "auto",
) -> Analysis:
    """`relay_sample` of every sample."""

    def chains(sample: PreparedSample, progress: Tell | None) -> pd.DataFrame:
        return relay_sample(sample, resource, targets, config, types, progress, device)

    return Analysis(keys.RELAYS, chains, [resource.sha256, targets.to_csv(index=False), asdict(config)], types)


def measured_pairs(resource: Resource) -> Callable[[PreparedSample], None]:
    """Says in the log, once a panel, how many of the pairs a sample measures and which not."""
    said = set()

    def say(sample: PreparedSample) -> None:
        panel = frozenset(sample.features)
        if panel not in said:
            said.add(panel)
            with named(sample):
                log.info("Sample %s and others of its panel: %s", sample.sample_id, resource.overlap(panel).describe())

    return say


def attempt(make: Callable[[PreparedSample], Found], sample: PreparedSample, types: str | None) -> Found | str:
    """What `make` finds in a sample, or in words why the sample is left out: no cell has a type (`types` None: none is needed),
    or `make` refuses it."""
    if types is not None and (types not in sample.cells or sample.cells[types].isna().all()):
        meant = "" if types in sample.cells else nearest(types, sample.cells.columns)
        return f"no cell has a type in {types!r}. {meant}".strip()
    try:
        return make(sample)
    except (InputError, GraphError) as error:
        return str(error).removeprefix(_of(sample))


def say_left_out(left_out: Mapping[str, str], n_samples: int) -> None:
    """A warning that gives the reasons, each with its samples; InputError, with the first, where nothing is left."""
    if len(left_out) == n_samples:
        sample, why = next(iter(left_out.items()), ("none", "there is no sample."))
        raise InputError(f"Expected signals in any of {n_samples} samples, found none. Sample {sample}: {why}")
    if left_out:
        reasons = pd.Series(left_out).groupby(list(left_out.values())).groups
        words = " ".join(f"{listed(list(samples))}: {why}" for why, samples in reasons.items())
        log.warning("Left out %d of %d samples. %s", len(left_out), n_samples, words)


def say_silent(samples: Sequence[str], n_tables: int, what: str) -> dict[str, str]:
    """A word on the samples whose tables are empty, and each with the reason."""
    if samples and len(samples) < n_tables:
        log.info("%s: %d of %d samples have no row: %s", what, len(samples), n_tables, listed(samples))
    return dict.fromkeys(samples, SILENT)


def table_of_cohort(
    cohort: PreparedCohort, analysis: Analysis, run_dir: Path, progress: Tell | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """An analysis of every sample of a cohort, one at a time: the table with sample_id and patient_id in front, and the
    samples that were left out (see `attempt`) or have no row in the table, with the reason, which is also said.

    Each sample's table is kept below `run_dir/samples` and is not made again from the same cohort with the same settings.
    Raises InputError where no sample could be used.
    """
    content = json.dumps(
        [LAYOUT, cohort.folder.name, analysis.name, analysis.made_with, analysis.types], default=str, sort_keys=True
    )
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    tables, left_out, silent = [], {}, []
    for number, sample_id in enumerate(cohort.samples.index):
        if progress is not None:
            progress(number, len(cohort.samples), f"{analysis.name} of {sample_id}")
        path = Path(run_dir) / "samples" / key / f"{sample_id}.parquet"
        if not path.exists():
            sample = cohort.load(sample_id)
            inside = within(progress, number, len(cohort.samples), sample_id)
            found = attempt(partial(analysis.make, progress=inside), sample, analysis.types)
            if isinstance(found, str):
                left_out[sample_id] = found
                continue
            write_parquet(of_sample(found, sample), path)
        tables.append(pd.read_parquet(path))
        if tables[-1].empty:
            silent.append(sample_id)
    if progress is not None:
        progress(len(cohort.samples), len(cohort.samples), "done")
    say_left_out(left_out, len(cohort.samples))
    return pd.concat(tables, ignore_index=True), left_out | say_silent(silent, len(tables), analysis.name)


def within(progress: Tell | None, number: int, total: int, sample_id: str) -> Tell | None:
    """For the steps within a sample: which one it is where there are several, how far it is where it is the only one."""
    if progress is None:
        return None
    if total == 1:
        return lambda done, of, text: progress(done, of, f"{sample_id}: {text}")
    return lambda done, of, text: progress(number, total, f"{sample_id}: {text}")


def of_sample(table: pd.DataFrame, sample: PreparedSample) -> pd.DataFrame:
    """The table with the ids of its sample and patient in front."""
    ids = {keys.SAMPLE: sample.sample_id, keys.PATIENT: sample.patient_id}
    return pd.DataFrame(ids, index=table.index).join(table)
