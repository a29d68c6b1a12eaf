from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import ConfigError, GraphError
from metaniche.graph import GraphConfig, build_graph, concat
from metaniche.signaling import DECAYS, Resource, SignalConfig
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.local import (
    PAIRS_AT_ONCE,
    STATISTICS,
    global_association,
    global_scores,
    local_association,
    local_scores,
)

N_PAIRS = PAIRS_AT_ONCE + 3


def tissue(seed, n=60, order=None, constant=False, rare=False, radius=60.0):
    """Expression of more pairs than a block holds, the graph and its weights; `order` names the cells anew."""
    rng = np.random.default_rng(seed)
    pos = rng.random((n, 2)) * np.sqrt(n / 0.004)
    names = [f"L{i}" for i in range(N_PAIRS)] + ["R0", "R1"]
    x = np.log1p(rng.poisson(rng.gamma(2.0, 1.0, len(names)), (n, len(names)))).astype(np.float32)
    if constant:
        x[:, [0, -1]] = 0.1
    if rare:
        x[:, 0] = np.arange(n) == 7
    pos, x = (pos, x) if order is None else (pos[order], x[order])
    graph = build_graph(
        torch.from_numpy(pos).float(), torch.tensor([0, n]), GraphConfig(radius_um=radius, max_paracrine=None)
    )
    pairs = pd.DataFrame({"ligand": names[:N_PAIRS], "receptor": [f"R{i % 2}" for i in range(N_PAIRS)]})
    return pair_expression(x, names, Resource(pairs, "invented")), graph, torch.exp(-graph.distance_um / 30)


def dense(expression, graph, weight, self_weight=0.0):
    """(W, X, Y) float64: row = receiver, a column per pair."""
    w = self_weight * np.eye(graph.n_cells)
    w[graph.receivers().numpy(), graph.indices.numpy()] += weight.double().numpy()
    ligand, receptor = (m.to_dense().double().numpy() for m in (expression.ligand_NL, expression.receptor_NR))
    return w, ligand[:, expression.lig_P.numpy()], receptor[:, expression.rec_P.numpy()]


def scores(x, clip=np.inf):
    return np.clip((x - x.mean(0)) / x.std(0), -clip, clip)


def oracle(statistic, w, x, y, clip=10.0):
    """Local values, global values and what the global ones are the cells' mean of, written as in the books."""
    if statistic == "cosine":
        local = (w @ (x * y)) / np.sqrt((w @ x**2) * (w @ y**2) + np.finfo(np.float32).eps)
        return local, local.mean(0)
    zx, zy = scores(x, clip), scores(y, clip)
    if statistic == "lee":
        around = [w @ zx, w @ zy]
        return around[0] * around[1], (around[0] * around[1]).sum(0) / (w.sum(1) ** 2).sum()
    local = len(x) / w.sum() * (zx * (w @ zy) + zy * (w @ zx))
    return local, np.einsum("ip,ij,jp->p", scores(y), w, scores(x)) / w.sum()


@pytest.mark.parametrize("self_weight", [0.0, 1.5])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_values_are_those_of_dense_matrices(statistic, self_weight):
    given_ = tissue(0)
    local, whole = oracle(statistic, *dense(*given_, self_weight))
    pairs = [5, 0, *range(1, N_PAIRS), 5]
    found = local_association(*given_, pairs, statistic, self_weight=self_weight)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, local[:, pairs], rtol=1e-5, atol=1e-6)
    table = global_association(*given_, statistic, self_weight=self_weight)
    np.testing.assert_allclose(table["value"], whole, rtol=1e-9, atol=1e-12)
    assert table["ligand"].tolist() == given_[0].pairs["ligand"].tolist()


@pytest.mark.parametrize("clip", [3.0, 10.0, np.inf])
@pytest.mark.parametrize("statistic", ["moran", "lee"])
def test_z_scores_are_cut_off(statistic, clip):
    expression, graph, weight = tissue(1, n=150, rare=True)
    assert scores(dense(expression, graph, weight)[1])[:, 0].max() > 10
    found = local_association(expression, graph, weight, range(N_PAIRS), statistic, clip=clip)
    np.testing.assert_allclose(
        found, oracle(statistic, *dense(expression, graph, weight), clip)[0], rtol=1e-5, atol=1e-5
    )


