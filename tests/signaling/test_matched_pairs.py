from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from metaniche.errors import ConfigError, InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.ops import type_pair_sums
from metaniche.signaling import Resource, SignalConfig, matched_pairs
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.matched_pairs import LEAST_GENES, matched_pairs_null
from metaniche.signaling.scoring import signal_problem

GENES = [f"g{i}" for i in range(400)]


def tissue(seed, n=300):
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy(rng.random((n, 2)) * 250).float()
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=60.0, max_paracrine=None))
    types = rng.integers(0, 2, n).astype(np.int32)
    x = np.log1p(rng.poisson(rng.gamma(3.0, 0.5, len(GENES)), (n, len(GENES)))).astype(np.float32)
    return rng, x, graph, torch.from_numpy(types)


def problem_of(x, graph, pairs):
    resource = Resource(pd.DataFrame(pairs, columns=["ligand", "receptor"]), "invented")
    return signal_problem(
        pair_expression(x, GENES[: x.shape[1]], resource), graph, torch.exp(-graph.distance_um / 30), SignalConfig()
    )


def null_of(x, graph, types, pairs, **how):
    genes = np.array([[GENES.index(gene) if gene in GENES else -1 for gene in pair] for pair in pairs])
    return matched_pairs_null(problem_of(x, graph, pairs), x, genes, types, 2, **how)


def test_random_pairs_are_not_special():
    drawn = []
    for seed in range(120):
        rng, x, graph, types = tissue(seed)
        pair = [GENES[i] for i in rng.permutation(len(GENES))[:2]]
        drawn.append(null_of(x, graph, types, [pair], n_random=99, seed=seed).p[0, 1, 0])
    assert stats.kstest(drawn, "uniform").pvalue > 0.001


def test_a_pair_that_stands_together_is():
    _, x, graph, types = tissue(1)
    x = x.copy()
    field = torch.sin(graph.pos_um[:, 0] / 20).numpy()
    rows = np.argsort(-field)  # both genes where the field is high
    for gene in (10, 70):
        x[rows, gene] = np.sort(x[:, gene])[::-1]
    found = null_of(x, graph, types, [["g10", "g70"], ["g11", "g71"]], n_random=199)
    p = found.p
    assert p[0, 1, 0] < 0.05 < p[0, 1, 1]
    assert found.z[0, 1, 0] > 2 > found.z[0, 1, 1]


def test_the_same_seed_draws_the_same_pairs():
    _, x, graph, types = tissue(2)
    told, pair = [], [["g1", "g61"]]
    one = null_of(x, graph, types, pair, n_random=30, seed=4, progress=lambda *step: told.append(step)).p
    two = null_of(x, graph, types, pair, n_random=30, seed=4).p
    np.testing.assert_array_equal(one, two)
    assert np.allclose(one * 31, np.round(one * 31))
    assert told == [(0, 1, "random pairs of genes")]


def test_random_pairs_of_many_bins_take_one_pass_and_their_blocks_do_not_matter(monkeypatch):
    _, x, graph, types = tissue(4)
    pairs = [[f"g{k}", f"g{399 - k}"] for k in range(0, 60, 2)]
    with mock.patch.object(matched_pairs, "type_pair_sums", wraps=type_pair_sums) as passes:
        whole = null_of(x, graph, types, pairs, n_random=30)
    assert passes.call_count == 2  # the pairs themselves, and all random ones
    for at_once in (1, 100):
        monkeypatch.setattr(matched_pairs, "PAIRS_AT_ONCE", at_once)
        for one, two in zip(whole, null_of(x, graph, types, pairs, n_random=30)):
            np.testing.assert_array_equal(one, two)


def test_a_pair_of_which_a_gene_is_silent_stands_out_from_none():
    _, x, graph, types = tissue(3)
    x = x.copy()
    x[:, :100] = 0
    p = null_of(x, graph, types, [["g1", "g110"]], n_random=20).p
    assert (p == 1).all()


def test_genes_that_nobody_expresses_are_no_ones_partners():
    """Among them any weak pair would stand out: they are drawn as if they were not in the panel."""
    _, x, graph, types = tissue(3)
    order = np.argsort(x.mean(0))
    x = x[:, order].copy()
    x[:, 200:] = x[:, :200]  # the weaker half and, in its place, silent genes
    x[:, :200] = 0
    all_genes = null_of(x, graph, types, [["g210", "g215"]], n_random=20, seed=1)
    problem = problem_of(x, graph, [["g210", "g215"]])
    expressed = matched_pairs_null(problem, x[:, 200:], np.array([[10, 15]]), types, 2, n_random=20, seed=1)
    np.testing.assert_allclose(all_genes.p, expressed.p)
    np.testing.assert_allclose(all_genes.z, expressed.z, rtol=1e-5)


