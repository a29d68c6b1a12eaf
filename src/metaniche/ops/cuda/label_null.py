"""Exact permutations of cluster means on a GPU: `csrc/cuda/label_null.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.cuda.by_gene import ByGene
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.pieces import cut
from metaniche.ops.cuda.segment import segment_max
from metaniche.ops.cuda.specs import Array, Kernel, Scalar
from metaniche.ops.reference.label_null import scores

SOURCE, THREADS, PERMUTATIONS = "label_null", 256, 32
MOST_TYPES = 256
# Sums of so many 16-bit values stay within 32 bits.
ENTRIES_A_PIECE = 8192
# Steps of shuffles that are kept at once.
STEPS = 1 << 22

_LISTS = tuple(Array(name, torch.int32, ("lists", "n")) for name in ("heads", "next"))
_SHUFFLE = (Scalar("n"), Scalar("lists"), Scalar("seed", "u64"), Scalar("first"))
_LABELS = Array("labels", torch.uint8, ("n", "PERMUTATIONS"))
_NEEDED = Array("needed", torch.uint8, ("genes",))
_SUMS = Array("sums", torch.int32, ("pieces", "n_types", "PERMUTATIONS"))
_MEANS = Array("means", torch.float64, ("genes", "n_types", "PERMUTATIONS"))
_TESTS = ("pairs", "n_types", "n_types")

LISTS = Kernel(SOURCE, "shuffle_lists", (*_SHUFFLE, *_LISTS), THREADS, registers=40, shared=0)
LABELS = Kernel(
    SOURCE,
    "shuffle_labels",
    (Array("types", torch.uint8, ("n",)), *_LISTS, *_SHUFFLE, Scalar("slot"), _LABELS),
    THREADS,
    registers=40,
)
SUMS = Kernel(
    SOURCE,
    "label_sums",
    (
        Array("cells", torch.int32, ("entries",)),
        Array("values", torch.int16, ("entries",)),
        Array("starts", torch.int64, ("pieces+1",)),
        Array("gene", torch.int64, ("pieces",)),
        _NEEDED,
        _LABELS,
        *(Scalar(name) for name in ("n", "entries", "pieces", "genes", "n_types")),
        _SUMS,
    ),
    THREADS,
    registers=40,
    shared=MOST_TYPES * PERMUTATIONS * 4,
)
MEANS = Kernel(
    SOURCE,
    "label_means",
    (
        _SUMS,
        Array("piece_ptr", torch.int64, ("genes+1",)),
        _NEEDED,
        Array("factor", torch.float64, ("genes", "n_types")),
        *(Scalar(name) for name in ("genes", "pieces", "n_types")),
        _MEANS,
    ),
    THREADS,
    registers=64,
)
COUNTS = Kernel(
    SOURCE,
    "label_counts",
    (
        _MEANS,
        Array("lig", torch.int32, ("pairs",)),
        Array("rec", torch.int32, ("pairs",)),
        Array("threshold", torch.float64, _TESTS),
        *(Scalar(name) for name in ("pairs", "genes", "n_types", "count", "enough")),
        Array("reached", torch.int32, _TESTS),
        Array("drawn", torch.int32, _TESTS),
    ),
    THREADS,
    registers=72,
)
KERNELS = (LISTS, LABELS, SUMS, MEANS, COUNTS)


def defines(n_types: int) -> dict[str, int]:
    """Shared memory for a power of two of types."""
    types = max(8, power_of_two(n_types))
    return dict(TYPES=types, PERMUTATIONS=PERMUTATIONS, THREADS=THREADS)


PACKED = tuple(defines(n_types) for n_types in (8, 16, 32, 64, 128, 256))


def ranges(x: ByGene) -> tuple[Tensor, Tensor]:
    """Largest absolute value of each gene in float64, NaN where one is, and whether all its values are whole numbers."""
    largest = segment_max(x.values.abs(), x.ptr).double()
    return largest, segment_max((x.values != x.values.round()).float(), x.ptr) == 0


def permutation_counts(
    x: ByGene,
    scale: Tensor,
    type_N: Tensor,
    factor: Tensor,
    lig_P: Tensor,
    rec_P: Tensor,
    n_permutations: int,
    seed: int,
    enough: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (P, T, T), permutations that reach them and permutations drawn: to the bit those of the CPU.

    Sums by type are of whole numbers, and each mean, score and threshold is one IEEE operation in float64 on them.
    """
    cells = _Cells(x, scale, type_N, factor)
    seen = cells.means(type_N.to(torch.uint8)[:, None].repeat(1, PERMUTATIONS))[:, :, 0]
    score, threshold = scores(seen, lig_P, rec_P)
    reached, drawn = (torch.zeros(score.shape, dtype=torch.int32, device=score.device) for _ in range(2))
    pairs, genes, n_types = len(lig_P), *factor.shape
    for first in range(0, n_permutations, PERMUTATIONS):
        means = cells.means(permuted_labels(type_N, seed, first))
        count = min(PERMUTATIONS, n_permutations - first)
        tests = lig_P, rec_P, threshold, pairs, genes, n_types, count, enough, reached, drawn
        launch(COUNTS, cells.how, blocks_for(pairs * n_types, THREADS // 32), means, *tests)
        if enough <= n_permutations and not cells.keep_open(reached < enough, lig_P, rec_P):
            break
    return score, reached, drawn


def permuted_labels(type_N: Tensor, seed: int, first: int) -> Tensor:
    """(N, 32) uint8 labels under permutations first, first + 1, ... of a seed, those of csrc/common/shuffle.h."""
    n, how = type_N.numel(), defines(1)
    types, labels = type_N.to(torch.uint8), type_N.new_empty(type_N.numel(), PERMUTATIONS, dtype=torch.uint8)
    most = max(1, min(PERMUTATIONS, STEPS // n))
    for slot in range(0, PERMUTATIONS, most):
        lists = min(most, PERMUTATIONS - slot)
        heads = torch.full((lists, n), -1, dtype=torch.int32, device=type_N.device)
        following = torch.empty_like(heads)
        grid, shuffle = (blocks_for(n, THREADS), lists), (n, lists, seed, first + slot)
        launch(LISTS, how, grid, *shuffle, heads, following)
        launch(LABELS, how, grid, types, heads, following, *shuffle, slot, labels)
    return labels


class _Cells:
    """The cells' values as whole steps of `scale`, cut into pieces; genes without an open test are left out."""

    def __init__(self, x: ByGene, scale: Tensor, type_N: Tensor, factor: Tensor) -> None:
        gene = torch.arange(len(scale), device=scale.device).repeat_interleave(x.ptr.diff())
        self.steps = x.cells, (x.values.double() / scale[gene]).round().to(torch.int16)
        self.starts, self.piece_ptr, self.gene = cut(x.ptr, ENTRIES_A_PIECE)
        self.needed = torch.ones(len(scale), dtype=torch.uint8, device=scale.device)
        self.n, self.factor, self.how = type_N.numel(), factor, defines(factor.shape[1])

    def means(self, labels: Tensor) -> Tensor:
        """(genes, T, 32) float64 means under 32 label vectors."""
        (genes, n_types), pieces = self.factor.shape, len(self.gene)
        sums = self.starts.new_empty(pieces, n_types, PERMUTATIONS, dtype=torch.int32)
        sizes = self.n, len(self.steps[0]), pieces, genes, n_types
        launch(SUMS, self.how, pieces, *self.steps, self.starts, self.gene, self.needed, labels, *sizes, sums)
        means = self.factor.new_empty(genes, n_types, PERMUTATIONS)
        blocks = blocks_for(means.numel(), THREADS)
        given = sums, self.piece_ptr, self.needed, self.factor
        launch(MEANS, self.how, blocks, *given, genes, pieces, n_types, means)
        return means

    def keep_open(self, open_PTT: Tensor, lig_P: Tensor, rec_P: Tensor) -> bool:
        """Only the genes of pairs with an open test are needed from here on; False where there is none."""
        open_P = open_PTT.flatten(1).any(1)
        self.needed.zero_()
        for gene_P in (lig_P, rec_P):
            self.needed[gene_P[open_P].long()] = 1
        return bool(open_P.any())
