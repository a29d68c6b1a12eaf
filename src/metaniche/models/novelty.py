"""How unlike the training tissue new tissue is, in the eyes of the network: distances of its cells' embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf

LIMIT_SHARE = 0.99  # of training cells lie within the limit
FIT_CELLS = 50_000


@dataclass(frozen=True)
class Novelty:
    r"""Mahalanobis distances :math:`\sqrt{(h - \mu)^T \Sigma^{-1} (h - \mu)}` to training cells (Lee et al. 2018,
    arXiv 1807.03888), with the covariance of Ledoit and Wolf (2004, doi:10.1016/S0047-259X(03)00096-4).

    Attributes
    ----------
    mean, whiten
        (D,) and (D, D): distances are the lengths of `(h - mean) @ whiten`.
    limit
        Within which 99 % of the training cells lie.
    """

    mean: np.ndarray
    whiten: np.ndarray
    limit: float

    @classmethod
    def fit(cls, embedding: np.ndarray, seed: int = 0) -> Novelty:
        """Of training cells (N, D); at most 50,000 of them are looked at."""
        if len(embedding) > FIT_CELLS:
            embedding = embedding[np.random.default_rng(seed).choice(len(embedding), FIT_CELLS, replace=False)]
        h = embedding.astype(np.float64)
        values, vectors = np.linalg.eigh(ledoit_wolf(h)[0])
        whiten = vectors / np.sqrt(np.maximum(values, 1e-12))
        mean = h.mean(0)
        distance = np.linalg.norm((h - mean) @ whiten, axis=1)
        return cls(mean, whiten, float(np.quantile(distance, LIMIT_SHARE)))

    def share(self, embedding: np.ndarray) -> float:
        """Share of these cells (N, D) that lie beyond the limit; 0.01 is what training tissue has."""
        return float((np.linalg.norm((embedding - self.mean) @ self.whiten, axis=1) > self.limit).mean())

    def state(self) -> dict:
        """Plain JSON."""
        return {"mean": self.mean.tolist(), "whiten": self.whiten.tolist(), "limit": self.limit}

    @classmethod
    def from_state(cls, state: dict) -> Novelty:
        return cls(np.asarray(state["mean"]), np.asarray(state["whiten"]), float(state["limit"]))
