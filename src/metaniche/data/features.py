"""Features: what a cell is, as numbers; every statistic is fitted on the samples handed to `fit` and on nothing else."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA

from metaniche.data.gene_sets import measured_sets
from metaniche.data.library import Library
from metaniche.data.sample import PreparedSample, shared_features, types_in
from metaniche.errors import ConfigError, InputError
from metaniche.io.matrices import log_normalised
from metaniche.io.wording import listed

log = logging.getLogger(__name__)

FIT_CELLS = 50_000  # statistics are fitted on at most this many cells, the same number from every patient
LEAST_GENES = 3  # of a set that must be measured to score it
CLIP = 8.0  # standard deviations; keeps one bright pixel from owning a network


@dataclass(frozen=True)
class FeatureConfig:
    """What to use of a sample.

    Parameters
    ----------
    use_types
        Cell types, a standardised column each.
    use_expression
        Counts (log-normalised) or intensities (arcsinh), standardised.
    n_top
        Most variable features kept, chosen on the fitted samples; 0 keeps all.
    n_components
        Principal components after standardisation; 0 keeps the features themselves.
    gene_sets
        Cell states by name (see `data.gene_sets`): each adds the mean of its standardised genes, standardised again, whether
        the genes are among the `n_top` or not.
    """

    use_types: bool = True
    use_expression: bool = True
    n_top: int = 0
    n_components: int = 0
    gene_sets: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """A fitted map from a PreparedSample to (N, F) float32.

    Missing features take the training mean (0 after standardisation), so "not measured" is never read as "zero";
    `coverage` says how much was measured. Counts are taken per `library`, that of the training's panel.
    """

    config: FeatureConfig
    kind: str
    types: tuple[str, ...] = ()
    genes: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    state_genes: tuple[str, ...] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    panel: tuple[str, ...] | None = None

    @classmethod
    def fit(cls, samples: Sequence[PreparedSample], config: FeatureConfig, seed: int = 0) -> Features:
        """Choose and scale features on these samples. Raises InputError where nothing is left to use."""
        kinds = {s.feature_kind for s in samples}
        if len(kinds) != 1:
            raise InputError(f"Expected samples of one feature kind, found {sorted(kinds)}. Fit them apart.")
        kind = kinds.pop()
        library = Library.fit(samples) if kind == "counts" else None
        panel = library and library.genes
        types = types_in(samples) if config.use_types else ()
        arrays = {"type_share": _type_shares(samples, types)} if types else {}
        arrays |= {} if library is None else {"panel_share": library.share}
        if not config.use_expression or kind == "none":
            if config.gene_sets:
                log.warning("Cell states are not scored: no gene or marker is used of these samples.")
            if not types:
                raise InputError(
                    "Expected cell types or measured features, found neither. Give obs['cell_type'] or a matrix X."
                )
            return cls(config, kind, types, arrays=arrays, panel=panel)
        genes, values = _training_matrix(samples, library, seed)
        cofactor = _positive_median(values) if kind == "intensity" else None
        values = values if cofactor is None else np.arcsinh(values / cofactor)
        states: tuple[str, ...] = ()
        state_genes: tuple[str, ...] = ()
        if config.gene_sets:
            states, state_genes, of_states = _fit_states(config.gene_sets, genes, values, cofactor)
            arrays |= of_states
        keep = _most_variable(values, config.n_top)
        genes, values = tuple(genes[i] for i in keep), values[:, keep]
        if cofactor is not None:
            arrays["cofactor"] = cofactor[keep]
        arrays["mean"] = values.mean(0)
        arrays["scale"] = np.maximum(values.std(0), 1e-3)
        if config.n_components:
            scaled = _standardise(values, arrays)
            n = min(config.n_components, *scaled.shape)
            pca = PCA(n, svd_solver="covariance_eigh" if scaled.shape[1] <= 1000 else "randomized", random_state=seed)
            scores = pca.fit_transform(scaled)
            arrays["components"] = pca.components_ / np.maximum(scores.std(0), 1e-3)[:, None]
        arrays = {k: v.astype(np.float32) for k, v in arrays.items()}
        return cls(config, kind, types, genes, states, state_genes, arrays, panel)

    @cached_property
    def library(self) -> Library | None:
        """Of counts: over which genes a library is taken; None of intensities."""
        return None if self.panel is None else Library(self.panel, self.arrays["panel_share"])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the F columns."""
        expression = self.genes
        if "components" in self.arrays:
            expression = tuple(f"PC{i + 1}" for i in range(len(self.arrays["components"])))
        return (*self.types, *expression, *(f"state: {name}" for name in self.states))

    @property
    def basis(self) -> str | None:
        """Names the principal components: PC1 of one fit is another's PC1 only where these agree. None without components."""
        if "components" not in self.arrays:
            return None
        content = [self.arrays[key].tobytes() for key in ("mean", "scale", "components")]
        return hashlib.sha256("\n".join(self.genes).encode() + b"".join(content)).hexdigest()[:16]

    def transform(self, sample: PreparedSample) -> np.ndarray:
        """(N, F) float32 for one sample, whatever the order of its features."""
        blocks = []
        if self.types:
            blocks.append(self._types(sample))
        if self.genes:
            blocks.append(self._expression(sample))
        if self.states:
            blocks.append(self.state_scores(sample))
        return np.concatenate(blocks, axis=1)

    def state_scores(self, sample: PreparedSample) -> np.ndarray:
        """(N, S) float32 score of each cell state, in standard deviations of the training cells."""
        scaled = self._scaled(sample.x, sample.features, self.state_genes, "state_")
        scores = (scaled @ self.arrays["state_weight"] - self.arrays["state_centre"]) / self.arrays["state_spread"]
        return np.clip(scores, -CLIP, CLIP).astype(np.float32)

    def coverage(self, sample: PreparedSample) -> float:
        """The smallest of `coverages`: how much of what the features need was measured, in [0, 1]."""
        return min(self.coverages(sample).values())

    def coverages(self, sample: PreparedSample) -> dict[str, float]:
        """The share of known "genes" (or markers) and of genes of cell "states" that were measured, and of cells with a known
        type ("types").
        """
        shares = {}
        if self.genes:
            shares["genes"] = float(np.isin(self.genes, sample.features).mean())
        if self.states:
            shares["states"] = float(np.isin(self.state_genes, sample.features).mean())
        if self.types:
            shares["types"] = float(_one_hot(sample, self.types).any(axis=1).mean())
        return shares

    def state(self) -> dict:
        """Everything but the arrays, as plain JSON types."""
        panel = {} if self.panel is None else {"panel": list(self.panel)}
        return {
            "config": asdict(self.config), "kind": self.kind, "types": list(self.types), "genes": list(self.genes),
            "states": list(self.states), "state_genes": list(self.state_genes), **panel,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: dict, arrays: dict[str, np.ndarray]) -> Features:
        """The inverse of `state`; `arrays` are those of the fitted object."""
        try:
            config = FeatureConfig(**state["config"])
            names = [tuple(state[key]) for key in ("states", "state_genes")]
            panel = tuple(state["panel"]) if "panel" in state else None  # intensities have none
            if panel is not None and len(panel) != len(arrays["panel_share"]):
                raise TypeError(f"a panel of {len(panel)} genes and {len(arrays['panel_share'])} shares")
            fixed = state["kind"], tuple(state["types"]), tuple(state["genes"])
            return cls(config, *fixed, *names, dict(arrays), panel)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"Expected the state of Features, found keys {sorted(state)}: {error}.") from error

    def _types(self, sample: PreparedSample) -> np.ndarray:
        """One column per type, scaled as markers are, so that a rare type weighs no less; an unknown type is all zeros."""
        one_hot = _one_hot(sample, self.types)
        share = self.arrays["type_share"]
        scaled = np.clip((one_hot - share) / np.sqrt(share * (1 - share) + 1e-6), -CLIP, CLIP)
        return np.where(one_hot.any(axis=1, keepdims=True), scaled, 0.0).astype(np.float32)

    def standardised(self, sample: PreparedSample, rows: slice = slice(None)) -> np.ndarray:
        """(n, M) float32 of the `rows` in graph order and the M genes or markers that were measured: standard deviations
        from the training mean, clipped at CLIP."""
        return self._scaled(sample.x[rows], sample.features, self.genes)[:, np.isin(self.genes, sample.features)]

    def _expression(self, sample: PreparedSample) -> np.ndarray:
        scaled = self._scaled(sample.x, sample.features, self.genes)
        if "components" in self.arrays:
            scaled = scaled @ self.arrays["components"].T
        return scaled.astype(np.float32)

    def _scaled(
        self, x: np.ndarray | sparse.csr_array, names: Sequence[str], genes: Sequence[str], of: str = ""
    ) -> np.ndarray:
        """(n, G): raw values of features `names` as standardised `genes`, whose arrays begin with `of`; one that was not
        measured is 0.
        """
        arrays = {key: self.arrays[of + key] for key in ("mean", "scale")}
        column = {name: i for i, name in enumerate(names)}
        measured = np.array([g in column for g in genes])
        source = np.array([column[g] for g in genes if g in column], dtype=np.int64)
        values = np.tile(arrays["mean"], (x.shape[0], 1))
        if source.size:
            values[:, measured] = _dense(self._normalised(x, names)[:, source])
            if self.kind == "intensity":
                values[:, measured] = np.arcsinh(values[:, measured] / self.arrays[f"{of}cofactor"][measured])
        return _standardise(values, arrays)

    def _normalised(self, x: np.ndarray | sparse.csr_array, names: Sequence[str]) -> np.ndarray | sparse.csr_array:
        """Counts log-normalised, cell by cell; intensities stay as they are."""
        if self.kind != "counts":
            return x
        return log_normalised(x, self.library and self.library.sizes(x, names))


