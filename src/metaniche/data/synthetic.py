"""Synthetic tumours with a known cause: a ligand-receptor signal decides the outcome, and nothing simpler tells it.

The planted truth: fibroblasts that express CXCL12 raise a patient's risk through malignant cells that express CXCR4
and stand within 50 um of them. At any other risk the same tissue would have as many such fibroblasts, but deep in the
stroma, beyond reach. So cell-type composition, cell density, cellular neighbourhoods by type, and the expression of
every gene, in all cells or in those of any type, carry no information on the outcome: only who stands beside whom in
which state does. Six more ligand-receptor pairs are expressed in patches and do nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import expit
from scipy.stats import beta

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.data.synthetic_tissue import (
    AWAY,
    CAUSES,
    CLONES,
    DENSITIES,
    DRIVER,
    NOISE,
    PAIRS,
    RANGE_SCALES,
    REGIONS,
    TYPES,
    Tissue,
    counts,
    gene_panel,
    grow,
)  # fmt: skip
from metaniche.errors import ConfigError
from metaniche.io import keys
from metaniche.signaling import Resource

LAYOUT = 2  # raise it when the same config gives other tumours
HORIZON_MONTHS = 60.0
SITES = {"liver": 0.5, "lung": 0.45, "bone": 0.35}
SITE_UNKNOWN = 0.15
MIN_CELLS = 200
CONTACT_UM = 15.0


@dataclass(frozen=True)
class SyntheticConfig:
    """A synthetic cohort.

    Parameters
    ----------
    n_patients
        Patients, each with one to `max_samples` samples.
    n_cells
        Mean number of cells of a sample; samples vary by a quarter.
    density
        Where cells stand: grid, uniform (at random) or mixed (part of the tissue each).
    noise
        none (expected counts, rounded), low or high; see `synthetic_tissue.NOISE`.
    n_genes
        Panel: markers, ligands and receptors, filled up with background genes.
    effect
        Slope of the log-odds of metastasis on the planted signal, which runs from 0 to 1; 0 makes the outcome chance.
    cause
        What decides the outcome: signals (the driving pair); seed (the share of malignant cells in a state of their own,
        whoever stands around them); soil (the share of the cells around them that are in a state, whatever the tumour is).
        The driving pair is there in all of them, and says nothing unless it is the cause.
    away
        Where sending fibroblasts stand that are not heard: in the stroma, or beside a clone without the receptor
        (other_clone), where only an account of both sides of the pair tells them apart.
    seed
        Of everything.
    """

    n_patients: int = 80
    max_samples: int = 2
    n_cells: int = 800
    density: str = "mixed"
    noise: str = "low"
    n_genes: int = 60
    effect: float = 20.0
    cause: str = "signals"
    away: str = "stroma"
    seed: int = 0

    def __post_init__(self) -> None:
        closed = {"density": DENSITIES, "noise": tuple(NOISE), "cause": CAUSES, "away": AWAY}
        for name, options in closed.items():
            if getattr(self, name) not in options:
                raise ConfigError(f"Expected synthetic.{name} in {options}, found {getattr(self, name)!r}.")
        least = {"n_patients": 2, "max_samples": 1, "n_cells": MIN_CELLS, "n_genes": len(gene_panel(0))}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"Expected synthetic.{name} >= {low}, found {getattr(self, name)}.")


def generate(config: SyntheticConfig) -> SyntheticCohort:
    """The cohort of `config`: its tables now, each sample's cells when they are read, always the same."""
    return SyntheticCohort(config)


def resource() -> Resource:
    """The invented pairs of the synthetic tumours; those that reach no farther than a cell or two act by contact."""
    pairs = pd.DataFrame([{"ligand": p.ligand, "receptor": p.receptor} for p in PAIRS])
    reach = np.array([p.length_scale_um for p in PAIRS])
    pairs["signaling_type"] = np.where(reach <= CONTACT_UM, "contact", "secreted")
    return Resource(pairs, "synthetic tumours", version=f"layout {LAYOUT}", licence="BSD-3-Clause")


