"""One synthetic tumour sample as arrays: where cells stand, what they are, who sends and who receives, their counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from metaniche.errors import ConfigError

DENSITIES = ("grid", "uniform", "mixed")
AWAY = ("stroma", "other_clone")  # where senders stand that nobody hears
CAUSES = ("signals", "seed", "soil")
STATE = {
    "seed": "MKI67",
    "soil": "LDHA",
}  # gene of the cells' state that decides, of malignant cells or of those around them
SPACING_UM = 12.0

# Type -> expected share of cells; each sample varies around it, whatever its outcome.
SHARES = {
    "malignant": 0.38,
    "epithelial_normal": 0.05,
    "endothelial": 0.05,
    "pericyte": 0.03,
    "t_cd8": 0.07,
    "treg": 0.03,
    "b_cell": 0.04,
    "macrophage": 0.07,
    "caf": 0.28,
}
TYPES = tuple(SHARES)
SHARE_SD = 0.15
CLONES = ("clone_a", "clone_b", "clone_c")
CLONE_SHARES = (0.4, 0.4, 0.2)
SENDING_SHARE = 0.3
REGIONS = ("core", "front", "stroma")
ATTEMPTS = 200

MARKERS = {
    "malignant": ("EPCAM", "KRT8", "KRT19"),
    "epithelial_normal": ("EPCAM", "KRT8", "KRT5"),
    "endothelial": ("PECAM1", "VWF", "CDH5"),
    "pericyte": ("RGS5", "CSPG4", "MCAM"),
    "t_cd8": ("CD3E", "CD8A", "GZMB"),
    "treg": ("CD3E", "FOXP3", "IL2RA"),
    "b_cell": ("MS4A1", "CD79A", "CD19"),
    "macrophage": ("CD68", "CD163", "CSF1R"),
    "caf": ("COL1A1", "PDGFRA", "FAP"),
}
BACKGROUND = (
    "ACTB", "GAPDH", "B2M", "RPLP0", "RPS18", "EEF1A1", "TUBB", "HSP90AB1", "PPIA", "UBC", "YWHAZ", "SDHA",
    "TBP", "HPRT1", "PGK1", "LDHA", "ENO1", "VIM", "MKI67", "JUN", "FOS", "MYC", "TP53", "CDKN1A",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A ligand of one cell type, its receptor on another, and how far the ligand reaches."""

    ligand: str
    receptor: str
    sender: str
    receiver: str
    length_scale_um: float


DRIVER = Pair("CXCL12", "CXCR4", "caf", "malignant", 25.0)
DECOYS = (
    Pair("VEGFA", "KDR", "malignant", "endothelial", 60.0),
    Pair("PDGFB", "PDGFRB", "endothelial", "pericyte", 15.0),
    Pair("CD274", "PDCD1", "malignant", "t_cd8", 10.0),
    Pair("CCL5", "CCR5", "macrophage", "t_cd8", 50.0),
    Pair("CSF1", "IL34R", "caf", "macrophage", 40.0),
    Pair("CXCL13", "CXCR5", "treg", "b_cell", 50.0),
)
PAIRS = (DRIVER, *DECOYS)
RANGE_SCALES = 2.0  # a ligand acts up to this many length scales
FULL_SIGNAL = 0.45  # mean of exp(-d / length_scale) sums over malignant cells that latent signal 1 stands for


@dataclass(frozen=True)
class Noise:
    """How far counts and labels are from the truth.

    `library_sd` and `patient_sd` are log-normal (per cell; per gene and patient), `dispersion` that of the negative
    binomial, `dropout` the share of counts lost whole, `type_error` the share of cells with another cell's type.
    Without `sampled` counts are the expected ones, rounded.
    """

    sampled: bool = True
    library_sd: float = 0.0
    patient_sd: float = 0.0
    dispersion: float = 0.0
    dropout: float = 0.0
    type_error: float = 0.0


NOISE = {
    "none": Noise(sampled=False),
    "low": Noise(library_sd=0.2, patient_sd=0.05, dispersion=0.1),
    "high": Noise(library_sd=0.5, patient_sd=0.3, dispersion=0.5, dropout=0.3, type_error=0.05),
}

ON, OFF, STRAY = 12.0, 0.1, 0.05  # expected counts: expressed, silent in a type that could, elsewhere


@dataclass(frozen=True)
class Tissue:
    """Truth about N cells: `pos_um` (N, 2), codes of `types` and `regions`, `clones` (-1: none), (N,) `sends` and
    `receives` of the driver, and (N,) `signal` received over it.
    """

    pos_um: np.ndarray
    types: np.ndarray
    clones: np.ndarray
    regions: np.ndarray
    sends: np.ndarray
    receives: np.ndarray
    signal: np.ndarray