def _training_matrix(
    samples: Sequence[PreparedSample], library: Library | None, seed: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Features measured in every sample, and (n, G) normalised values of an equal number of cells per patient."""
    genes = shared_features(samples)
    if not genes:
        raise InputError(
            f"Expected features measured in all {len(samples)} training samples, found none in common. "
            "Check gene ids (symbols or Ensembl) and species."
        )
    per_patient = max(1, FIT_CELLS // len({s.patient_id for s in samples}))
    rng = np.random.default_rng(seed)
    blocks = []
    for sample in samples:
        n_siblings = sum(s.patient_id == sample.patient_id for s in samples)
        rows = rng.permutation(sample.n_cells)[: max(1, per_patient // n_siblings)]
        column = {name: i for i, name in enumerate(sample.features)}
        x = sample.x[np.sort(rows)]
        x = x if library is None else log_normalised(x, library.sizes(x, sample.features))
        blocks.append(_dense(x[:, np.array([column[g] for g in genes])]))
    return genes, np.concatenate(blocks)


def _fit_states(
    sets: Mapping[str, Sequence[str]], genes: Sequence[str], values: np.ndarray, cofactor: np.ndarray | None
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the states that the panel measures, their genes, and what scores them: weights (G, S), a mean over each set's
    genes that vary, and the mean and spread of that over the training cells."""
    varying = {gene: i for i, gene in enumerate(genes) if values[:, i].std() > 0}
    here, few = measured_sets(sets, varying, LEAST_GENES)
    if few:
        log.info("Cell states without %d genes that are measured and vary are left out: %s", LEAST_GENES, listed(few))
    used = tuple(dict.fromkeys(gene for of_one in here.values() for gene in of_one))
    columns = [varying[gene] for gene in used]
    values = values[:, columns]
    fitted = {"mean": values.mean(0), "scale": np.maximum(values.std(0), 1e-3)}
    arrays = {f"state_{name}": array for name, array in fitted.items()}
    if cofactor is not None:
        arrays["state_cofactor"] = cofactor[columns]
    place = {gene: i for i, gene in enumerate(used)}
    weight = np.zeros((len(used), len(here)))
    for number, of_one in enumerate(here.values()):
        weight[[place[gene] for gene in of_one], number] = 1 / len(of_one)
    scores = _standardise(values, fitted) @ weight
    arrays |= {
        "state_weight": weight,
        "state_centre": scores.mean(0),
        "state_spread": np.maximum(scores.std(0), 1e-3),
    }
    return tuple(here), used, arrays


def _type_shares(samples: Sequence[PreparedSample], types: tuple[str, ...]) -> np.ndarray:
    """Mean share of each type over patients, every patient alike."""
    shares = pd.DataFrame([_one_hot(s, types).mean(0) for s in samples], index=[s.patient_id for s in samples])
    return shares.groupby(level=0).mean().mean().to_numpy(np.float32)


def _standardise(values: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.clip((values - arrays["mean"]) / arrays["scale"], -CLIP, CLIP)


def _most_variable(values: np.ndarray, n_top: int) -> np.ndarray:
    """Columns of the largest variance among features of alike mean (bins of about 50), in their own order."""
    varying = np.flatnonzero(values.std(0) > 0)
    if varying.size == 0:
        raise InputError("Expected features that vary between training cells, found none. Is X all zero?")
    if not n_top or varying.size <= n_top:
        return varying
    log_variance = pd.Series(np.log(values[:, varying].var(0)))
    rank = values[:, varying].mean(0).argsort(kind="stable").argsort()
    n_bins = max(1, varying.size // 50)
    excess = log_variance - log_variance.groupby(rank * n_bins // varying.size).transform("median")
    return np.sort(varying[np.argsort(-excess, kind="stable")[:n_top]])


def _positive_median(values: np.ndarray) -> np.ndarray:
    """Median of each column's positive values, 1 where there is none."""
    positive = np.where(values > 0, values, np.nan)
    empty = np.isnan(positive).all(0)
    positive[0, empty] = 1.0
    return np.nanmedian(positive, axis=0)


def _one_hot(sample: PreparedSample, types: tuple[str, ...]) -> np.ndarray:
    """(N, K) float32; a cell of an unknown type has a row of zeros."""
    out = np.zeros((sample.n_cells, len(types)), dtype=np.float32)
    if sample.cell_types is None:
        return out
    column = {name: i for i, name in enumerate(types)}
    to_column = np.array([column.get(str(c), -1) for c in sample.cell_types.categories] + [-1])
    target = to_column[sample.cell_types.codes]
    known = np.flatnonzero(target >= 0)
    out[known, target[known]] = 1.0
    return out


def _dense(x: np.ndarray | sparse.csr_array) -> np.ndarray:
    return x.toarray() if sparse.issparse(x) else np.asarray(x)
