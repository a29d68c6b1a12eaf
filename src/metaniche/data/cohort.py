"""Cohort: the samples and patients of a study, read one sample at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from metaniche.errors import ConfigError, InputError
from metaniche.io import datasets, keys
from metaniche.io.coordinates import resolve_um_per_unit
from metaniche.io.datasets.registry import digest
from metaniche.io.download import check_sha256
from metaniche.io.features import ORGANISMS
from metaniche.io.guards import FEATURE_KINDS, check_sample, named_categories, require_column
from metaniche.io.manifest import PATH, SHA256, check_patients, check_samples, files_version, read_manifest
from metaniche.io.read import in_memory, read_sample
from metaniche.io.record import own_record
from metaniche.io.wording import listed, nearest, refusal

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CohortConfig:
    """How the samples of a cohort are to be read.

    Parameters
    ----------
    name
        Short name, used in messages and caches.
    um_per_unit
        Micrometres per unit of `obsm["spatial"]`; None takes it from each sample's `uns["metaniche"]["um_per_unit"]`.
    feature_kind
        "counts", "intensity" or "none" (cell types only).
    malignant_types
        Cell types that are tumour cells.
    drop_types
        Cell types that are no cells (background, undefined); removed on reading.
    cell_type_key
        Column of obs with the cell types; it is renamed to `cell_type`.
    annotations
        Columns of obs that may be predicted at cell level. A sample may lack them.
    type_aliases
        Cell type in the file -> cell type to use; applied before `drop_types` and `malignant_types`.
    organism
        "human" or "mouse", to refuse the other's gene symbols; None does not ask.
    """

    name: str
    um_per_unit: float | None
    feature_kind: str
    malignant_types: Sequence[str] = ()
    drop_types: Sequence[str] = ()
    cell_type_key: str = keys.CELL_TYPE
    annotations: Sequence[str] = ()
    type_aliases: dict[str, str] | None = None
    organism: str | None = None

    def __post_init__(self) -> None:
        for name in ("malignant_types", "drop_types", "annotations"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ConfigError(f"Cohort {self.name!r}: expected `{name}` to be a list, found the text {given!r}.")
            object.__setattr__(self, name, tuple(given or ()))
        object.__setattr__(self, "type_aliases", dict(self.type_aliases or {}))
        for name, options in (("feature_kind", FEATURE_KINDS), ("organism", (None, *ORGANISMS))):
            if getattr(self, name) not in options:
                raise ConfigError(
                    f"Cohort {self.name!r}: expected `{name}` in {options}, found {getattr(self, name)!r}."
                )
        both = sorted({*self.malignant_types} & {*self.drop_types})
        if both:
            raise ConfigError(
                f"Cohort {self.name!r}: {listed(both)} is both malignant and dropped; keep one of the two."
            )

    @property
    def needs_types(self) -> bool:
        """Whether samples of this cohort must have cell types."""
        return self.feature_kind == "none" or bool(self.malignant_types or self.drop_types or self.type_aliases)


@dataclass(frozen=True)
class Cohort:
    """Samples and patients of a study.

    Attributes
    ----------
    config
        How samples are read.
    samples
        Indexed by `sample_id`, with `patient_id` and whatever else the source says of a sample.
    patients
        Indexed by `patient_id`, outcomes and clinical variables; each has at least one sample.
    read
        sample_id -> AnnData as stored, unchecked.
    left_out
        Patients (or parts of the source) that are not in the cohort -> why.
    version
        Changes whenever the files behind `read` do; part of a cache's key. Empty for a cohort in memory, of which the content
        is.
    """

    config: CohortConfig
    samples: pd.DataFrame
    patients: pd.DataFrame
    read: Callable[[str], AnnData]
    left_out: dict[str, str] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def from_dataset(cls, name: str, config: CohortConfig) -> Cohort:
        """A named public cohort of `io.datasets`."""
        module = datasets.load(name)
        check_type_names(config, module.CELL_TYPES, where=f"dataset {name}")
        samples, patients = module.tables()
        cohort = cls._of(config, samples, patients, module.read_sample, dict(module.LEFT_OUT), f"dataset {name}")
        return replace(cohort, version=digest(*module.FILES))

    @classmethod
    def from_manifest(cls, samples_path: str | Path, patients_path: str | Path, config: CohortConfig) -> Cohort:
        """A cohort on disk; see `io.manifest.read_manifest`."""
        samples, patients = read_manifest(samples_path, patients_path)
        cohort = cls._of(config, samples, patients, partial(_read_listed, samples), {}, f"{samples_path}")
        return replace(cohort, version=files_version(samples[PATH]))

    @classmethod
    def from_anndata(
        cls,
        adata: AnnData,
        patients: pd.DataFrame,
        config: CohortConfig,
        *,
        every_type: bool = True,
        where: str | None = None,
    ) -> Cohort:
        """A cohort in memory: one AnnData with `obs["sample_id"]` and `obs["patient_id"]`.

        `patients` is indexed by `patient_id` or has it as a column. `every_type` False: new tissue, in which types that
        the config names need not occur. `where` names the AnnData in messages.
        """
        where = where or f"cohort {config.name}"
        for key in (keys.SAMPLE, keys.PATIENT):
            require_column(adata.obs, key, where)
            if adata.obs[key].isna().any():
                found = f"{int(adata.obs[key].isna().sum())} cells without one"
                raise refusal(
                    where, expected=f"obs[{key!r}] for every cell", found=found, fix="Fill it in or drop them."
                )
        pairs = adata.obs[[keys.SAMPLE, keys.PATIENT]].astype(str).drop_duplicates()
        shared = pairs[keys.SAMPLE][pairs[keys.SAMPLE].duplicated()].unique()
        if len(shared):
            raise refusal(
                where,
                expected="every sample to belong to one patient",
                found=f"sample(s) {listed(shared)} with two or more in obs['patient_id']",
                fix="Give the samples of different patients different ids.",
            )
        if config.needs_types:
            require_column(adata.obs, config.cell_type_key, where, "cell_type_key")
            if every_type:
                check_type_names(config, tuple(adata.obs[config.cell_type_key].dropna().unique()), where=where)
        samples = check_samples(pairs, where=where)
        _warn_of_edges_between(adata, where)
        if keys.PATIENT not in patients:
            patients = patients.rename_axis(keys.PATIENT).reset_index()
        cells = adata.obs.groupby(adata.obs[keys.SAMPLE].astype(str), observed=True).indices
        return cls._of(config, samples, check_patients(patients, where=where), partial(_take, adata, cells), {}, where)

    @classmethod
    def _of(cls, config, samples, patients, read, left_out, where) -> Cohort:
        """Match the two tables: a sample needs a known patient; a patient without samples is left out."""
        unknown = samples[~samples[keys.PATIENT].isin(patients.index)]
        if len(unknown):
            sample, patient = unknown.index[0], unknown[keys.PATIENT].iloc[0]
            raise refusal(
                where,
                expected="every patient_id of the sample table in the patient table",
                found=f"{listed(unknown[keys.PATIENT].unique())} unknown (first: sample {sample!r})",
                fix=f"{nearest(patient, patients.index)}Add the patients, or leave their samples out.",
            )
        bare = patients.index[~patients.index.isin(samples[keys.PATIENT])]
        new = {patient: "no sample in the sample table" for patient in bare if patient not in left_out}
        if new:
            _log.warning("%s: %d patients left out, who have no sample: %s.", where, len(new), listed(list(new)))
        return cls(config, samples, patients.drop(index=bare), read, {**left_out, **new})

    def where(self, sample_id: str) -> str:
        """The sample's file where it has one, and its id: how messages name it."""
        path = self.samples[PATH].get(sample_id) if PATH in self.samples else None
        return f"{path} (sample {sample_id})" if path else f"{self.config.name}, sample {sample_id}"

    def read_checked(self, sample_id: str) -> AnnData:
        """Read one sample, apply the config to it, and check it.

        Cell types are renamed by `type_aliases` and stand in `obs["cell_type"]`; cells of `drop_types` are gone,
        and `obs["metaniche_row"]` holds the row of the source; X holds raw values (`layers["counts"]` where there
        is one and counts are expected; no columns for feature kind "none").

        `obsm["spatial"]` stays as read. Multiply it by `uns["metaniche"]["um_per_unit"]`, which is always set here,
        to get micrometres. `uns["metaniche"]["found_types"]` names the cell types of the source.

        Raises InputError, naming file and key, for whatever `io.guards.check_sample` refuses; warns of what it
        suspects.
        """
        if sample_id not in self.samples.index:
            fix = f"{nearest(sample_id, self.samples.index)}See cohort.samples."
            raise refusal(f"cohort {self.config.name}", expected="a known sample", found=repr(sample_id), fix=fix)
        config, where = self.config, self.where(sample_id)
        adata = self.read(sample_id)
        if keys.FILE_ROW not in adata.obs:
            adata.obs[keys.FILE_ROW] = np.arange(adata.n_obs)
        found = adata.obs[config.cell_type_key].dropna().unique() if config.cell_type_key in adata.obs else ()
        adata = _with_types(_with_raw_values(adata, config), config, where)
        check_sample(
            adata,
            where=where,
            um_per_unit=config.um_per_unit,
            feature_kind=config.feature_kind,
            cell_type_key=keys.CELL_TYPE if config.needs_types else None,
            organism=config.organism,
        )
        adata.uns[keys.UNS] = {
            **own_record(adata, where=where),
            keys.UM_PER_UNIT: resolve_um_per_unit(adata, config.um_per_unit, where=where),
            keys.FEATURE_KIND: config.feature_kind,
            keys.FOUND_TYPES: sorted(map(str, found)),
        }
        return adata