def gene_panel(n_genes: int) -> tuple[str, ...]:
    """Markers, ligands, receptors, then as many background genes as `n_genes` allows."""
    named = [*(g for genes in MARKERS.values() for g in genes), *(g for p in PAIRS for g in (p.ligand, p.receptor))]
    named = list(dict.fromkeys(named))
    more = [*BACKGROUND, *(f"BACKGROUND{i}" for i in range(1, max(n_genes - len(named) - len(BACKGROUND), 0) + 1))]
    return (*named, *more[: max(n_genes - len(named), 0)])


def grow(
    n_cells: int, density: str, signal: float, pair: Pair, rng: np.random.Generator, away: str = "stroma"
) -> Tissue:
    """Tissue in which the mean signal over the malignant cells is `signal`, or as near as one more sender brings it.

    A clone of the tumour has the receptor. Sending fibroblasts stand where that clone is in reach, or where it is not: deep
    in the stroma where no malignant cell is (`away`=stroma), or beside a clone without the receptor (other_clone), so that
    only who could hear tells them apart; `signal` decides how many stand where, and nothing else: all positions, types,
    clones and the number of senders are drawn without knowledge of it. Tissue that could not carry both signal 1 and
    signal 0 is drawn again, whatever its outcome.
    """
    reach = RANGE_SCALES * pair.length_scale_um
    for _ in range(ATTEMPTS):
        pos = _positions(n_cells, density, rng)
        types = _types(pos, rng)
        clones = _clones(pos, types, rng)
        senders = np.flatnonzero(types == TYPES.index(pair.sender))
        n_sending = round(SENDING_SHARE * len(senders))
        heard = reached(pos[senders], pos[clones == 0], pair.length_scale_um, reach) / (clones >= 0).sum()
        near = rng.permutation(np.flatnonzero(heard))
        unheard = reached(pos[senders], pos[clones >= 0], 1.0, reach) == 0
        if away == "other_clone":
            unheard = (heard == 0) & (reached(pos[senders], pos[clones == 1], 1.0, reach) > 0)
        far = rng.permutation(np.flatnonzero(unheard))
        if len(far) >= n_sending and heard[near[:n_sending]].sum() >= FULL_SIGNAL:
            break
    else:
        raise ConfigError(
            f"Expected a synthetic sample with room for tumour nests and stroma, found {n_cells} cells. "
            "Raise n_cells to 300 or more."
        )
    carried = np.concatenate(([0.0], heard[near].cumsum()))[: n_sending + 1]
    n_heard = int(np.abs(carried - signal * FULL_SIGNAL).argmin())
    chosen = senders[np.concatenate((near[:n_heard], far[: n_sending - n_heard]))]
    sends, receives = np.isin(np.arange(n_cells), chosen), clones == 0
    received = np.zeros(n_cells)
    received[receives] = reached(pos[receives], pos[sends], pair.length_scale_um, reach) / FULL_SIGNAL
    return Tissue(pos, types, clones, _regions(pos, types), sends, receives, received)


def reached(at: np.ndarray, sources: np.ndarray, length_scale_um: float, reach_um: float) -> np.ndarray:
    """(len(at),) sum over `sources` within `reach_um` of exp(-d / length_scale)."""
    if not len(at) or not len(sources):
        return np.zeros(len(at))
    pairs = cKDTree(at).sparse_distance_matrix(cKDTree(sources), reach_um, output_type="ndarray")
    return np.bincount(pairs["i"], np.exp(-pairs["v"] / length_scale_um), minlength=len(at))


def counts(
    tissue: Tissue,
    panel: tuple[str, ...],
    noise: Noise,
    batch: np.ndarray,
    rng: np.random.Generator,
    state: tuple[str, float] | None = None,
):
    """(N, G) float32 CSR of counts; `batch` (G,) multiplies the expected counts (a patient's own bias per gene).

    With `state`, a cause and a level from 0 to 1, that share of the malignant cells, or of the cells that touch them, is in
    the state of that cause.
    """
    n = len(tissue.types)
    column = {gene: i for i, gene in enumerate(panel)}
    level = np.tile(np.where([g in _NAMED for g in panel], STRAY, _background_level(panel)), (n, 1))
    for code, name in enumerate(TYPES):
        cells = np.flatnonzero(tissue.types == code)
        for gene in MARKERS[name]:
            level[cells, column[gene]] = ON
    for pair in PAIRS:
        for gene, name, acts in (
            (pair.ligand, pair.sender, tissue.sends),
            (pair.receptor, pair.receiver, tissue.receives),
        ):
            cells = tissue.types == TYPES.index(name)
            if pair is not DRIVER:
                field = _field(tissue.pos_um, 40.0, rng)
                acts = field > np.median(field[cells]) if cells.any() else cells
            level[:, column[gene]] = np.where(cells, np.where(acts, ON, OFF), STRAY)
    if state is not None:
        level[_in_state(tissue, *state, rng), column[STATE[state[0]]]] = ON
    level *= batch
    if not noise.sampled:
        return sparse.csr_array(np.rint(level), dtype=np.float32)
    level *= rng.lognormal(0.0, noise.library_sd, (n, 1))
    if noise.dispersion:
        level *= rng.gamma(1 / noise.dispersion, noise.dispersion, level.shape)
    drawn = rng.poisson(level)
    if noise.dropout:
        drawn[rng.random(drawn.shape) < noise.dropout] = 0
    return sparse.csr_array(drawn, dtype=np.float32)


