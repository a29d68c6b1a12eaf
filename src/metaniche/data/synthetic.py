"""Synthetic tumours: tissues in which the signal that drives the outcome is known, and nothing else tells of it.

No public cohort has both known signals and known outcomes. Here a ligand of one cell type reaches a receptor on
malignant cells at a planted range. In patients of high risk, cells that express the ligand lie beside cells that express the
receptor; in patients of low risk the same numbers of the same cells lie apart. Composition, density, the neighbourhood of
types and the mean expression of every gene are alike in both by construction.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.errors import ConfigError
from metaniche.io import keys

DENSITIES = ("grid", "uniform", "mixed")
SPACING_UM = 14.0  # mean distance of neighbouring cells
MARKERS = {
    "malignant": ("EPCAM", "KRT8", "KRT19"),
    "epithelial_normal": ("KRT5", "KRT14"),
    "caf": ("COL1A1", "PDGFRA", "FAP"),
    "endothelial": ("PECAM1", "VWF"),
    "pericyte": ("RGS5", "CSPG4"),
    "macrophage": ("CD68", "CD163"),
    "t_cd8": ("CD3E", "CD8A", "GZMB"),
    "treg": ("CD4", "FOXP3"),
    "b_cell": ("CD79A", "MS4A1"),
}
TYPES = tuple(MARKERS)
WAVELENGTH_UM = 180.0  # of the regions in which a ligand or receptor is expressed; several times the signal's range
# sender, ligand, receiver, receptor. The first pair drives the outcome; the others are just as active and do not.
PAIRS = (
    ("caf", "CXCL12", "malignant", "CXCR4"),
    ("macrophage", "SPP1", "malignant", "CD44"),
    ("endothelial", "DLL4", "pericyte", "NOTCH3"),
    ("malignant", "CD274", "t_cd8", "PDCD1"),
    ("treg", "TGFB1", "t_cd8", "TGFBR2"),
)
N_BACKGROUND = 20
SITES = ("liver", "lung", "bone")


@dataclass(frozen=True)
class Noise:
    """How much stands between the tissue and its measurement, and between the signal and the outcome."""

    dispersion: float  # of the negative binomial counts; 0 is Poisson
    dropout: float  # share of counts that are lost
    wrong_type: float  # share of cells with another cell type than they are
    slope: float  # of the outcome's logit on the latent coupling


NOISE = {
    "none": Noise(0.0, 0.0, 0.0, 60.0),
    "low": Noise(0.2, 0.05, 0.01, 16.0),
    "high": Noise(1.0, 0.3, 0.08, 8.0),
}


@dataclass(frozen=True)
class SyntheticConfig:
    """A cohort of synthetic tumours.

    Parameters
    ----------
    n_patients, samples_per_patient, cells_per_sample
        Sizes.
    density
        grid: a lattice; uniform: random positions; mixed: dense and sparse regions.
    noise
        none, low or high; see NOISE.
    length_scale_um
        Range of the planted signal: it decays as exp(-distance / length_scale_um).
    seed
        Of everything; sample i of a cohort depends on (seed, i) alone.
    """

    n_patients: int = 80
    samples_per_patient: int = 1
    cells_per_sample: int = 700
    density: str = "uniform"
    noise: str = "low"
    length_scale_um: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.density not in DENSITIES or self.noise not in NOISE:
            raise ConfigError(
                f"Expected density in {DENSITIES} and noise in {tuple(NOISE)}, found {self.density!r} and {self.noise!r}."
            )
        if self.n_patients < 2 or self.samples_per_patient < 1 or self.cells_per_sample < 100:
            raise ConfigError(
                "Expected n_patients >= 2, samples_per_patient >= 1 and cells_per_sample >= 100, found "
                f"{self.n_patients}, {self.samples_per_patient} and {self.cells_per_sample}."
            )


@dataclass(frozen=True)
class SyntheticCohort:
    """Tables, a reader, and the truth.

    Attributes
    ----------
    samples, patients
        As in Cohort. Patients have `metastasis` (0/1), `time` (months) and `event`, `liver`, `lung`, `bone` (0/1/missing),
        `stage` (weakly informative) and `age` (not informative).
    truth
        `sender`, `ligand`, `receiver`, `receptor`, `length_scale_um`, and `coupling`: patient -> latent signal in (0, 1).
    """

    config: SyntheticConfig
    samples: pd.DataFrame
    patients: pd.DataFrame
    truth: dict
    read: Callable[[str], AnnData] = field(repr=False)

    def cohort(self) -> Cohort:
        """The same tumours as any cohort is read, under a name that tells configurations apart."""
        tag = zlib.crc32(repr(sorted(asdict(self.config).items())).encode())
        config = CohortConfig(
            name=f"synthetic-{tag:08x}", um_per_unit=1.0, feature_kind="counts", malignant_types=("malignant",)
        )
        return Cohort(config, self.samples, self.patients, self.read)


def generate(config: SyntheticConfig) -> SyntheticCohort:
    """Draw the patients of a cohort; their tissues are made when they are read."""
    rng = np.random.default_rng([config.seed, 0])
    n = config.n_patients
    high = rng.permutation(n) < n // 2
    coupling = np.where(high, rng.beta(14, 2, n), rng.beta(2, 14, n))
    logit = NOISE[config.noise].slope * (coupling - 0.5)
    metastasis = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    patients = pd.DataFrame(
        {"metastasis": metastasis, **_survival(rng, logit), **_sites(rng, metastasis), **_clinical(rng, metastasis)},
        index=pd.Index([f"patient{i:03d}" for i in range(n)], name=keys.PATIENT),
    )
    samples = pd.DataFrame(
        {keys.PATIENT: np.repeat(patients.index, config.samples_per_patient)},
        index=pd.Index(
            [f"{p}_{j}" for p in patients.index for j in range(config.samples_per_patient)], name=keys.SAMPLE
        ),
    )
    latent = dict(zip(patients.index, coupling))
    sender, ligand, receiver, receptor = PAIRS[0]
    truth = {
        "sender": sender, "ligand": ligand, "receiver": receiver, "receptor": receptor,
        "length_scale_um": config.length_scale_um, "coupling": latent,
    }  # fmt: skip
    number = {s: i for i, s in enumerate(samples.index)}

    def read(sample_id: str) -> AnnData:
        return make_tissue(config, latent[samples.at[sample_id, keys.PATIENT]], number[sample_id])

    return SyntheticCohort(config, samples, patients, truth, read)


def make_tissue(config: SyntheticConfig, coupling: float, number: int) -> AnnData:
    """One sample: raw counts, cell types, clones, positions in micrometres and the planted signal each cell receives."""
    rng = np.random.default_rng([config.seed, 1, number])
    noise = NOISE[config.noise]
    pos = _positions(rng, config)
    types = _types(rng, pos)
    states = {}
    for i, (sender, ligand, receiver, receptor) in enumerate(PAIRS):
        strength = coupling if i == 0 else rng.random()
        states |= _pair_states(rng, pos, types, (sender, ligand, receiver, receptor), strength)
    sender, ligand, receiver, receptor = PAIRS[0]
    signal = _received(pos, states[ligand], states[receptor], config.length_scale_um)
    genes, counts = _counts(rng, types, states, noise)
    wrong = rng.random(len(types)) < noise.wrong_type
    shown = np.where(wrong, rng.choice(TYPES, len(types)), types)
    obs = pd.DataFrame(
        {
            keys.CELL_TYPE: pd.Categorical(shown, categories=TYPES),
            keys.CLONE: pd.Categorical(_clones(rng, pos, types), categories=("A", "B", "C")),
            "true_signal": signal.astype(np.float32),
        },
        index=[f"cell{i}" for i in range(len(pos))],
    )
    return AnnData(
        sparse.csr_array(counts),
        obs=obs,
        var=pd.DataFrame(index=genes),
        obsm={keys.SPATIAL: pos.astype(np.float32)},
        uns={keys.UNS: {keys.UM_PER_UNIT: 1.0, keys.FEATURE_KIND: "counts"}},
    )


def _positions(rng: np.random.Generator, config: SyntheticConfig) -> np.ndarray:
    n = config.cells_per_sample
    side = SPACING_UM * np.sqrt(n)
    if config.density == "grid":
        columns = int(np.ceil(np.sqrt(n)))
        return SPACING_UM * np.stack(np.divmod(np.arange(n), columns), axis=1).astype(float)
    pos = rng.uniform(0, side, (4 * n, 2))
    if config.density == "mixed":
        wave = _field(rng, pos, wavelength=side / 2)
        pos = pos[rng.random(len(pos)) < np.where(wave > 0, 1.0, 0.3)]
    return _apart(pos, n)


def _apart(pos: np.ndarray, n: int, minimum_um: float = 5.0) -> np.ndarray:
    """The first n positions that keep cells from lying on top of each other."""
    crowded = {j for i, j in cKDTree(pos).query_pairs(minimum_um) if j > i}
    free = np.setdiff1d(np.arange(len(pos)), sorted(crowded))
    rest = np.setdiff1d(np.arange(len(pos)), free)
    return pos[np.concatenate([free, rest])[:n]]


def _types(rng: np.random.Generator, pos: np.ndarray) -> np.ndarray:
    """Tumour nests in stroma with vessels and a lymphoid aggregate; the borders of nests are the invasive front."""
    low, high = pos.min(0), pos.max(0)
    side = (high - low).max()
    corners = np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.25, 0.75]), axis=-1).reshape(-1, 2)
    nests = low + side * (corners + rng.uniform(-0.08, 0.08, corners.shape))
    in_nest = np.min(np.linalg.norm(pos[:, None] - nests, axis=2), axis=1) < 0.15 * side
    vessels = rng.uniform(low, high, (3, 2))
    at_vessel = np.min(np.linalg.norm(pos[:, None] - vessels, axis=2), axis=1) < 30
    in_aggregate = np.linalg.norm(pos - rng.uniform(low, high), axis=1) < 45
    nest = {"malignant": 0.82, "t_cd8": 0.05, "macrophage": 0.08, "caf": 0.05}
    stroma = {"caf": 0.45, "macrophage": 0.15, "t_cd8": 0.12, "treg": 0.06, "b_cell": 0.05, "endothelial": 0.05,
              "pericyte": 0.04, "epithelial_normal": 0.08}  # fmt: skip
    vessel = {"endothelial": 0.5, "pericyte": 0.3, "caf": 0.2}
    aggregate = {"b_cell": 0.6, "t_cd8": 0.2, "treg": 0.2}
    types = np.empty(len(pos), dtype=object)
    regions = np.select([in_nest, at_vessel, in_aggregate], [0, 1, 2], 3)
    for region, shares in enumerate((nest, vessel, aggregate, stroma)):
        where = regions == region
        types[where] = rng.choice(list(shares), where.sum(), p=list(shares.values()))
    return types.astype(str)


def _pair_states(
    rng: np.random.Generator, pos: np.ndarray, types: np.ndarray, pair: tuple[str, str, str, str], coupling: float
) -> dict[str, np.ndarray]:
    """Who expresses the ligand and the receptor of a pair: gene -> (N,) bool.

    A smooth field splits the tissue. Exactly half of the receivers express the receptor: those on its upper side. Exactly half
    of the senders express the ligand: with probability `coupling` the side of the receptor, else the other side. So only
    where the two lie relative to each other depends on `coupling`, and neither number does.
    """
    sender, ligand, receiver, receptor = pair
    height = _field(rng, pos, wavelength=WAVELENGTH_UM)
    receives = _upper_half(height, types == receiver)
    sides = np.where(rng.random(len(pos)) < coupling, height, -height)
    return {ligand: _upper_half(sides, types == sender), receptor: receives}


def _upper_half(height: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The half of the cells `among` with the largest height."""
    chosen = np.zeros(len(height), dtype=bool)
    members = np.flatnonzero(among)
    chosen[members[np.argsort(-height[members], kind="stable")[: len(members) // 2]]] = True
    return chosen


def _field(rng: np.random.Generator, pos: np.ndarray, wavelength: float) -> np.ndarray:
    """(N,) smooth random heights: a sum of plane waves of about this wavelength."""
    angle, phase = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0, 2 * np.pi, 6)
    k = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.25, 6))
    direction = np.stack((np.cos(angle), np.sin(angle)))
    return np.cos(pos @ direction * k + phase).sum(1)