def _with_raw_values(adata: AnnData, config: CohortConfig) -> AnnData:
    if config.feature_kind == "none" and adata.n_vars:
        return adata[:, :0].copy()
    if config.feature_kind == "counts" and keys.COUNTS in adata.layers:
        adata.X = adata.layers[keys.COUNTS]
    return adata


def _with_types(adata: AnnData, config: CohortConfig, where: str) -> AnnData:
    """The sample with the types of the config in `obs["cell_type"]`, as a categorical."""
    if config.needs_types:
        require_column(adata.obs, config.cell_type_key, where, "cell_type_key")
    if config.cell_type_key not in adata.obs:
        return adata
    types = named_categories(adata.obs[config.cell_type_key])
    names = {name: config.type_aliases.get(str(name), str(name)) for name in types.cat.categories}
    types = types.map(names).astype("category")
    dropped = types.isin(config.drop_types).to_numpy()
    adata.obs[keys.CELL_TYPE] = types.cat.remove_categories(types.cat.categories.intersection(config.drop_types))
    if not dropped.any():
        return adata
    if dropped.sum() > adata.n_obs - 2:
        raise refusal(
            where,
            expected=f"at least two cells that are not of drop_types ({listed(config.drop_types)})",
            found=f"{int((~dropped).sum())} of {adata.n_obs}",
            fix="Leave this sample out of the sample table, or shorten drop_types.",
        )
    return adata[~dropped].copy()


