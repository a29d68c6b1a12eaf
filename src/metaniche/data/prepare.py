"""Cohort -> PreparedCohort: every sample read, checked, connected and stored once; the large work that is done only once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from metaniche.data.cache import is_saved, load_sample, read_about, save_sample
from metaniche.data.cohort import Cohort, CohortConfig, check_type_names
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets, Task, make_targets
from metaniche.errors import InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.io import keys
from metaniche.io.coordinates import positions_um, resolve_um_per_unit
from metaniche.io.digest import sample_digest
from metaniche.io.guards import named_categories
from metaniche.io.manifest import PATH
from metaniche.io.progress import Progress
from metaniche.io.read import in_memory
from metaniche.io.wording import listed, refusal
from metaniche.ops.hilbert import hilbert_order

log = logging.getLogger(__name__)

LAYOUT = 4  # of the files of a prepared sample; raise it when they change
KEPT_BYTES = 2_000_000_000  # of loaded samples


@dataclass(frozen=True)
class PreparedCohort:
    """A cohort whose samples lie on disk as PreparedSamples and are loaded one at a time.

    Attributes
    ----------
    name, folder
        Of the cohort, and where its prepared samples are.
    samples
        The cohort's sample table with `n_cells` and `n_edges`.
    patients
        The cohort's patient table.
    feature_kind
        "counts", "intensity" or "none".
    config, graph
        The CohortConfig and GraphConfig it was made with.
    left_out
        Patients that are not in the cohort -> why.
    """

    name: str
    folder: Path
    samples: pd.DataFrame
    patients: pd.DataFrame
    feature_kind: str
    config: CohortConfig
    graph: GraphConfig
    left_out: Mapping[str, str] = field(default_factory=dict)
    _kept: OrderedDict[str, PreparedSample] = field(default_factory=OrderedDict, repr=False, compare=False)

    def load(self, sample_id: str) -> PreparedSample:
        """One sample; the ones used last stay in memory, up to 2 GB."""
        if sample_id not in self._kept:
            self._kept[sample_id] = load_sample(self.folder, sample_id)
        self._kept.move_to_end(sample_id)
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[sample_id]

    def of(self, patients: Iterable[str]) -> list[PreparedSample]:
        """The samples of these patients, in the order of the sample table."""
        wanted = set(patients)
        return [self.load(s) for s in self.samples.index[self.samples[keys.PATIENT].isin(wanted)]]

    def targets(self, task: Task, group: str | None = None) -> Targets:
        """The labels of a task; cells are looked at for cell-level tasks only. `group` as in `make_targets`."""
        prepared = [self.load(s) for s in self.samples.index] if task.level == "cell" else None
        return make_targets(task, self.patients, self.samples, prepared, group)


def prepare(cohort: Cohort, graph: GraphConfig, folder: Path, progress: bool = True) -> PreparedCohort:
    """Prepare every sample that is not there yet, one at a time, below `folder`.

    Resumable: a sample appears whole or not at all, and a second call with the same configs reads nothing. Another
    cohort or graph config gets a folder of its own, as does a cohort in memory that has changed; a sample that has moved to
    another patient is made again. Several processes may prepare one cohort at once. Raises InputError for a type of the config
    that no file of a manifest has.
    """
    folder = Path(folder) / cohort.config.name / _key(cohort, graph)
    folder.mkdir(parents=True, exist_ok=True)
    sources = {s: _source(cohort, s) for s in cohort.samples.index}
    missing = [s for s in cohort.samples.index if not is_saved(folder, s, sources[s])]
    if missing:
        log.info("Preparing %d of %d samples of %s", len(missing), len(cohort.samples), cohort.config.name)
    with Progress(shown=progress) as tell:
        for number, sample_id in enumerate(missing, 1):
            sample, found_types = prepare_sample(cohort, sample_id, graph)
            save_sample(folder, sample, sources[sample_id], found_types)
            tell(number, len(missing), "samples prepared")
    abouts = [read_about(folder, s) for s in cohort.samples.index]
    _check_types_of_files(cohort, [about.get(keys.FOUND_TYPES) for about in abouts])
    sizes = pd.DataFrame(abouts, index=cohort.samples.index)
    _warn_if_nobody_knows(cohort, folder)
    return PreparedCohort(
        name=cohort.config.name,
        folder=folder,
        samples=cohort.samples.assign(n_cells=sizes["n_cells"], n_edges=sizes["n_edges"]),
        patients=cohort.patients,
        feature_kind=cohort.config.feature_kind,
        config=cohort.config,
        graph=graph,
        left_out=cohort.left_out,
    )


def prepare_sample(cohort: Cohort, sample_id: str, graph: GraphConfig) -> tuple[PreparedSample, list[str]]:
    """Read and check a sample (see `Cohort.read_checked`), connect its cells and put them in Hilbert order.

    Returns it with the names of the cell types that its source has.
    """
    adata, config = cohort.read_checked(sample_id), cohort.config
    scale = adata.uns[keys.UNS][keys.UM_PER_UNIT]
    pos_um = torch.from_numpy(positions_um(adata, scale))
    pointer = torch.tensor([0, adata.n_obs])
    order = hilbert_order(pos_um, pointer)
    rows = order.numpy()
    stored = None
    if graph.builder == "stored":
        if keys.CONNECTIVITIES not in adata.obsp:
            raise InputError(
                f"Sample {sample_id!r}: expected obsp[{keys.CONNECTIVITIES!r}] for graph.builder=stored, found "
                f"{list(adata.obsp)}. Run squidpy.gr.spatial_neighbors first, or use graph.builder=radius."
            )
        stored = sparse.csr_array(adata.obsp[keys.CONNECTIVITIES])[rows][:, rows]
    x = sparse.csr_array(adata.X) if sparse.issparse(adata.X) else np.asarray(adata.X, dtype=np.float32)
    if adata.n_vars == 0:
        x = np.zeros((adata.n_obs, 0), dtype=np.float32)
    row_in_file = np.asarray(adata.obs.get(keys.FILE_ROW, np.arange(adata.n_obs)), dtype=np.int64)
    sample = PreparedSample(
        sample_id=sample_id,
        patient_id=str(cohort.samples.at[sample_id, keys.PATIENT]),
        graph=build_graph(pos_um[order], pointer, graph, stored),
        x=x[rows].astype(np.float32),
        features=tuple(map(str, adata.var_names)),
        feature_kind=config.feature_kind,
        cells=_cell_table(adata, config).iloc[rows],
        file_order=row_in_file[rows],
    )
    return sample, adata.uns[keys.UNS][keys.FOUND_TYPES]


def prepare_anndata(
    adata: AnnData,
    config: CohortConfig,
    graph: GraphConfig,
    *,
    um_per_unit: float | None = None,
    where: str = "adata",
    remedy: str = "Give um_per_unit=",
) -> list[PreparedSample]:
    """Prepare the samples of one AnnData (see `cohort_of_anndata`); nothing is written to disk."""
    cohort = cohort_of_anndata(adata, config, um_per_unit=um_per_unit, where=where, remedy=remedy)
    return [prepare_sample(cohort, s, graph)[0] for s in cohort.samples.index]


def cohort_of_anndata(
    adata: AnnData,
    config: CohortConfig,
    *,
    um_per_unit: float | None = None,
    where: str = "adata",
    remedy: str = "Give um_per_unit=",
    unread: Sequence[str] = (),
) -> Cohort:
    """The samples of one AnnData that is to be looked at; nobody's outcome is known.

    `obs["sample_id"]` tells samples apart and `obs["patient_id"]` patients; without them all cells are one sample of one
    patient. `um_per_unit` overrides the unit the AnnData states in `uns["metaniche"]`; one of the two must be there.
    `file_order` of prepared samples refers to the rows of `adata`. Types that the config names need not occur in it; where it
    has no types at all, `obs["is_malignant"]` may say which cells are tumour cells. `where` names the AnnData in messages,
    and `remedy` says how its unit is declared. `unread` names columns of obs that are of no concern, whatever they hold.
    """
    if not adata.n_obs:
        raise refusal(where, expected="cells", found="none", fix="Check the filter that made it.")
    adata = in_memory(adata)
    adata.obs = adata.obs.drop(columns=list(unread), errors="ignore")
    adata.obs[keys.FILE_ROW] = np.arange(adata.n_obs)
    for key, name in ((keys.SAMPLE, "sample"), (keys.PATIENT, "patient")):
        if key not in adata.obs:
            adata.obs[key] = name
    config = replace(
        config, name=where, um_per_unit=resolve_um_per_unit(adata, um_per_unit, where=where, remedy=remedy)
    )
    if config.cell_type_key not in adata.obs and keys.MALIGNANT in adata.obs:
        config = replace(config, malignant_types=(), drop_types=(), type_aliases={})
    patients = pd.DataFrame(index=pd.Index(adata.obs[keys.PATIENT].astype(str).unique(), name=keys.PATIENT))
    return Cohort.from_anndata(adata, patients, config, every_type=False, where=where)


def _check_types_of_files(cohort: Cohort, found: Sequence[Sequence[str] | None]) -> None:
    """What a cohort on disk has is known when all its files were read; others are checked when they are opened."""
    if PATH in cohort.samples and cohort.config.needs_types and None not in found:
        check_type_names(cohort.config, {name for names in found for name in names}, f"cohort {cohort.config.name}")


def _warn_if_nobody_knows(cohort: Cohort, folder: Path) -> None:
    if cohort.config.malignant_types:
        return
    cells = load_sample(folder, cohort.samples.index[0]).cells
    types = cells[keys.CELL_TYPE].unique() if keys.CELL_TYPE in cells else ()
    if len(types) > 1 and keys.MALIGNANT not in cells:
        log.warning(
            "%s: nobody says which cells are malignant, so every cell gets a metastatic potential. "
            "Set data.malignant_types to some of %s, or fill obs[%r].",
            cohort.config.name, listed(sorted(map(str, types)), 20), keys.MALIGNANT,
        )  # fmt: skip


def _cell_table(adata: AnnData, config: CohortConfig) -> pd.DataFrame:
    """The columns of obs that models and tasks use; none of malignancy where nobody says which cells are malignant."""
    cells = pd.DataFrame(index=adata.obs_names.astype(str).rename("cell_id"))
    for key in dict.fromkeys((keys.CELL_TYPE, keys.CLONE, *config.annotations)):
        if key in adata.obs:
            cells[key] = named_categories(adata.obs[key])
    if config.malignant_types and keys.CELL_TYPE in cells:
        cells[keys.MALIGNANT] = cells[keys.CELL_TYPE].isin(config.malignant_types)
    elif keys.MALIGNANT in adata.obs:
        cells[keys.MALIGNANT] = adata.obs[keys.MALIGNANT].to_numpy(bool)
    return cells


def _key(cohort: Cohort, graph: GraphConfig) -> str:
    """Names what the prepared files depend on; of a cohort in memory, all that its samples hold."""
    version = cohort.version or [sample_digest(cohort.read(s)) for s in cohort.samples.index]
    content = json.dumps([LAYOUT, asdict(cohort.config), version, asdict(graph)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _source(cohort: Cohort, sample_id: str) -> dict:
    """What must be as it was for a prepared sample to be used again; the files behind it are in the folder's key."""
    return {keys.PATIENT: str(cohort.samples.at[sample_id, keys.PATIENT])}


def _bytes(sample: PreparedSample) -> int:
    x = sample.x.data.nbytes if sparse.issparse(sample.x) else sample.x.nbytes
    return x + sum(t.numel() * t.element_size() for t in sample.graph.tensors().values())