def test_local_values_add_up_to_the_global_one():
    given_ = tissue(2)
    w = dense(*given_)[0]
    whole = {s: global_association(*given_, s)["value"] for s in STATISTICS}
    local = {s: local_association(*given_, range(N_PAIRS), s, clip=np.inf).double().numpy() for s in STATISTICS}
    np.testing.assert_allclose(local["moran"].mean(0), 2 * whole["moran"], atol=1e-6)
    np.testing.assert_allclose(local["lee"].sum(0), whole["lee"] * (w.sum(1) ** 2).sum(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(local["cosine"].mean(0), whole["cosine"], atol=1e-6)


@pytest.mark.parametrize("statistic", ["moran", "lee"])
def test_the_null_is_that_of_receptors_permuted_over_cells(statistic):
    expression, graph, weight = tissue(3, n=40)
    clip = 1.2  # z-scores that were cut off do not have a mean of 0
    table = global_association(expression, graph, weight, statistic, self_weight=1.0, clip=clip)
    w, x, y = dense(expression, graph, weight, 1.0)
    rng = np.random.default_rng(0)
    drawn = np.stack([oracle(statistic, w, x, y[rng.permutation(len(y))], clip)[1] for _ in range(4000)])
    np.testing.assert_allclose(drawn.std(0), np.sqrt(table["variance"]), rtol=0.05)
    assert (np.abs(drawn.mean(0) - table["expected"]) < 4 * drawn.std(0) / np.sqrt(4000)).all()
    reached = (np.abs(drawn - drawn.mean(0)) >= np.abs(table["value"].to_numpy() - drawn.mean(0))).mean(0)
    np.testing.assert_allclose(table["p"], reached, atol=0.05)
    assert global_association(expression, graph, weight, "cosine")["p"].isna().all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), statistic=st.sampled_from(STATISTICS), n=st.integers(4, 40))
def test_the_order_of_cells_does_not_matter(seed, statistic, n):
    order = np.random.default_rng(seed).permutation(n)
    one, two = tissue(seed, n=n), tissue(seed, n=n, order=order)
    if not one[1].n_edges:
        return
    here, there = (local_association(*g, range(N_PAIRS), statistic, self_weight=0.5) for g in (one, two))
    np.testing.assert_allclose(there, here[order], rtol=1e-4, atol=1e-5)
    whole = [global_association(*g, statistic, self_weight=0.5)["value"] for g in (one, two)]
    np.testing.assert_allclose(*whole, rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10.0))
def test_the_scale_of_weights_means_what_is_said(seed, scale):
    expression, graph, weight = tissue(seed, n=30)
    pairs = range(N_PAIRS)
    moran, lee, cosine = (local_association(expression, graph, weight, pairs, s) for s in STATISTICS)
    torch.testing.assert_close(
        local_association(expression, graph, weight * scale, pairs), moran, rtol=1e-4, atol=1e-4, equal_nan=True
    )
    torch.testing.assert_close(
        local_association(expression, graph, weight * scale, pairs, "lee"), lee * scale**2,
        rtol=1e-4, atol=1e-4, equal_nan=True,
    )  # fmt: skip
    assert ((cosine >= 0) & (cosine <= 1 + 1e-6)).all()


@pytest.mark.parametrize("statistic", ["moran", "lee"])
def test_a_gene_that_does_not_vary_has_no_association(statistic):
    """0.1 in float32, whose mean over many cells is not itself."""
    given_ = tissue(4, n=61, constant=True)
    found = local_association(*given_, range(N_PAIRS), statistic)
    varies = np.array([i > 0 and i % 2 == 0 for i in range(N_PAIRS)])  # the first ligand and R1 do not
    assert found[:, ~varies].isnan().all()
    assert found[:, varies].isfinite().all()
    table = global_association(*given_, statistic)
    assert (table["value"].notna() == varies).all()
    assert (table["p"].notna() == varies).all()


@pytest.mark.parametrize("statistic", ["moran", "lee"])
def test_where_every_cell_hears_all_cells_alike_p_is_1(statistic):
    expression, graph, _ = tissue(4, n=15, radius=1e4)
    assert graph.n_edges == 15 * 14
    table = global_association(expression, graph, torch.ones(graph.n_edges), statistic, self_weight=1.0)
    assert (table["variance"] == 0).all()
    assert table["z"].isna().all()
    assert (table["p"] == 1).all()


def test_a_neighbourhood_without_one_side_has_a_cosine_of_0():
    expression, graph, weight = tissue(5, rare=True)
    found = local_association(expression, graph, weight, [0], "cosine")[:, 0]
    around = graph.receivers()[graph.indices == 7]
    assert len(around)
    apart = np.setdiff1d(np.arange(graph.n_cells), around)
    assert (found[apart] == 0).all()


