"""Moments and permutations of cluster means with numpy, one permutation at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.reference.expression import blocks, take_rows
from metaniche.ops.splitmix import GOLDEN, of_array

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

# Scores that differ only by rounding count as tied.
TIED = 1e-12


def raw_moments(
    x: Expression, type_N: Tensor, n_types: int, lig_P: Tensor, rec_P: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(G, 3) sums of x, x^2 and x^3; (T, G) sums by type; (P, 3) sums of x y, x^2 y and x y^2."""
    powers, by_type = np.zeros((x.shape[1], 3)), np.zeros((n_types, x.shape[1]))
    cross = np.zeros((len(lig_P), 3))
    for start, stop in blocks(x.shape[0]):
        rows = take_rows(x, torch.arange(start, stop)).numpy()
        for k in range(3):
            powers[:, k] += (rows ** (k + 1)).sum(0)
        np.add.at(by_type, type_N[start:stop].numpy(), rows)
        a, b = rows[:, lig_P.numpy()], rows[:, rec_P.numpy()]
        for k, product in enumerate((a * b, a * a * b, a * b * b)):
            cross[:, k] += product.sum(0)
    return powers, by_type, cross


def ranges(x: Expression) -> tuple[Tensor, Tensor, Tensor]:
    """(G,) largest absolute value, whether all values are whole numbers, and how many are not 0."""
    rows = take_rows(x, torch.arange(x.shape[0]))
    return rows.abs().amax(0), (rows == rows.round()).all(0), (rows != 0).sum(0)


def permutation_counts(
    x: Expression,
    genes: Tensor,
    count_G: Tensor,
    scale: Tensor,
    type_N: Tensor,
    factor: Tensor,
    lig_P: Tensor,
    rec_P: Tensor,
    n_permutations: int,
    seed: int,
    enough: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (P, T, T), permutations that reach them and permutations drawn."""
    rows = take_rows(x, torch.arange(x.shape[0]))[:, genes]
    whole = np.rint(rows.numpy() / scale.numpy()).astype(np.int64)
    labels = type_N.numpy()
    score, threshold = scores(_means(whole, labels, factor), lig_P, rec_P)
    reached, drawn = (torch.zeros(score.shape, dtype=torch.int32) for _ in range(2))
    for k in range(n_permutations):
        permuted, _ = scores(_means(whole, shuffled(labels, seed, k), factor), lig_P, rec_P)
        still = reached < enough
        drawn += still
        reached += still & (permuted >= threshold)
    return score, reached, drawn


def scores(mean_GT: Tensor, lig_P: Tensor, rec_P: Tensor) -> tuple[Tensor, Tensor]:
    """(P, T, T) sums of two cluster means, and the same lowered by what rounding may take from a tie."""
    left, right = mean_GT[lig_P.long()][:, :, None], mean_GT[rec_P.long()][:, None, :]
    return left + right, left + right - TIED * (left.abs() + right.abs())


def shuffled(labels: np.ndarray, seed: int, k: int) -> np.ndarray:
    """The labels under permutation k of a seed; csrc/common/shuffle.h says how."""
    out = labels.copy()
    start = of_array(of_array(np.uint64(seed)) ^ np.uint64(k))
    with np.errstate(over="ignore"):
        draws = of_array(start + np.arange(len(out), dtype=np.uint64) * np.uint64(GOLDEN))
    for i in range(len(out) - 1, 0, -1):
        j = int(draws[i]) * (i + 1) >> 64
        out[i], out[j] = out[j], out[i]
    return out


def _means(whole: np.ndarray, labels: np.ndarray, factor: Tensor) -> Tensor:
    sums = np.zeros((factor.shape[1], whole.shape[1]), np.int64)
    np.add.at(sums, labels, whole)
    return torch.from_numpy(sums.T.astype(np.float64)) * factor