def test_random_genes_come_from_the_bins_of_both_sides():
    """Weak genes are expressed on the left and strong ones on the right: other bins would meet far more often, or never."""
    rng, x, graph, types = tissue(5)
    left = graph.pos_um[:, :1].numpy() < 125
    half = x.shape[1] // 2
    level = np.linspace(0.1, 3.0, x.shape[1], dtype=np.float32) * rng.gamma(50.0, 0.02, x.shape).astype(np.float32)
    x = np.where(np.hstack([left.repeat(half, 1), ~left.repeat(half, 1)]), level, 0).astype(np.float32)
    found = null_of(x, graph, types, [["g5", "g395"], ["g395", "g5"]], n_random=50)
    np.testing.assert_allclose(found.mean, found.score, rtol=0.1)


def test_a_small_panel_is_compared_with_all_pairs_of_its_two_bins():
    """Every other pair of different genes once; moments and p by hand."""
    rng, x, graph, types = tissue(6)
    x = x[:, :LEAST_GENES] * np.linspace(0.5, 2, LEAST_GENES, dtype=np.float32)
    found = matched_pairs_null(problem_of(x, graph, [["g3", "g9"]]), x, np.array([[3, 9]]), types, 2, n_random=10**6)
    mean = x.mean(0)
    order = np.argsort(mean, kind="stable")
    low, high = order[:10], order[10:]
    bins = [low if gene in low else high for gene in (3, 9)]
    weight = torch.exp(-graph.distance_um / 30).double().numpy()
    j, i = graph.indices.numpy(), graph.receivers().numpy()
    edges = (types.numpy()[j] == 0) & (types.numpy()[i] == 1)

    def signal(a, b):
        return (weight * x[j, a] * x[i, b])[edges].sum() / (mean[a] * mean[b])

    others = np.array([signal(a, b) for a in bins[0] for b in bins[1] if a != b and (a, b) != (3, 9)])
    seen = signal(3, 9)
    assert found.p[0, 1, 0] == pytest.approx(((others >= seen).sum() + 1) / (len(others) + 1))
    scale = mean[3] * mean[9]
    assert found.mean[0, 1, 0] == pytest.approx(others.mean() * scale, rel=1e-4)
    assert found.variance[0, 1, 0] == pytest.approx(others.var() * scale**2, rel=1e-3)


def test_p_of_complexes_is_no_smaller_than_pairs_allow():
    """A complex is in no bin: among few pairs it is often the strongest, and says so no more than so many pairs can."""
    drawn = []
    for seed in range(40):
        _, x, graph, types = tissue(seed)
        x = x[:, :60]
        pairs = [[f"g{k}_g{k + 1}", f"g{k + 2}"] for k in range(0, 57, 3)]
        genes = np.array([[-1, k + 2] for k in range(0, 57, 3)])
        drawn.append(matched_pairs_null(problem_of(x, graph, pairs), x, genes, types, 2, n_random=999).p[0, 1])
    assert np.min(drawn) >= 1 / 101
    assert (np.concatenate(drawn) <= 0.01).mean() < 0.16


@pytest.mark.parametrize(
    ("genes", "n", "error", "words"),
    [(LEAST_GENES - 1, 10, InputError, "at least 20 expressed genes, found 19"), (40, 0, ConfigError, "n_random >= 1")],
)
def test_a_panel_too_small_to_draw_from_is_refused(genes, n, error, words):
    _, x, graph, types = tissue(4)
    with pytest.raises(error, match=words):
        matched_pairs_null(problem_of(x, graph, [["g1", "g2"]]), x[:, :genes], np.array([[1, 2]]), types, 2, n_random=n)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_signal_that_is_none_has_no_p(bad):
    _, x, graph, types = tissue(2)
    pairs = [["g10", "g70"], ["g11", "g71"]]
    problem = problem_of(x, graph, pairs)
    ligand = problem.ligand_NL.to_dense()
    ligand[0, problem.lig_P[0]] = bad
    genes = np.array([[GENES.index(gene) for gene in pair] for pair in pairs])
    found = matched_pairs_null(replace(problem, ligand_NL=ligand.to_sparse_csr()), x, genes, types, 2, n_random=20)
    none = ~np.isfinite(found.score)
    assert none[..., 0].any()
    assert np.isnan(found.p[none]).all()
    assert np.isfinite(found.p[..., 1]).all()
