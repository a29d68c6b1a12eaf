import itertools
import sys
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from metaniche.errors import ConfigError, InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.ops import received_by_pair, sent_by_pair
from metaniche.signaling import Resource, SignalConfig
from metaniche.signaling.csr import to_torch
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.relay import RELAY, Shifts, relay, relay_chains, relays
from metaniche.signaling.scoring import signal_problem
from metaniche.signaling.shifts import matched

MODULE = sys.modules["metaniche.signaling.relay"]  # the package has a function of that name
GENES = ["A", "RA", "B", "RB", "C"]
PAIRS = pd.DataFrame({"ligand": ["A", "B"], "receptor": ["RA", "RB"]})
LINKS = pd.DataFrame({"receptor": ["RA"], "target": ["B"]})


def given(seed, n=200, answer=False):
    """Cells of two types; with `answer` cells that receive A make B."""
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy(rng.random((n, 2)) * np.sqrt(n / 0.004)).float()
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=60.0, max_paracrine=None))
    x = rng.gamma(1.0, 1.0, (n, len(GENES))).astype(np.float32)
    types = rng.integers(0, 2, n).astype(np.int32)
    weight = torch.exp(-graph.distance_um / 30)
    if answer:
        heard = np.zeros(n)
        np.add.at(heard, graph.receivers().numpy(), weight.numpy() * x[graph.indices.numpy(), 0])
        x[np.argsort(heard * x[:, 1]), 2] = np.sort(x[:, 2])
    expression = pair_expression(x, GENES, Resource(PAIRS, "invented"))
    return expression, signal_problem(expression, graph, weight, SignalConfig()), torch.from_numpy(types)


def patchy(seed, pos):
    """(N, 4) genes in patches some 30 um wide, each apart from the others."""
    rng = np.random.default_rng(seed)
    fields = [
        np.sqrt(2 / 60) * np.cos(pos @ rng.normal(0, 1 / 30, (2, 60)) + rng.random(60) * 2 * np.pi).sum(1)
        for _ in range(4)
    ]
    return np.log1p(rng.poisson(np.exp(0.3 + np.stack(fields, 1)))).astype(np.float32)


def test_chains_follow_the_links():
    expression, _, _ = given(0)
    chains = relay_chains(expression, LINKS)
    assert chains.to_dict("records") == [
        {
            "first": 0, "second": 1, "received_ligand": "A", "received_receptor": "RA", "sent_ligand": "B",
            "sent_receptor": "RB",
        }
    ]  # fmt: skip


def test_a_subunit_of_a_complex_is_enough():
    pairs = pd.DataFrame({"ligand": ["A", "B_C"], "receptor": ["RA_RB", "RB"]})
    x = np.ones((5, len(GENES)), np.float32)
    chains = relay_chains(pair_expression(x, GENES, Resource(pairs, "invented")), LINKS)
    assert chains[["first", "second"]].to_numpy().tolist() == [[0, 1]]


def test_moments_are_those_of_all_permutations():
    expression, problem, types = given(1, n=7)
    types = torch.zeros_like(types)
    found = relay(problem, relay_chains(expression, LINKS), types, ["cell"]).iloc[0]
    received = next(received_by_pair(problem))[1][:, 0].double().numpy()
    sent = next(sent_by_pair(problem))[1][:, 1].double().numpy()
    ligand = expression.ligand_NL.to_dense()[:, int(expression.lig_P[1])].double().numpy()
    fixed = received * sent / ligand  # what the cell hears and who listens to it
    every = np.array([fixed @ ligand[list(order)] for order in itertools.permutations(range(7))])
    assert found["score"] * 7 == pytest.approx(received @ sent)
    assert found["expected"] * 7 == pytest.approx(every.mean())
    assert found["z"] == pytest.approx((received @ sent - every.mean()) / every.std())


def test_p_is_uniform_where_nobody_answers_and_small_where_cells_do():
    drawn = []
    for seed in range(200):
        expression, problem, types = given(seed, n=120)
        table = relay(problem, relay_chains(expression, LINKS), types, ["one", "two"])
        drawn.append(table.set_index("relay_type").loc["one", "p"])
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
    expression, problem, types = given(3, answer=True)
    table = relay(problem, relay_chains(expression, LINKS), types, ["one", "two"])
    assert (table["p"] < 0.005).all()
    assert table["n_cells"].sum() == len(types)