def _received(pos: np.ndarray, sends: np.ndarray, receives: np.ndarray, length_scale_um: float) -> np.ndarray:
    """(N,) planted signal: sum over senders of exp(-d / length scale), at the cells that have the receptor."""
    out = np.zeros(len(pos))
    if sends.any() and receives.any():
        pairs = cKDTree(pos[receives]).sparse_distance_matrix(
            cKDTree(pos[sends]), 5 * length_scale_um, output_type="coo_matrix"
        )
        out[receives] = np.bincount(pairs.row, np.exp(-pairs.data / length_scale_um), minlength=receives.sum())
    return out


def _counts(
    rng: np.random.Generator, types: np.ndarray, states: dict[str, np.ndarray], noise: Noise
) -> tuple[list[str], np.ndarray]:
    markers = [g for genes in MARKERS.values() for g in genes]
    genes = [*markers, *states, *(f"BG{i:02d}" for i in range(N_BACKGROUND))]
    mean = np.full((len(types), len(genes)), 0.3)
    column = {g: i for i, g in enumerate(genes)}
    for name, own in MARKERS.items():
        mean[np.ix_(types == name, [column[g] for g in own])] = 6.0
    for gene, active in states.items():
        mean[active, column[gene]] = 6.0
    mean[:, len(markers) + len(states) :] = 2.0
    mean *= rng.lognormal(0.0, 0.25, (len(types), 1)) * rng.lognormal(0.0, 0.15)
    if noise.dispersion:
        mean *= rng.gamma(1 / noise.dispersion, noise.dispersion, mean.shape)
    return genes, rng.binomial(rng.poisson(mean), 1 - noise.dropout).astype(np.float32)