def _in_state(tissue: Tissue, cause: str, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cells in the state of the cause: a share of the malignant ones, or of the others that stand within 30 um of one."""
    malignant = tissue.types == TYPES.index("malignant")
    near = reached(tissue.pos_um, tissue.pos_um[malignant], 1.0, 30.0) > 0
    eligible = np.flatnonzero(malignant if cause == "seed" else near & ~malignant)
    return rng.permutation(eligible)[: round(share * len(eligible))]


_NAMED = frozenset(gene_panel(0))


def _background_level(panel: tuple[str, ...]) -> np.ndarray:
    """Expected counts of housekeeping genes: from 0.2 to 4, the same in every cohort."""
    return np.geomspace(0.2, 4.0, len(panel))


def _field(pos: np.ndarray, scale_um: float, rng: np.random.Generator) -> np.ndarray:
    """(N,) a smooth random function of place that changes over `scale_um`: a sum of random plane waves."""
    waves = rng.normal(0.0, 1.0 / scale_um, (2, 24))
    return np.cos(pos @ waves + rng.uniform(0, 2 * np.pi, 24)).mean(axis=1)


def _positions(n: int, density: str, rng: np.random.Generator) -> np.ndarray:
    side = int(np.ceil(np.sqrt(n)))
    extent = side * SPACING_UM
    if density == "uniform":
        return rng.uniform(0, extent, (n, 2))
    grid = np.stack(np.divmod(np.arange(side**2), side), axis=1) * SPACING_UM
    pos = grid[np.sort(rng.permutation(side**2)[:n])].astype(float)
    if density == "mixed":
        loose = _field(pos, 80.0, rng) > 0
        pos[loose] += rng.uniform(-SPACING_UM, SPACING_UM, (loose.sum(), 2))
    return pos


def _types(pos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each type takes its share of the cells where its own field is highest, in the order of SHARES."""
    n = len(pos)
    share = np.array(list(SHARES.values())) * rng.lognormal(0.0, SHARE_SD, len(SHARES))
    quota = np.floor(n * share / share.sum()).astype(int)
    vessel = -np.abs(_field(pos, 80.0, rng))  # the zero line of a smooth field winds through the tissue
    infiltrate = _field(pos, 60.0, rng)
    wishes = {
        "malignant": _field(pos, 60.0, rng),
        "epithelial_normal": _field(pos, 80.0, rng),
        "endothelial": vessel,
        "pericyte": vessel,
        **dict.fromkeys(("t_cd8", "treg", "b_cell", "macrophage"), infiltrate),
    }
    types = np.full(n, TYPES.index("caf"))
    free = np.ones(n, bool)
    for code, name in enumerate(TYPES[:-1]):
        spread = rng.normal(0.0, 0.03 if name != "macrophage" else 0.15, n)
        chosen = np.argsort(np.where(free, wishes[name] + spread, -np.inf))[n - quota[code] :]
        types[chosen], free[chosen] = code, False
    return types


def _clones(pos: np.ndarray, types: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) clone of each malignant cell: the first holds one end of a smooth field, the second the other end."""
    malignant = np.flatnonzero(types == TYPES.index("malignant"))
    order = malignant[np.argsort(_field(pos[malignant], 90.0, rng))]
    size = round(CLONE_SHARES[0] * len(order))
    clones = np.full(len(pos), -1)
    clones[order] = 2
    clones[order[:size]], clones[order[len(order) - size :]] = 0, 1
    return clones


def _regions(pos: np.ndarray, types: np.ndarray) -> np.ndarray:
    """(N,) 0 core, 1 invasive front, 2 stroma, by the share of malignant cells within 40 um."""
    tree = cKDTree(pos)
    around = tree.query_ball_point(pos, 40.0, return_length=True)
    malignant = cKDTree(pos[types == TYPES.index("malignant")]).query_ball_point(pos, 40.0, return_length=True)
    return np.digitize(-malignant / around, [-0.75, -0.25])