@pytest.mark.parametrize(
    ("links", "words"),
    [
        (LINKS.rename(columns={"target": "gene"}), "no 'target'"),
        (LINKS.assign(target="C"), "found none in 1 rows"),
    ],
)
def test_links_that_lead_nowhere_are_refused(links, words):
    with pytest.raises(InputError, match=words):
        relay_chains(given(0)[0], links)


def test_a_score_that_is_not_separable_is_refused():
    expression, problem, types = given(0)
    with pytest.raises(ConfigError, match="mass action"):
        relay(replace(problem, half_saturation=1.0), relay_chains(expression, LINKS), types, ["one", "two"])


def test_a_ligand_that_is_answered_with_itself_is_no_chain():
    with pytest.raises(InputError, match="found none in 1 rows"):
        relay_chains(given(0)[0], LINKS.assign(target="A"))


def test_signals_of_two_signaling_types_are_chained_and_cells_without_a_type_relay_nothing():
    """Each pair stands first among those of its signaling type, and reaches as far as that type."""
    rng = np.random.default_rng(7)
    n, genes = 150, ["A", "RA", "B", "RB", "C", "RC", "D", "RD"]
    pairs = pd.DataFrame(
        {"ligand": list("ACBD"), "receptor": ["RA", "RC", "RB", "RD"],
         "signaling_type": ["secreted", "contact", "ecm", "secreted"]}
    )  # fmt: skip
    pos = torch.from_numpy(rng.random((n, 2)) * 200).float()
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=60.0, max_paracrine=None))
    x = rng.gamma(1.0, 1.0, (n, len(genes))).astype(np.float32)
    expression = pair_expression(x, genes, Resource(pairs, "invented"))
    types = pd.Categorical(np.where(np.arange(n) < 100, "one", None))
    links = pd.DataFrame({"receptor": ["RC", "RD"], "target": ["B", "A"]})
    config = SignalConfig(decays={"ecm": {"kind": "cut", "length_um": 30.0}})
    table = relays(expression, types, graph, links, config)
    assert set(table["relay_type"]) == {"one"}
    assert (table["n_cells"] == 100).all()
    for row in table.itertuples():
        heard, sent = (
            config.decay(kind).weights(graph.distance_um).double().numpy()
            for kind in (("contact", "ecm") if row.received_ligand == "C" else ("secreted", "secreted"))
        )
        ligand, receptor, answer, listener = (
            x[:, genes.index(g)].astype(float)
            for g in (row.received_ligand, row.received_receptor, row.sent_ligand, row.sent_receptor)
        )
        j, i = graph.indices.numpy(), graph.receivers().numpy()
        received = np.bincount(i, heard * ligand[j], n) * receptor
        told = np.bincount(j, sent * listener[i], n) * answer
        assert row.score == pytest.approx((received * told)[:100].mean(), rel=1e-4)
    assert len(table) == 2
    np.testing.assert_allclose(table["q"], stats.false_discovery_control(table["p"]))
    told, shifts = [], replace(config, null_model="shifts", n_permutations=5)
    relays(expression, types, graph, links, shifts, lambda *step: told.append(step))
    assert told[0] == (0, 2, "ecm in answer to contact: shifts of ligands, part 1 of 1, 1 of 5")
    assert told[-1][:2] == (1, 2)


def test_shifts_keep_patches_and_say_the_same_of_the_signal():
    """Sums are those of the closed form, in whatever blocks; patchy genes that nobody answers are seldom small p."""
    drawn = {"closed": [], "shifts": []}
    for seed in range(40):
        expression, problem, types = given(seed, n=300)
        pos = np.random.default_rng(seed).random((300, 2)) * np.sqrt(300 / 0.004)  # as in `given`
        x = patchy(seed, pos)
        problem = replace(problem, ligand_NL=to_torch(x[:, :2]), receptor_NR=to_torch(x[:, 2:]))
        chains = relay_chains(expression, LINKS)
        shifts = Shifts(torch.from_numpy(pos), 99, 20, seed)
        closed, moved = (relay(problem, chains, types, ["one", "two"], shifts=s) for s in (None, shifts))
        both = closed.merge(moved, on="relay_type")
        np.testing.assert_allclose(both["score_x"], both["score_y"], rtol=1e-4)
        drawn["closed"] += list(closed["p"])
        drawn["shifts"] += list(moved["p"])
    small = {name: np.mean(np.array(p) <= 0.05) for name, p in drawn.items()}
    assert small["shifts"] <= 0.13 < small["closed"]


