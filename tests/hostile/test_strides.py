"""Tensors whose numbers do not lie together, such as a column of a table: every op reads them as any others."""

import pytest
import torch

from metaniche import ops
from metaniche.ops import LigandReceptor, use_backend
from metaniche.ops.by_sender import by_sender

N, GENES, PAIRS, TYPES = 60, 12, 20, 4
DRAWN = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.rand(*shape, generator=DRAWN)


def draw(below, *shape, dtype=torch.int32):
    return torch.randint(below, shape, generator=DRAWN, dtype=dtype)


def expression():
    return rand(N, GENES) * (rand(N, GENES) < 0.5)


POS, PTR = 30 * rand(N, 2), torch.tensor([0, 25, N])
INDPTR, INDICES, DISTANCE = ops.knn_neighbors(POS, PTR, 6)
GRAPH, WEIGHT = (INDPTR, INDICES), rand(INDICES.numel())
LIGAND, RECEPTOR, GENES_OF_PAIRS, TYPE = (
    expression(),
    expression(),
    (draw(GENES, PAIRS), draw(GENES, PAIRS)),
    draw(TYPES, N),
)
SIGNAL = (LIGAND, RECEPTOR, *GENES_OF_PAIRS, *GRAPH, WEIGHT)
HEADS = (rand(N, 2, 8), rand(N, 2, 8), rand(N, 2, 8), *GRAPH, rand(INDICES.numel(), 2), rand(2))
ROWS = torch.arange(0, 3 * N + 1, 3), torch.arange(3, dtype=torch.int32).repeat(N), rand(3 * N)

# Op, and its tensors.
OPS = {
    "radius": (lambda *x: ops.radius_neighbors(*x, 6.0, inner_um=1.0, max_per_cell=3, seed=1), (POS, PTR)),
    "nearest": (lambda *x: ops.knn_neighbors(*x, 5), (POS, PTR)),
    "hilbert": (lambda *x: [ops.hilbert_order(*x)], (POS, PTR)),
    "by sender": (by_sender, GRAPH),
    "sum": (lambda *x: [ops.segment_sum(*x)], (HEADS[5], INDPTR)),
    "max": (lambda *x: [ops.segment_max(*x)], (HEADS[5], INDPTR)),
    "softmax": (lambda *x: [ops.segment_softmax(*x)], (HEADS[5], INDPTR)),
    "attention": (lambda *x: [ops.edge_attention(*x, dropout=0.3, seed=2)], HEADS),
    "pair logits": (lambda *x: [ops.pair_logits(*x)], (LIGAND, RECEPTOR, rand(2, PAIRS), *GENES_OF_PAIRS, *GRAPH)),
    "received": (lambda *x: [ops.received_signal(LigandReceptor(*x[:7]), x[7])], (*SIGNAL, draw(3, PAIRS))),
    "sent": (lambda *x: [ops.sent_signal(LigandReceptor(*x[:7], 0.5, 1.5), x[7])], (*SIGNAL, draw(3, PAIRS))),
    "by pair": (lambda *x: [part for _, part in ops.sent_by_pair(LigandReceptor(*x), 7)], SIGNAL),
    "between types": (lambda *x: ops.type_pair_sums(LigandReceptor(*x[:7]), x[7], TYPES), (*SIGNAL, TYPE)),
    "complexes": (lambda *x: [ops.complex_expression(*x)], (LIGAND, torch.arange(0, 13, 2), torch.arange(12).int())),
    "encoder": (lambda *x: [ops.csr_encoder(*x)], (*ROWS, rand(GENES, 5))),
    "moments": (lambda x, t, *p: ops.cluster_means_null(x, t, TYPES, *p), (LIGAND, TYPE, *GENES_OF_PAIRS)),
    "permutations": (
        lambda x, t, *p: ops.cluster_means_permutations(x, t, TYPES, *p, 40, seed=3),
        (LIGAND, TYPE, *GENES_OF_PAIRS),
    ),
    "edges of types": (lambda *x: ops.edge_scores_null(*x, TYPES), (WEIGHT, *GRAPH, TYPE)),
    "enrichment": (lambda *x: ops.neighborhood_enrichment(*x, TYPES), (*GRAPH, TYPE)),
    "moran": (ops.moran, (LIGAND.double(), *GRAPH, WEIGHT)),
    "geary": (ops.geary, (LIGAND.double(), *GRAPH, WEIGHT)),
    "bivariate": (
        ops.bivariate_moran,
        (LIGAND.double(), RECEPTOR.double(), draw(GENES, 9, 2, dtype=torch.int64), *GRAPH, WEIGHT),
    ),
    "transport": (
        lambda *x: ops.transport(*x, sample_ptr=PTR, rho=1.0, tolerance=1e-6).amounts(),
        (LIGAND[:, :3].contiguous(), RECEPTOR[:, :3].contiguous(), torch.tensor([[0, 0], [1, 2]]), *GRAPH, DISTANCE),
    ),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_numbers_that_lie_apart_are_read_like_others(name, backend):
    run, tensors = OPS[name]
    with use_backend(backend):
        expected = list(run(*tensors))
        for place, tensor in enumerate(tensors):
            apart = torch.stack((tensor, torch.full_like(tensor, 7)), -1)[..., 0]
            assert not apart.is_contiguous()
            found = list(run(*tensors[:place], apart, *tensors[place + 1 :]))
            torch.testing.assert_close(found, expected, equal_nan=True)
