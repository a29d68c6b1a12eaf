"""Is a pair's signal larger than that of random pairs of genes with the same expression?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from metaniche.errors import ConfigError
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.signaling.csr import to_scipy, to_torch
from metaniche.signaling.nulls import SignalNull

BINS = 20
SMALLEST = 1e-12


def matched_pairs_null(
    problem: LigandReceptor,
    x: np.ndarray | sparse.csr_array,
    type_N: Tensor,
    n_types: int,
    n_random: int = 200,
    seed: int = 0,
) -> SignalNull:
    """Signals between types among those of random pairs of genes that are expressed alike.

    All genes of the panel are ranked by their mean and cut into BINS; a random pair takes a gene of the ligand's bin
    for the ligand and one of the receptor's bin for the receptor. Complexes are ranked among the genes by their own
    mean. What differs within a bin cancels: signals are compared per product of the two means. With b of n random pairs
    at least as strong p = (b + 1) / (n + 1). The question is whether the pair is special among genes, not whether cells
    communicate: markers of two neighbouring types pass as well. In a small panel the pair
    itself is drawn now and then, which makes p larger.

    Parameters
    ----------
    problem
        The signals of the pairs over the graph (see `scoring.signal_problem`), without a transform of the sides.
    x
        (N, G) expression of the whole panel, cells as in `problem`.
    type_N, n_types
        (N,) int32 type of each cell, and T.

    Returns
    -------
    SignalNull, whose mean and variance are those of the random pairs at the pair's own means.

    Raises
    ------
    ConfigError
        For fewer than 20 genes or no random pairs.
    """
    x = sparse.csr_array(x)
    if x.shape[1] < BINS or n_random < 1:
        raise ConfigError(
            f"Expected a panel of at least {BINS} genes and n_random >= 1, found {x.shape[1]} genes and {n_random}. "
            "Small panels have no random pairs to compare with: use null_model=positions."
        )
    score = type_pair_sums(problem, type_N, n_types)[0].numpy()
    sides = (problem.ligand_NL, problem.lig_P), (problem.receptor_NR, problem.rec_P)
    means = [np.asarray(to_scipy(side).mean(0)).ravel()[columns.numpy()] for side, columns in sides]
    scale = np.maximum(means[0] * means[1], SMALLEST)
    mean = np.asarray(x.mean(0)).ravel()
    order = np.argsort(mean, kind="stable")
    by_bin = np.array_split(order, BINS)
    starts = np.cumsum([len(part) for part in by_bin])[:-1]
    bins = [np.digitize(np.searchsorted(mean[order], of_side), starts) for of_side in means]
    genes = to_torch(x)
    rng = np.random.default_rng(seed)
    expected, variance, p = (np.empty_like(score) for _ in range(3))
    combined = bins[0] * BINS + bins[1]
    for value in np.unique(combined):
        here = np.flatnonzero(combined == value)
        far, near = (
            torch.from_numpy(rng.choice(by_bin[number], n_random).astype(np.int32)) for number in divmod(value, BINS)
        )
        drawn = replace(problem, ligand_NL=genes, receptor_NR=genes, lig_P=far, rec_P=near)
        of_genes = np.maximum(mean[far.numpy()] * mean[near.numpy()], SMALLEST)
        random = type_pair_sums(drawn, type_N, n_types)[0].numpy() / of_genes
        expected[:, :, here] = random.mean(-1, keepdims=True) * scale[here]
        variance[:, :, here] = random.var(-1, keepdims=True) * scale[here] ** 2
        seen = (score[:, :, here] / scale[here])[..., None]
        p[:, :, here] = ((random[:, :, None, :] >= seen * (1 - 1e-12)).sum(-1) + 1) / (n_random + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, (score - expected) / np.sqrt(variance), np.nan)
    return SignalNull(score, expected, variance, z, p)