def test_shifted_ligands_stay_in_their_type():
    """Cells of the second type hardly make the answer: in the first, the mean over shifts is near that of permutations."""
    expression, problem, types = given(5, n=400)
    ligand = problem.ligand_NL.to_dense().numpy()
    ligand[types.numpy() == 1, 1] *= 1e-3
    problem = replace(problem, ligand_NL=to_torch(ligand))
    chains = relay_chains(expression, LINKS)
    shifts = Shifts(torch.from_numpy(np.random.default_rng(5).random((400, 2)) * 316), 99, 1000, 0)
    closed, moved = (
        relay(problem, chains, types, ["one", "two"], shifts=s).set_index("relay_type") for s in (None, shifts)
    )
    assert moved.loc["one", "expected"] == pytest.approx(closed.loc["one", "expected"], rel=0.1)


def test_the_blocks_in_which_chains_are_summed_do_not_matter(monkeypatch):
    expression, problem, types = given(2)
    pairs = pd.DataFrame({"ligand": ["A", "B", "C"], "receptor": ["RA", "RB", "RA"]})
    x = np.random.default_rng(0).gamma(1.0, 1.0, (len(types), len(GENES))).astype(np.float32)
    expression = pair_expression(x, GENES, Resource(pairs, "invented"))
    problem = replace(problem, **{k: getattr(expression, k) for k in ("ligand_NL", "receptor_NR", "lig_P", "rec_P")})
    chains = relay_chains(expression, pd.DataFrame({"receptor": ["RA", "RA", "RB"], "target": ["B", "C", "A"]}))
    assert len(chains) >= 4
    shifts = Shifts(torch.rand(len(types), 2) * 100, 19, 20, 0)
    whole = [relay(problem, chains, types, ["one", "two"], shifts=s) for s in (None, shifts)]
    monkeypatch.setattr(MODULE, "CHAINS_AT_ONCE", 2)
    monkeypatch.setattr(MODULE, "VALUES_AT_ONCE", 3 * len(types))
    for name in ("received_by_pair", "sent_by_pair"):
        monkeypatch.setattr(MODULE, name, partial(getattr(MODULE, name), rows=70))
    parts = [relay(problem, chains, types, ["one", "two"], shifts=s) for s in (None, shifts)]
    by = ["relay_type", *RELAY[1:]]
    for one, two in zip(whole, parts):
        pd.testing.assert_frame_equal(*(t.sort_values(by, ignore_index=True) for t in (one, two)), rtol=1e-5)


def test_blocks_of_chains_share_the_shifts_of_their_cells(monkeypatch):
    expression, problem, types = given(2)
    chains = pd.concat([relay_chains(expression, LINKS)] * 3, ignore_index=True)
    shifts = Shifts(torch.rand(len(types), 2) * 100, 4, 20, 0)
    monkeypatch.setattr(MODULE, "VALUES_AT_ONCE", len(types))
    with mock.patch("metaniche.signaling.shifts.matched", wraps=matched) as searches:
        relay(problem, chains, types, ["one", "two"], shifts=shifts)
    assert searches.call_count == 4 * 2  # shifts and cell types


def test_markers_that_share_a_part_of_their_names_are_no_one_ligand():
    pairs = pd.DataFrame({"ligand": ["HLA_Class_1", "HLA_Class_2"], "receptor": ["CD8", "CD4"]})
    x = np.ones((5, 4), np.float32)
    expression = pair_expression(x, ["HLA_Class_1", "HLA_Class_2", "CD8", "CD4"], Resource(pairs, "invented"))
    chains = relay_chains(expression, pd.DataFrame({"receptor": ["CD8"], "target": ["HLA_Class_2"]}))
    assert chains[["received_ligand", "sent_ligand"]].to_numpy().tolist() == [["HLA_Class_1", "HLA_Class_2"]]
