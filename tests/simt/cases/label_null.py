"""Permuted labels and counts against shuffles carried out one by one, moments against dense sums in float64."""

from unittest.mock import patch

import numpy as np
import torch

from metaniche.ops.cuda import label_moments as moments
from metaniche.ops.cuda import label_null as op
from metaniche.ops.cuda.by_gene import by_gene
from metaniche.ops.expression import Expression
from metaniche.ops.reference import label_null as reference

MANY = 2**31 - 1


def problem(n, genes, n_types, pairs, seed=0):
    """Genes of every density, the first without any cell; every type has cells but the second."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, genes, generator=g).pow(3) * 5 * (torch.rand(n, genes, generator=g) < torch.linspace(0, 1, genes))
    types = torch.cat((torch.arange(n_types), torch.randint(n_types, (n - n_types,), generator=g))).to(torch.int32)
    types[types == 1] = 0
    lig, rec = (torch.randint(genes, (pairs,), generator=g, dtype=torch.int32) for _ in range(2))
    return x, types, lig, rec


def check_labels(device, n, first=0):
    types = torch.arange(n, dtype=torch.int32) % 251
    found = op.permuted_labels(types.to(device), 7, first).cpu().numpy()
    for k in range(op.PERMUTATIONS):
        assert np.array_equal(found[:, k], reference.shuffled(types.numpy(), 7, first + k)), f"permutation {first + k}"


def labels_of_few_cells(device):
    for n in (1, 2, 3, 7):
        check_labels(device, n)


def labels_of_many_cells(device):
    check_labels(device, 300, first=64)


def labels_a_few_permutations_at_once(device):
    with patch.object(op, "STEPS", 270 * 5):
        check_labels(device, 270)


def check_counts(device, n, genes, n_types, pairs, n_permutations, enough=MANY, scale=None, a_piece=op.ENTRIES_A_PIECE):
    x, types, lig, rec = problem(n, genes, n_types, pairs)
    largest = x.amax(0).double()
    scale = torch.where(largest == 0, 1.0, largest / 32767) if scale is None else torch.full((genes,), scale).double()
    count = torch.bincount(types, minlength=n_types).double()
    factor = torch.where(count > 0, scale[:, None] / count, 0.0)
    every = torch.arange(genes)
    plain = Expression.of(x, "x"), every, (x != 0).sum(0), scale, types, factor, lig, rec, n_permutations, 3, enough
    expected = reference.permutation_counts(*plain)
    with patch.object(op, "ENTRIES_A_PIECE", a_piece):
        entries = by_gene(Expression.of(x.to(device), "x"), every.to(device))
        tensors = (part.to(device) for part in (scale, types, factor, lig, rec))
        found = op.permutation_counts(entries, *tensors, n_permutations, 3, enough)
    for name, own, other in zip(("scores", "reached", "drawn"), found, expected):
        assert torch.equal(own.cpu(), other), name
    return found


def counts(device):
    check_counts(device, 45, 5, 3, 6, 37)


def counts_of_more_types_than_lanes(device):
    check_counts(device, 90, 4, 40, 5, 33)


def counts_of_few_steps(device):
    """Many ties, so that a sum that is off by one shows; as many types as the kernel has room for."""
    check_counts(device, 40, 4, 8, 6, 32, scale=1.0)


def counts_of_one_type(device):
    check_counts(device, 20, 3, 1, 2, 5)


def counts_that_stop(device):
    """Some tests stop at once, some late, some never; genes drop out on the way."""
    for enough in (1, 3, 20):
        _, reached, drawn = check_counts(device, 60, 8, 4, 5, 70, enough)
        assert (drawn < 70).any()
    assert (reached < 20).any()


def counts_that_all_stop(device):
    """Long before the last permutation."""
    _, _, drawn = check_counts(device, 40, 3, 2, 2, 200, 1, scale=100.0)
    assert drawn.max() < 40


def counts_in_pieces(device):
    check_counts(device, 300, 4, 3, 3, 5, a_piece=20)


def no_pairs(device):
    check_counts(device, 20, 3, 2, 0, 5)


def check_moments(device, n, genes, n_types, pairs, a_piece=moments.ENTRIES_A_PIECE, layout=torch.strided):
    x, types, lig, rec = problem(n, genes, n_types, pairs)
    given = x if layout == torch.strided else x.to_sparse_csr()
    with patch.object(moments, "ENTRIES_A_PIECE", a_piece):
        tensors = (part.to(device) for part in (lig, rec))
        found = moments.raw_moments(Expression.of(given.to(device), "x"), types.to(device), n_types, *tensors)
    wide, named = x.double(), torch.unique(torch.cat((lig, rec))).long()
    of_type = torch.nn.functional.one_hot(types.long(), n_types).double()
    a, b = wide[:, lig.long()], wide[:, rec.long()]
    powers = torch.stack([(wide**k).sum(0) for k in (1, 2, 3)], 1)[named]
    cross = torch.stack(((a * b).sum(0), (a * a * b).sum(0), (a * b * b).sum(0)), 1)
    expected = powers, (of_type.t() @ wide)[:, named], cross
    found = found[0][named], found[1][:, named], found[2]
    for name, own, other in zip(("powers", "by type", "cross"), found, expected):
        assert torch.allclose(own.cpu(), other, rtol=1e-12, atol=1e-12), name


def moments_dense(device):
    check_moments(device, 75, 6, 3, 20)


def moments_sparse(device):
    check_moments(device, 75, 6, 3, 20, layout=torch.sparse_csr)


def moments_in_pieces(device):
    check_moments(device, 300, 5, 4, 20, a_piece=40)


def moments_of_no_pairs(device):
    check_moments(device, 20, 3, 2, 0)


CASES = (
    labels_of_few_cells,
    labels_of_many_cells,
    labels_a_few_permutations_at_once,
    counts,
    counts_of_more_types_than_lanes,
    counts_of_few_steps,
    counts_of_one_type,
    counts_that_stop,
    counts_that_all_stop,
    counts_in_pieces,
    no_pairs,
)
SHORT = (
    labels_of_few_cells,
    counts_of_few_steps,
    counts_of_one_type,
    counts,
    counts_in_pieces,
    labels_a_few_permutations_at_once,
    counts_that_stop,
)
MOMENTS = (moments_dense, moments_sparse, moments_in_pieces, moments_of_no_pairs)
MOMENTS_SHORT = (moments_dense, moments_in_pieces)
