"""Is a pair's signal larger than that of random pairs of genes with the same expression?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from metaniche.errors import ConfigError, InputError
from metaniche.io.progress import Tell
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.signaling.csr import to_scipy, to_torch
from metaniche.signaling.nulls import SignalNull

MOST_BINS, GENES_A_BIN, LEAST_GENES = 20, 10, 20
SMALLEST = 1e-12
PAIRS_AT_ONCE = 8192  # random pairs; T^2 sums of each are held


def matched_pairs_null(
    problem: LigandReceptor,
    x: np.ndarray | sparse.csr_array,
    genes_P: np.ndarray,
    type_N: Tensor,
    n_types: int,
    n_random: int = 200,
    seed: int = 0,
    progress: Tell | None = None,
) -> SignalNull:
    """Signals between types among those of random pairs of genes that are expressed alike.

    All genes that some cell expresses are ranked by their mean and cut into bins of about alike size; a random pair takes a
    gene of the ligand's bin for the ligand and another one of the receptor's bin for the receptor. Complexes are ranked among
    the genes by their own mean. Pairs are different ones, and the pair itself is none of them. What differs within a bin
    cancels: signals are compared per product of the two means. With b of n random pairs at least as strong
    p = (b + 1) / (n + 1), so that p is not below 1 / (n + 1) with the n that the two bins allow: small panels have few pairs.
    The question is whether the pair is special among genes, not whether cells communicate: markers of two neighbouring types
    pass as well.

    Parameters
    ----------
    problem
        The signals of the pairs over the graph (see `scoring.signal_problem`), without a transform of the sides.
    x
        (N, G) expression of the whole panel, cells as in `problem`.
    genes_P
        (P, 2) columns of x that are each pair's ligand and receptor; -1 for a complex.
    type_N, n_types
        (N,) int32 type of each cell, and T.
    n_random
        Random pairs of each two bins, fewer where there are not so many.

    Returns
    -------
    SignalNull, whose mean and variance are those of the random pairs at the pair's own means.

    Raises
    ------
    ConfigError, InputError
        For no random pairs; for fewer than LEAST_GENES expressed genes.
    """
    x = sparse.csr_array(x)
    mean = np.asarray(x.mean(0)).ravel()
    by_bin = _bins(mean, n_random)
    score = type_pair_sums(problem, type_N, n_types)[0].numpy(force=True)
    device = type_N.device
    means = [np.asarray(to_scipy(side).mean(0)).ravel()[columns] for side, columns in _sides(problem)]
    scale = np.maximum(means[0] * means[1], SMALLEST)
    highest = np.array([mean[genes].max() for genes in by_bin])
    bins = [np.searchsorted(highest[:-1], of_side) for of_side in means]
    genes, rng = to_torch(x, device), np.random.default_rng(seed)
    expected, variance, p = (np.empty_like(score) for _ in range(3))
    combined = bins[0] * len(by_bin) + bins[1]
    blocks = list(_blocks(_drawn(combined, by_bin, n_random, rng)))
    for done, block in enumerate(blocks):
        if progress is not None:
            progress(done, len(blocks), "random pairs of genes")
        _, fars, nears = zip(*block)
        lig, rec = (torch.from_numpy(np.concatenate(sides)).to(device, torch.int32) for sides in (fars, nears))
        of_block = replace(problem, ligand_NL=genes, receptor_NR=genes, lig_P=lig, rec_P=rec)
        sums = type_pair_sums(of_block, type_N, n_types)[0].numpy(force=True)
        ends = np.cumsum([len(far) for far in fars])
        for (here, far, near), of_bins in zip(block, np.split(sums, ends[:-1], axis=2)):
            random = of_bins / np.maximum(mean[far] * mean[near], SMALLEST)
            for pair in here:
                other = (far != genes_P[pair, 0]) | (near != genes_P[pair, 1])
                of_others = random[:, :, other]
                expected[:, :, pair] = of_others.mean(-1) * scale[pair]
                variance[:, :, pair] = of_others.var(-1) * scale[pair] ** 2
                reached = of_others >= (score[:, :, pair] / scale[pair] * (1 - 1e-12))[..., None]
                p[:, :, pair] = (reached.sum(-1) + 1) / (other.sum() + 1)
    # No comparison with NaN holds: a signal that is none would look like the largest.
    p = np.where(np.isfinite(score) & np.isfinite(variance), p, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, (score - expected) / np.sqrt(variance), np.nan)
    return SignalNull(score, expected, variance, z, p)


def _bins(mean: np.ndarray, n_random: int) -> list[np.ndarray]:
    """Columns of the expressed genes by their mean, weakest bin first. One that is silent would make any weak pair special."""
    expressed = np.flatnonzero(mean > 0)
    if n_random < 1:
        raise ConfigError(f"Expected n_random >= 1, found {n_random}.")
    if expressed.size < LEAST_GENES:
        raise InputError(
            f"Expected at least {LEAST_GENES} expressed genes, found {expressed.size}. Small panels have no random pairs to "
            "compare with: use null_model=positions."
        )
    ranked = expressed[np.argsort(mean[expressed], kind="stable")]
    return np.array_split(ranked, min(MOST_BINS, expressed.size // GENES_A_BIN))


def _drawn(
    combined: np.ndarray, by_bin: list[np.ndarray], n_random: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """(tests, far, near) of every two bins that hold a test."""
    for value in np.unique(combined):
        bins = (by_bin[number] for number in divmod(value, len(by_bin)))
        yield np.flatnonzero(combined == value), *_random_pairs(*bins, n_random, rng)


def _blocks(drawn: Iterator[tuple[np.ndarray, ...]]) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """So many of them at once that a pass over the edges is worth it."""
    block, n_pairs = [], 0
    for of_bins in drawn:
        if block and n_pairs + len(of_bins[1]) > PAIRS_AT_ONCE:
            yield block
            block, n_pairs = [], 0
        block.append(of_bins)
        n_pairs += len(of_bins[1])
    if block:
        yield block


def _sides(problem: LigandReceptor) -> tuple[tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray]]:
    """Expression and (P,) columns of the ligands and of the receptors."""
    return (problem.ligand_NL, problem.lig_P.numpy(force=True)), (problem.receptor_NR, problem.rec_P.numpy(force=True))


def _random_pairs(
    first: np.ndarray, second: np.ndarray, n_random: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Different pairs of two genes, one of each bin, none with itself; all of them where there are at most `n_random`."""
    every = len(first) * len(second)
    chosen = rng.choice(every, min(every, n_random + len(first)), replace=False)
    far, near = first[chosen // len(second)], second[chosen % len(second)]
    apart = far != near
    return far[apart][:n_random], near[apart][:n_random]
