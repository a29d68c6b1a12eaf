"""Library: over which genes a cell's counts are summed to its library size, so that a larger panel does not dilute it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from metaniche.data.sample import PreparedSample, shared_features


@dataclass(frozen=True)
class Library:
    """A fitted panel of genes, and what each is of a library.

    The library size of a cell is the total of its counts over the panel. Genes beyond it do not count; where some of it is
    not measured, the total is divided by the share that the measured ones had in training.

    Attributes
    ----------
    genes
        G genes that every training sample measures, in the order of the first.
    share
        (G,) float32, the mean over training patients of each gene's part in the counts; it sums to 1.
    """

    genes: tuple[str, ...]
    share: np.ndarray

    @classmethod
    def fit(cls, samples: Sequence[PreparedSample]) -> Library:
        """Of samples of counts; `genes` is empty where they measure none in common."""
        genes = shared_features(samples)
        parts = pd.DataFrame([_parts(s, genes) for s in samples], index=[s.patient_id for s in samples])
        return cls(genes, parts.groupby(level=0).mean().mean().to_numpy(np.float32))

    def sizes(self, counts: np.ndarray | sparse.csr_array, names: Sequence[str]) -> np.ndarray:
        """(n,) library size of each row of `counts`, whose columns are the features `names`."""
        if len(names) == len(self.genes) and set(names) == set(self.genes):
            return np.asarray(counts.sum(axis=1)).ravel()
        column = {name: i for i, name in enumerate(names)}
        counted = np.zeros(len(names), dtype=np.float32)
        counted[[column[gene] for gene in self.genes if gene in column]] = 1.0
        total = np.asarray(counts @ counted).ravel()
        known = self.share_of(names)
        return total if known in (0.0, 1.0) else total / np.float32(known)

    def share_of(self, names: Collection[str]) -> float:
        """The part of a training library that genes among `names` make; 1 where all of the panel is there."""
        measured = set(names)
        there = np.array([gene in measured for gene in self.genes], dtype=bool)
        return 1.0 if there.all() else float(self.share[there].sum())


def _parts(sample: PreparedSample, genes: Sequence[str]) -> np.ndarray:
    """(G,) each gene's part in the sample's counts of these genes."""
    column = {name: i for i, name in enumerate(sample.features)}
    total = np.asarray(sample.x.sum(axis=0), dtype=float).ravel()[[column[g] for g in genes]]
    return total / max(total.sum(), 1.0)
