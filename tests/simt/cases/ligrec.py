"""Ligand-receptor signals against sums over every edge and pair in float64."""

from unittest.mock import patch

import torch

from metaniche.ops.cuda import ligrec as op
from metaniche.ops.expression import Expression
from metaniche.ops.ligrec import Signal

# Edges of each row: none, few, and more than a block has threads.
ROWS = (2, 0, 3, 1, 0, 133, 1, 2, 0, 4, 1)
SCORES = {"product": (None, 1.0), "hill": (0.7, 1.0), "hill_squared": (1.5, 2.0)}


def expression(n, genes, density, g, sparse=True, dtype=torch.float32):
    """Cell 3 expresses nothing, the last one everything."""
    x = torch.rand(n, genes, generator=g, dtype=dtype) * 3 * (torch.rand(n, genes, generator=g) < density)
    x[3], x[-1] = 0, torch.rand(genes, generator=g, dtype=dtype) + 0.5
    return x.to_sparse_csr() if sparse else x


def graph(g, rows=ROWS):
    """Senders may repeat: what matters to the kernels is the number of edges of a row. The last cell sends."""
    indptr = torch.tensor([0, *rows]).cumsum(0)
    indices = torch.randint(len(rows), (int(indptr[-1]),), generator=g, dtype=torch.int32)
    indices[::3] = len(rows) - 1
    return indptr, indices


def pairs_of(genes, count, g):
    """Columns of each pair; the last gene is in the first pair and in the last."""
    gene = torch.randint(genes, (count,), generator=g, dtype=torch.int32)
    gene[0] = gene[-1] = genes - 1
    return gene


def problem(device, score, genes=64, pairs=100, sparse=True, density=0.4, seed=0):
    g = torch.Generator().manual_seed(seed)
    n = len(ROWS)
    far, near = (Expression.of(expression(n, genes, density, g, sparse).to(device), "x") for _ in range(2))
    far_P, near_P = (pairs_of(genes, pairs, g).to(device) for _ in range(2))
    indptr, indices = graph(g)
    weight = torch.rand(indices.numel(), generator=g)
    return Signal(far, near, far_P, near_P, indptr.to(device), indices.to(device), weight.to(device), *SCORES[score])


def dense(x):
    if x.ptr is None:
        return x.values.cpu().double()
    return torch.sparse_csr_tensor(x.ptr.cpu(), x.columns.cpu(), x.values.cpu().double(), x.shape).to_dense()


def every_edge_and_pair(x):
    """Receivers, senders and the (E, P) signals: what the kernels never store."""
    receivers = torch.arange(x.indptr.numel() - 1).repeat_interleave(x.indptr.cpu().diff())
    senders = x.indices.cpu().long()
    signal = dense(x.far)[senders][:, x.far_P.cpu().long()] * dense(x.near)[receivers][:, x.near_P.cpu().long()]
    if x.half_saturation is not None:
        signal = signal**x.exponent / (x.half_saturation**x.exponent + signal**x.exponent)
    return receivers, senders, signal * x.weight_E.cpu().double()[:, None]


def summed(keys, n, values):
    return torch.zeros(n, values.shape[1], dtype=torch.float64).index_add_(0, keys, values)


def check_signal(x, groups, first=0):
    """The rows from `first` on; pairs are spread over the groups, the last of which has none."""
    n, pairs = x.indptr.numel() - 1, x.far_P.numel()
    slot = torch.arange(pairs, dtype=torch.int32) * 7 % max(groups - 1, 1)
    receivers, _, signal = every_edge_and_pair(x)
    by_slot = torch.zeros(n, groups, dtype=torch.float64).index_add_(1, slot.long(), summed(receivers, n, signal))
    found = op.signal(x, slot.to(x.device), groups)(first, n - first)
    assert torch.allclose(found.cpu().double(), by_slot[first:], rtol=1e-5, atol=1e-5)


def check_types(x, n_types=3):
    """The last type is of no cell."""
    n = x.indptr.numel() - 1
    types = torch.arange(n, dtype=torch.int32) * 5 % (n_types - 1)
    receivers, senders, signal = every_edge_and_pair(x)
    key = types[senders].long() * n_types + types[receivers].long()
    sums, edges = op.type_pair_sums(x, types.to(x.device), n_types)
    assert torch.allclose(sums.cpu().view(n_types**2, -1), summed(key, n_types**2, signal), rtol=1e-5, atol=1e-5)
    assert torch.equal(edges.cpu().flatten(), torch.bincount(key, minlength=n_types**2))


def signals(score):
    def case(device):
        x = problem(device, score)
        for groups in (1, 4, 101):
            check_signal(x, groups)

    case.__name__ = f"signals_{score}"
    return case


def types(score):
    def case(device):
        with patch.object(op, "EDGES_A_PIECE", 40):
            check_types(problem(device, score))

    case.__name__ = f"types_{score}"
    return case


def many_pairs(score):
    """One pair more than a tile holds, and rows of expression longer than a block."""

    def case(device):
        x = problem(device, score, genes=200, pairs=2049, density=0.8)
        for groups in (1, 4, 300):
            check_signal(x, groups)
        check_types(x)

    case.__name__ = f"many_pairs_{score}"
    return case


def dense_expression(device):
    x = problem(device, "hill", sparse=False)
    check_signal(x, 3)
    check_types(x)


def rows_in_the_middle(device):
    check_signal(problem(device, "product"), 4, first=3)


def genes_without_a_pair(device):
    """A whole transcriptome, of which pairs name a few genes."""
    check_signal(problem(device, "product", genes=9000, pairs=60, density=0.05), 4)
    check_types(problem(device, "hill", genes=9000, pairs=60, density=0.05))


def nothing_at_all(device):
    x = problem(device, "product", pairs=2)
    empty = torch.zeros(0, dtype=torch.int32, device=device)
    none = Signal(x.far, x.near, empty, empty, x.indptr, x.indices, x.weight_E, None, 1.0)
    assert (op.signal(none, empty, 2)(0, 11) == 0).all()
    sums, edges = op.type_pair_sums(none, torch.zeros(11, dtype=torch.int32, device=device), 1)
    assert sums.shape == (1, 1, 0)
    assert edges.item() == x.indices.numel()
    lonely = Signal(x.far, x.near, x.far_P, x.near_P, torch.zeros_like(x.indptr), empty, x.weight_E[:0], None, 1.0)
    assert (op.signal(lonely, empty.new_zeros(2), 1)(0, 11) == 0).all()
    assert (op.type_pair_sums(lonely, torch.zeros(11, dtype=torch.int32, device=device), 2)[0] == 0).all()


CASES = (
    *(kind(score) for kind in (signals, types) for score in SCORES),
    many_pairs("product"),
    many_pairs("hill"),
    dense_expression,
    rows_in_the_middle,
    genes_without_a_pair,
    nothing_at_all,
)
SHORT = (
    *(kind(score) for score in ("product", "hill") for kind in (signals, types)),
    many_pairs("product"),
    many_pairs("hill"),
)
