"""What simple models see of a patient: composition, density, pseudobulk, neighbourhoods; fitted on training only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import ConvexHull, QhullError
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from metaniche.data.features import FeatureConfig, Features
from metaniche.data.library import Library
from metaniche.data.sample import PreparedSample, types_in
from metaniche.errors import InputError
from metaniche.graph import CellGraph

UM2_PER_MM2 = 1e6
PER_MILLION = 1e6


class Block(Protocol):
    """A table of features whose every statistic comes from the samples it was fitted on."""

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> Self: ...

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        """A row per unit in the order given; NaN where a sample does not measure a feature."""
        ...


@dataclass
class Composition:
    """Shares of cell types: plain, or their centred log-ratios (Aitchison 1982) when `clr`.

    `pseudo` is added to each share before the logarithm.
    """

    clr: bool = False
    pseudo: float = 1e-3
    types: tuple[str, ...] = field(default=(), init=False, repr=False)

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> Composition:
        self.types = training_types(samples)
        return self

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        shares = average_over_samples(samples, level, unit_ids, self._shares, self.types)
        if not self.clr:
            return shares
        logs = np.log(shares + self.pseudo)
        return logs.sub(logs.mean(axis=1), axis=0)

    def _shares(self, sample: PreparedSample) -> np.ndarray:
        counts, total = type_counts(sample, self.types)
        return counts / total if total else np.full(counts.size, np.nan)


@dataclass
class Density:
    """log(1 + cells per mm2), all together and by type; the area is that of the convex hull of a sample's cells."""

    types: tuple[str, ...] = field(default=(), init=False, repr=False)

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> Density:
        self.types = training_types(samples) if any(s.cell_types is not None for s in samples) else ()
        return self

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        return average_over_samples(samples, level, unit_ids, self._densities, ("all cells", *self.types))

    def _densities(self, sample: PreparedSample) -> np.ndarray:
        counts, typed = type_counts(sample, self.types)
        if self.types and not typed:
            counts = np.full(counts.size, np.nan)
        return np.log1p(np.append(sample.n_cells, counts) / area_mm2(sample))


@dataclass
class Pseudobulk:
    """Mean expression of a sample.

    Counts are summed over cells, scaled to counts per million of the training's panel (`data.library`) and logged; of the
    features measured in every training sample and expressed above `min_cpm` on average, the `n_top` most variable between
    training patients are kept.
    Intensities: mean over cells of arcsinh values, standardised on training cells.
    """

    n_top: int = 200
    min_cpm: float = 10.0
    genes: tuple[str, ...] = field(default=(), init=False, repr=False)
    features: Features | None = field(default=None, init=False, repr=False)
    library: Library | None = field(default=None, init=False, repr=False)

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> Pseudobulk:
        if samples[0].feature_kind == "intensity":
            self.features = Features.fit(samples, FeatureConfig(use_types=False), seed)
            self.genes = self.features.names
            return self
        self.features, self.library = None, Library.fit(samples)
        self.genes = tuple(sorted(self.library.genes))
        if not self.genes:
            raise InputError(
                "Expected features measured in every training sample, found none in common. Check gene ids."
            )
        patients = list(dict.fromkeys(s.patient_id for s in samples))
        bulk = self.transform(samples, "patient", patients).to_numpy()
        expressed = np.flatnonzero(bulk.mean(0) >= np.log1p(self.min_cpm))
        kept = expressed if expressed.size else np.arange(len(self.genes))
        top = kept[np.argsort(-bulk[:, kept].var(0), kind="stable")[: self.n_top]]
        self.genes = tuple(self.genes[i] for i in np.sort(top))
        return self

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        return average_over_samples(samples, level, unit_ids, self._bulk, self.genes)

    def _bulk(self, sample: PreparedSample) -> np.ndarray:
        if self.features is not None:
            return self.features.transform(sample).mean(0)
        column = {name: i for i, name in enumerate(sample.features)}
        source = np.array([column.get(g, -1) for g in self.genes])
        total = np.asarray(sample.x.sum(axis=0), dtype=float).ravel()
        size = float(self.library.sizes(total[None], sample.features)[0])
        cpm = np.log1p(total * (PER_MILLION / max(size, 1.0)))
        return np.where(source >= 0, cpm[source], np.nan)