def test_directed_weights_keep_rows_as_receivers():
    expression, graph, weight = tissue(6)
    one_way = weight * (graph.indices > graph.receivers())
    w, x, y = dense(expression, graph, one_way)
    assert not np.allclose(w, w.T)
    for statistic in STATISTICS:
        local, whole = oracle(statistic, w, x, y)
        found = local_association(expression, graph, one_way, range(N_PAIRS), statistic)
        np.testing.assert_allclose(found, local, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            global_association(expression, graph, one_way, statistic)["value"], whole, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("change", [{"statistic": "geary"}, {"self_weight": -1.0}, {"clip": 0.0}])
def test_settings_that_mean_nothing_are_refused(change):
    with pytest.raises(ConfigError, match="Expected a statistic"):
        local_association(*tissue(7), [0], **change)
    with pytest.raises(ConfigError, match="Expected a statistic"):
        global_association(*tissue(7), **change)


def test_what_does_not_fit_is_refused():
    expression, graph, weight = tissue(8)
    for pairs in ([N_PAIRS], [-1]):
        with pytest.raises(GraphError, match="positions of pairs"):
            local_association(expression, graph, weight, pairs)
    sides = (torch.cat([m.to_dense()] * 2).to_sparse_csr() for m in (expression.ligand_NL, expression.receptor_NR))
    twice = replace(expression, **dict(zip(("ligand_NL", "receptor_NR"), sides)))
    with pytest.raises(GraphError, match="2 samples"):
        global_association(twice, concat([graph, graph]), torch.cat((weight, weight)))
    with pytest.raises(GraphError, match="found 60 rows"):
        global_association(expression, *tissue(8, n=50)[1:])
    for wrong in (weight[:-1], -weight, weight * torch.nan, weight * torch.inf):
        with pytest.raises(GraphError, match="finite weight"):
            local_association(expression, graph, wrong, [0])
    with pytest.raises(GraphError, match="sum to more than 0"):
        local_association(expression, graph, weight * 0, [0])


def test_a_signaling_type_out_of_reach_has_no_scores_and_the_others_have(caplog):
    rng = np.random.default_rng(0)
    pos = torch.from_numpy(rng.random((60, 2)) * 100).float()
    graph = build_graph(pos, torch.tensor([0, 60]), GraphConfig(radius_um=40.0, max_paracrine=None))
    pairs = pd.DataFrame({"ligand": ["A", "C"], "receptor": ["B", "D"], "signaling_type": ["contact", "secreted"]})
    expression = pair_expression(rng.gamma(1.0, 1.0, (60, 4)), list("ABCD"), Resource(pairs, "invented"))
    found = local_scores(expression, graph, SignalConfig(decays={"contact": {"length_um": 1e-6}}), "lee")
    assert found["A - B"].isna().all()
    assert found["C - D"].notna().all()
    assert "No edge carries signals of contact" in caplog.text
    table = global_scores(expression, graph, SignalConfig(decays={"contact": {"length_um": 1e-6}}), "lee")
    assert table["ligand"].tolist() == ["C"]
    caplog.clear()
    local = np.full((70, 2), np.nan, np.float32)
    rows = rng.permutation(70)[:60]
    config = SignalConfig(decays={"contact": {"length_um": 1e-6}})
    both = global_scores(expression, graph, config, "lee", local=local, rows=rows)
    assert caplog.text.count("No edge carries signals of contact") == 1
    pd.testing.assert_frame_equal(both, table)
    np.testing.assert_array_equal(local[rows], found)
    assert np.isnan(np.delete(local, rows, axis=0)).all()
    silent = SignalConfig(decays={kind: {"kind": "cut", "length_um": 1e-6} for kind in ("contact", "secreted")})
    assert global_scores(expression, graph, silent, "lee").empty


def test_the_global_table_is_that_of_every_signaling_type_with_q_over_all():
    rng = np.random.default_rng(1)
    pos = torch.from_numpy(rng.random((80, 2)) * 100).float()
    graph = build_graph(pos, torch.tensor([0, 80]), GraphConfig(radius_um=40.0, max_paracrine=None))
    pairs = pd.DataFrame({"ligand": list("ACA"), "receptor": list("BDD"), "signaling_type": ["contact", "ecm", "ecm"]})
    x = rng.gamma(1.0, 1.0, (80, 4)).astype(np.float32)
    x[:, 3] = 1.0  # D does not vary: no p, and not counted among the tests
    expression = pair_expression(x, list("ABCD"), Resource(pairs, "invented"))
    found = global_scores(expression, graph, SignalConfig()).set_index(["ligand", "receptor"])
    alone = global_association(expression.select([0]), graph, DECAYS["contact"].weights(graph.distance_um))
    assert found.loc[("A", "B"), "p"] == pytest.approx(alone["p"].item())
    assert found.loc[("A", "B"), "q"] == pytest.approx(alone["p"].item())
    assert found.loc[[("C", "D"), ("A", "D")], ["p", "q"]].isna().all(axis=None)


def test_edges_count_as_often_as_their_weight_says():
    expression, graph, _ = tissue(2)
    stands_for = 1 + torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(0)) * 9
    (kind,) = (kind for kind, _ in expression.by_signaling_type())
    weight = DECAYS[kind].weights(graph.distance_um) * stands_for
    found = local_scores(expression, replace(graph, weight=stands_for), SignalConfig()).to_numpy()
    np.testing.assert_array_equal(found, local_association(expression, graph, weight, range(N_PAIRS)).numpy())