def check_type_names(config: CohortConfig, known: Iterable[str], where: str) -> None:
    """Raise InputError for a type of the config that is not known: misspelt, it would make every such cell healthy."""
    types = {*(str(name) for name in known), *config.type_aliases.values()}
    asked = (*config.malignant_types, *config.drop_types, *config.type_aliases)
    unknown = [name for name in asked if name not in types]
    if unknown:
        raise InputError(
            f"{where}: expected the types of the config (malignant_types, drop_types, type_aliases) among its cell "
            f"types, found no {listed(unknown)}. {nearest(unknown[0], types)}It has {listed(sorted(types), 40)}."
        )


def _warn_of_edges_between(adata: AnnData, where: str) -> None:
    if keys.CONNECTIVITIES not in adata.obsp:
        return
    edges = sparse.coo_array(adata.obsp[keys.CONNECTIVITIES])
    sample = pd.factorize(adata.obs[keys.SAMPLE])[0]
    between = int((sample[edges.row] != sample[edges.col]).sum())
    if between:
        _log.warning(
            "%s: %d of %d edges of obsp[%r] join cells of different samples; with graph.builder=stored they fall away. "
            "squidpy.gr.spatial_neighbors(adata, library_key=%r) makes none.",
            where, between, edges.nnz, keys.CONNECTIVITIES, keys.SAMPLE,
        )  # fmt: skip


def _read_listed(samples: pd.DataFrame, sample_id: str) -> AnnData:
    """Read a sample of a manifest, after its sha256 where the manifest gives one."""
    path = Path(samples.at[sample_id, PATH])
    expected = samples.at[sample_id, SHA256] if SHA256 in samples else ""
    if expected:
        check_sha256(path, expected)
    adata = read_sample(path)
    adata.obs[keys.FILE_ROW] = np.arange(adata.n_obs)
    return adata


def _take(adata: AnnData, cells: dict[str, np.ndarray], sample_id: str) -> AnnData:
    sample = in_memory(adata[cells[sample_id]])
    sample.obs[keys.FILE_ROW] = cells[sample_id]
    return sample