@dataclass(frozen=True)
class SyntheticCohort:
    """A synthetic cohort and what is true of it."""

    config: SyntheticConfig

    def cohort(self) -> Cohort:
        """The cohort as any other: tables and a reader."""
        config = CohortConfig(
            name=f"synthetic-{_digest(self.config)}",
            um_per_unit=1.0,
            feature_kind="counts",
            malignant_types=("malignant",),
            annotations=("region",),
        )
        return Cohort(
            config, self.samples, self.patients, self.read, version=f"layout {LAYOUT}"
        )  # the name tells the rest

    @cached_property
    def truth(self) -> dict:
        """What was planted: the driving pair, its range, and the mean signal per patient (0 to 1); the idle pairs."""
        return {
            **asdict(DRIVER),
            "range_um": RANGE_SCALES * DRIVER.length_scale_um,
            "signal": pd.Series(self._heard, self.patients.index, name="signal"),
            "idle_pairs": [asdict(pair) for pair in PAIRS if pair is not DRIVER],
        }

    @cached_property
    def patients(self) -> pd.DataFrame:
        """`metastasis` within 60 months (of everyone), `time` and `event` with loss to follow-up, sites, clinical."""
        rng = self._rng(1)
        n, signal = self.config.n_patients, self._signal
        metastasis = rng.random(n) < expit(self.config.effect * (signal - 0.5))
        table = {
            "metastasis": metastasis.astype(int),
            **_times(metastasis, signal if self.config.effect else np.full(n, 0.5), rng),
            **_sites(metastasis, rng),
            "stage": np.clip(np.rint(2.2 + 0.5 * metastasis + rng.normal(0, 0.9, n)), 1, 4).astype(int),
            "age": np.rint(rng.normal(62, 10, n)).clip(30, 90).astype(int),
        }
        names = [f"P{i:03d}" for i in range(1, n + 1)]
        return pd.DataFrame(table, index=pd.Index(names, name=keys.PATIENT))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row per sample; patients have one to `max_samples`."""
        per_patient = self._rng(2).integers(1, self.config.max_samples + 1, self.config.n_patients)
        rows = [(f"{p}_S{i}", p) for p, k in zip(self.patients.index, per_patient) for i in range(1, k + 1)]
        return pd.DataFrame(rows, columns=[keys.SAMPLE, keys.PATIENT]).set_index(keys.SAMPLE)

    def read(self, sample_id: str) -> AnnData:
        """One sample's cells: counts, types, clones, regions, and the truth in `obs["true_signal"]` and its companions.

        `true_sends` and `true_receives` mark the cells of the driving pair, `true_type` the type without label noise.
        """
        number = self.samples.index.get_loc(sample_id)
        patient = self.samples[keys.PATIENT].iloc[number]
        place = self.patients.index.get_loc(patient)
        rng, noise = self._rng(3, number), NOISE[self.config.noise]
        n = max(int(self.config.n_cells * rng.uniform(0.75, 1.25)), MIN_CELLS)
        tissue = grow(n, self.config.density, self._heard[place], DRIVER, rng, self.config.away)
        panel = gene_panel(self.config.n_genes)
        batch = self._rng(4, place).lognormal(0.0, noise.patient_sd, len(panel))
        state = None if self.config.cause == "signals" else (self.config.cause, self._signal[place])
        x = counts(tissue, panel, noise, batch, rng, state)
        seen = np.where(rng.random(n) < noise.type_error, rng.permutation(tissue.types), tissue.types)
        adata = AnnData(
            X=x,
            obs=_cells(tissue, seen, [f"{sample_id}_{i}" for i in range(n)], rng),
            var=pd.DataFrame(index=list(panel)),
            obsm={keys.SPATIAL: tissue.pos_um},
        )
        adata.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0, keys.FEATURE_KIND: "counts"}
        return adata

    @cached_property
    def _signal(self) -> np.ndarray:
        """(patients,) latent signal: the quantiles of a U shape, so that every cohort is balanced, in random order."""
        n = self.config.n_patients
        return self._rng(0).permutation(beta.ppf((np.arange(n) + 0.5) / n, 0.5, 0.5))

    @cached_property
    def _heard(self) -> np.ndarray:
        """(patients,) mean signal of the driving pair: the latent one where it is the cause, else another order of it."""
        return self._signal if self.config.cause == "signals" else self._rng(5).permutation(self._signal)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *purpose])


def _cells(tissue: Tissue, seen: np.ndarray, names: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """The obs table. Clones are named at random per sample: a name says nothing."""
    clone_names = rng.permutation(CLONES)
    clones = pd.Categorical.from_codes(tissue.clones, clone_names)
    return pd.DataFrame(
        {
            keys.CELL_TYPE: pd.Categorical.from_codes(seen, TYPES),
            keys.CLONE: clones.reorder_categories(CLONES),
            "region": pd.Categorical.from_codes(tissue.regions, REGIONS),
            "true_type": pd.Categorical.from_codes(tissue.types, TYPES),
            "true_sends": tissue.sends,
            "true_receives": tissue.receives,
            "true_signal": tissue.signal.astype(np.float32),
        },
        index=names,
    )


def _times(metastasis: np.ndarray, signal: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Exponential months to metastasis, before the horizon where `metastasis` says so; a fifth is lost early."""
    hazard = np.exp(3.0 * (signal - 0.5)) / HORIZON_MONTHS
    before = -np.expm1(-hazard * HORIZON_MONTHS)
    u = rng.random(len(signal))
    months = -np.log1p(-np.where(metastasis, u * before, before + u * (1 - before))) / hazard
    lost = rng.random(len(signal)) < 0.2
    last_seen = rng.uniform(np.where(lost, 6.0, HORIZON_MONTHS), np.where(lost, 1.0, 2.0) * HORIZON_MONTHS)
    return {"time": np.minimum(months, last_seen).round(2).clip(0.1), "event": (months <= last_seen).astype(int)}


def _sites(metastasis: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Per organ 1, 0 or NaN (not examined); no site without metastasis, at least one with it."""
    hit = rng.random((len(metastasis), len(SITES))) < list(SITES.values())
    hit[np.arange(len(hit)), rng.integers(0, len(SITES), len(hit))] |= ~hit.any(axis=1)
    hit &= metastasis[:, None]
    table = np.where(rng.random(hit.shape) < SITE_UNKNOWN, np.nan, hit)
    return dict(zip(SITES, table.T))


def _digest(config: SyntheticConfig) -> str:
    content = json.dumps([LAYOUT, asdict(config)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]