@dataclass
class Neighbourhoods:
    """Shares of cellular neighbourhoods (Schurch 2020, doi:10.1016/j.cell.2020.07.005).

    A cell's surroundings are the mean over itself and its neighbours in the graph (of a draw of them, every one as it is) of
    cell types, or of expression components where the source has no types; k-means over those of an equal number of training
    cells per patient finds `n_clusters` of them.
    """

    n_clusters: int = 10
    use_types: bool = True
    n_components: int = 20
    fit_cells: int = 20_000
    features: Features | None = field(default=None, init=False, repr=False)
    clusters: MiniBatchKMeans | None = field(default=None, init=False, repr=False)

    def fit(self, samples: Sequence[PreparedSample], seed: int) -> Neighbourhoods:
        components = 0 if self.use_types else self.n_components
        config = FeatureConfig(self.use_types, not self.use_types, n_top=1000, n_components=components)
        self.features = Features.fit(samples, config, seed)
        rng = np.random.default_rng(seed)
        siblings = pd.Series([s.patient_id for s in samples]).value_counts()
        windows = []
        for sample in samples:
            share = self.fit_cells // (siblings.size * siblings[sample.patient_id])
            rows = rng.permutation(sample.n_cells)[: max(1, share)]
            windows.append(self._windows(sample)[rows])
        stacked = np.concatenate(windows)
        clusters = min(self.n_clusters, np.unique(stacked, axis=0).shape[0])
        with _one_thread():
            self.clusters = MiniBatchKMeans(clusters, random_state=seed, n_init=3).fit(stacked)
        return self

    def transform(self, samples: Sequence[PreparedSample], level: str, unit_ids: Sequence[str]) -> pd.DataFrame:
        names = tuple(f"CN{i + 1}" for i in range(self.clusters.n_clusters))
        with _one_thread():
            return average_over_samples(samples, level, unit_ids, self._shares, names)

    def _shares(self, sample: PreparedSample) -> np.ndarray:
        label = self.clusters.predict(self._windows(sample))
        return np.bincount(label, minlength=self.clusters.n_clusters) / sample.n_cells

    def _windows(self, sample: PreparedSample) -> np.ndarray:
        return neighbour_mean(sample.graph, self.features.transform(sample), include_self=True)


def _one_thread() -> threadpool_limits:
    """k-means opens many short parallel regions; beside torch's threads each of them waits for a core to be free."""
    return threadpool_limits(1, user_api="openmp")


def average_over_samples(
    samples: Sequence[PreparedSample],
    level: str,
    unit_ids: Sequence[str],
    measure: Callable[[PreparedSample], np.ndarray],
    names: Sequence[str],
) -> pd.DataFrame:
    """Measure each sample and average within the unit: every sample of a patient counts the same, whatever its size."""
    unit = [s.patient_id if level == "patient" else s.sample_id for s in samples]
    wanted = set(unit_ids)
    kept = [(u, s) for u, s in zip(unit, samples) if u in wanted]
    absent = wanted.difference(unit)
    if absent:
        raise InputError(
            f"Expected samples of every {level} to predict, found none of {len(absent)} (first: {min(absent)}). "
            f"Pass their samples, or leave the {level}s out."
        )
    rows = pd.DataFrame([measure(s) for _, s in kept], index=[u for u, _ in kept], columns=list(names), dtype=float)
    return rows.groupby(level=0).mean().loc[list(unit_ids)].rename_axis("unit_id")


def training_types(samples: Sequence[PreparedSample]) -> tuple[str, ...]:
    """Cell types seen in these samples, sorted. Raises InputError where there is none."""
    seen = types_in(samples)
    if not seen:
        raise InputError(
            "Expected cell types, found none in the training samples. Give obs['cell_type'], or use other models."
        )
    return seen


def type_counts(sample: PreparedSample, types: Sequence[str]) -> tuple[np.ndarray, int]:
    """Cells of each type, and the number of cells whose type is given at all."""
    if sample.cell_types is None:
        return np.zeros(len(types)), 0
    counts = pd.Series(sample.cell_types).value_counts()
    counts.index = counts.index.astype(str)
    return counts.reindex(list(types), fill_value=0).to_numpy(float), int(counts.sum())


def area_mm2(sample: PreparedSample) -> float:
    """Area of the convex hull of the cells in the plane; NaN where the cells span none."""
    plane = sample.graph.pos_um[:, :2].numpy()
    try:
        return ConvexHull(plane).volume / UM2_PER_MM2
    except (QhullError, ValueError):
        return float("nan")


def neighbour_mean(graph: CellGraph, x: np.ndarray, *, include_self: bool) -> np.ndarray:
    """(N, F) mean over each cell's senders; with no sender and without itself, zeros."""
    ones = np.ones(graph.n_edges, dtype=x.dtype)
    shape = (graph.n_cells, graph.n_cells)
    total = sparse.csr_array((ones, graph.indices.numpy(), graph.indptr.numpy()), shape=shape) @ x
    count = graph.indptr.diff().numpy()[:, None]
    if include_self:
        total, count = total + x, count + 1
    return (total / np.maximum(count, 1)).astype(x.dtype)
