import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from metaniche.errors import ConfigError, InputError
from metaniche.graph import GraphConfig, build_graph
from metaniche.ops import received_by_pair, sent_by_pair
from metaniche.signaling import Resource, SignalConfig
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.relay import relay, relay_chains
from metaniche.signaling.scoring import signal_problem

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
    assert (table["q"] < 0.01).all()
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