def _clones(rng: np.random.Generator, pos: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Malignant cells belong to the clone of the nearest of three founders; other cells to none."""
    founders = rng.uniform(pos.min(0), pos.max(0), (3, 2))
    nearest = np.linalg.norm(pos[:, None] - founders, axis=2).argmin(1)
    return np.where(types == "malignant", np.array(["A", "B", "C"])[nearest], None)


def _survival(rng: np.random.Generator, logit: np.ndarray) -> dict[str, np.ndarray]:
    """Months to metastasis under hazards that rise with the signal, censored at random."""
    risk = 1.2 * logit / max(np.abs(logit).max(), 1e-9)
    onset = rng.exponential(60.0 * np.exp(-2 * risk))
    censored = rng.uniform(20.0, 120.0, len(logit))
    return {"time": np.minimum(onset, censored) + 0.1, "event": (onset <= censored).astype(int)}


def _sites(rng: np.random.Generator, metastasis: np.ndarray) -> dict[str, np.ndarray]:
    out = {}
    for site in SITES:
        hit = (metastasis == 1) & (rng.random(len(metastasis)) < 0.6)
        out[site] = np.where(rng.random(len(metastasis)) < 0.2, np.nan, hit.astype(float))
    return out


def _clinical(rng: np.random.Generator, metastasis: np.ndarray) -> dict[str, np.ndarray]:
    severity = rng.normal(0, 1, len(metastasis)) + 0.6 * metastasis
    return {
        "stage": np.array(["I", "II", "III"])[np.digitize(severity, [-0.3, 0.8])],
        "age": rng.normal(62, 10, len(metastasis)).round(1),
    }
