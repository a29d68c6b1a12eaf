import copy

import pytest
import torch
from elsewhere import ELSEWHERE, accelerator, waits
from tissue import make_sample

from metaniche.errors import ConfigError
from metaniche.models import SeedSoil
from metaniche.models.seed_soil import TERMS, shared_variance

PAIRS = {
    "ligand": [0, 1, 0, 2, 1, 2],
    "receptor": [3, 4, 4, 5, 5, 3],
    "scale": [1.0, 2.0, 0.5, 1.0, 1.0, 3.0],
    "family": ["contact", "secreted", "secreted", "ecm", "contact", "ecm"],
}
N = 80


@pytest.fixture
def tissue():
    graph = make_sample("s", "p", n_cells=N).graph
    torch.manual_seed(0)
    surroundings = torch.rand(N) < 0.6
    return {
        "x": torch.randn(N, 5),
        "graph": graph,
        "bag_ptr": torch.tensor([0, 30, N]),
        "candidates": ~surroundings,
        "signals": torch.rand(N, 6) * (torch.rand(N, 6) < 0.7),
        "surroundings": surroundings,
    }


def network(outputs=1, **changes):
    torch.manual_seed(1)
    return SeedSoil(5, outputs, **{"pairs": PAIRS, "width": 16} | changes).eval()


def test_terms_add_up_to_the_cells_and_the_bags(tissue):
    out = network()(**tissue)
    assert out.terms.shape == (N, len(TERMS), 1)
    torch.testing.assert_close(out.terms.sum(1), out.cell_logits)
    share = (out.attention[:, None, None] * out.terms).sum(1)
    torch.testing.assert_close(torch.stack([share[:30].sum(0), share[30:].sum(0)]), out.bag_logits)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_that_is_left_out_says_nothing(tissue, term):
    out = network(**{term: False})(**tissue)
    assert (out.terms[:, TERMS.index(term)] == 0).all()
    rest = [i for i, name in enumerate(TERMS) if name != term]
    assert (out.terms[:, rest].std(0) > 0).all()


def changed(tissue, key, cells):
    value = tissue[key].clone()
    value[cells] += 1
    return tissue | {key: value}


def test_each_term_sees_what_it_may(tissue):
    model, graph = network(), tissue["graph"]
    cell = int(torch.nonzero(tissue["surroundings"] & (graph.indptr.diff() > 0))[0])
    before, after = (model(**t).terms[:, :, 0] for t in (tissue, changed(tissue, "x", [cell])))
    moved = {name: set(torch.nonzero(before[:, i] != after[:, i]).flatten().tolist()) for i, name in enumerate(TERMS)}
    hearers = set(graph.receivers()[graph.indices == cell].tolist())
    assert moved["seed"] == {cell}
    assert moved["soil"] == hearers
    assert not moved["signals"]
    told = model(**changed(tissue, "signals", [cell])).terms[:, 2, 0] != before[:, 2]
    assert set(torch.nonzero(told).flatten().tolist()) <= hearers | {cell}
    tumour = int(torch.nonzero(~tissue["surroundings"])[0])
    other = model(**changed(tissue, "x", [tumour])).terms[:, 1, 0]
    torch.testing.assert_close(other, before[:, 1])  # the tumour is nobody's soil


def test_tumour_alone_has_no_soil(tissue):
    alone = tissue | {"surroundings": torch.zeros(N, dtype=torch.bool), "candidates": torch.ones(N, dtype=torch.bool)}
    soil = network()(**alone).terms[:, TERMS.index("soil")]
    torch.testing.assert_close(soil, soil[:1].expand_as(soil))
    other = network()(**changed(alone, "x", list(range(N)))).terms[:, TERMS.index("soil")]
    torch.testing.assert_close(other, soil)


def test_without_ligands_nothing_is_heard(tissue):
    silent = tissue | {"signals": torch.zeros(N, 6)}
    assert (network()(**silent).terms[:, 2] == 0).all()


def test_who_says_it_does_not_count(tissue):
    before, after = (network()(**t).terms[:, 2] for t in (tissue, changed(tissue, "x", list(range(N)))))
    torch.testing.assert_close(before, after)


def test_effects_of_pairs_on_edges_sum_to_the_signals_term(tissue):
    model = network().double()
    tissue = tissue | {"x": tissue["x"].double(), "signals": tissue["signals"].double()}
    total = torch.zeros(N, dtype=torch.float64)
    for part in model.edge_effects(tissue["signals"], tissue["graph"]):
        sender, receiver = part.graph.indices.long(), part.graph.receivers()
        mass = tissue["signals"][sender][:, part.ligand.long()] * tissue["signals"][receiver][:, part.receptor.long()]
        total.index_add_(0, receiver, (mass * part.weight * part.effect).sum(1))
    torch.testing.assert_close(total, model(**tissue).terms[:, 2, 0], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("pairs", [PAIRS, None])
def test_what_edges_add_sums_to_the_signals_term_and_what_is_cut_is_not_heard(tissue, pairs):
    model = network(pairs=pairs, outputs=2).double()
    tissue = tissue | {"x": tissue["x"].double(), "signals": tissue["signals"].double()}
    own, signals, graph = model.embed(tissue["x"]), tissue["signals"], tissue["graph"]
    added = model.edge_contributions(own, signals, graph)
    term = model(**tissue).terms[:, TERMS.index("signals")]
    summed = torch.zeros(N, 2, dtype=torch.float64).index_add_(0, graph.receivers(), added)
    torch.testing.assert_close(summed, term, atol=1e-6, rtol=1e-6)
    deaf = graph.receivers() < 40
    heard = model.signals_over(own, signals, graph.keep(~deaf))
    assert (heard[:40] == 0).all()
    torch.testing.assert_close(heard[40:], term[40:])
    along = model.signals_along(own, signals, graph)
    for edges in (~deaf, torch.arange(graph.n_edges) % 3 > 0, torch.zeros(graph.n_edges, dtype=torch.bool)):
        torch.testing.assert_close(along(edges), model.signals_over(own, signals, graph.keep(edges)))


def test_signals_under_some_pairs_are_those_of_a_network_in_which_the_others_weigh_nothing(tissue):
    model, weigh = network(outputs=2).double(), torch.rand(N, dtype=torch.float64)
    signals, graph = tissue["signals"].double(), tissue["graph"]
    own = model.embed(tissue["x"].double())
    sizes = [listen.ligand.numel() for listen in model.families.values()]
    kept = torch.tensor([[True] * sum(sizes), *((torch.arange(sum(sizes)) % k == 0).tolist() for k in (2, 3))])
    found = model.signals_under(weigh, signals, graph, kept)
    for row, mine in zip(found, kept):
        some = copy.deepcopy(model)
        for listen, part in zip(some.families.values(), mine.split(sizes)):
            listen.scale[~part] = 0.0
        torch.testing.assert_close(row, weigh @ some.signals_over(own, signals, graph), rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter(tissue):
    model = network().train()
    torch.nn.init.normal_(model.pool.weight.weight)
    out = model(**tissue)
    (out.bag_logits.sum() + out.penalty).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still in ([], ["pool.weight.bias"])  # a softmax does not see a constant


def test_without_pairs_it_listens_by_relation(tissue):
    model = network(pairs=None)
    assert set(model.families) == {"contact", "paracrine"}
    assert model(**tissue | {"signals": torch.zeros(N, 0)}).terms[:, 2].std() > 0
    assert not list(model.edge_effects(tissue["signals"], tissue["graph"]))


def test_without_any_term_nothing_is_left():
    with pytest.raises(ConfigError, match="at least one of seed, soil and signals"):
        network(seed=False, soil=False, signals=False)


def test_ranges_stay_within_their_bounds(tissue):
    model = network()
    place = model.families["secreted"].length.place
    for push in (-1e3, 1e3):
        with torch.no_grad():
            place.fill_(push)
        length = model.families["secreted"].length.length_um
        assert (length >= 10 - 1e-3).all()
        assert (length <= 150 + 1e-2).all()


def test_distance_counts_unless_it_is_left_out(tissue):
    graph = tissue["graph"]
    far = graph.__class__(**{**graph.tensors(), "distance_um": graph.distance_um * 1.5})
    for distance in (True, False):
        model = network(distance=distance, soil=False)
        same = torch.allclose(*(model(**tissue | {"graph": g}).terms[:, 2] for g in (graph, far)))
        assert same != distance


def test_shared_variance_is_one_for_the_same_and_none_for_independent_columns():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(5000, 1, generator=g), torch.randn(5000, 1, generator=g)
    assert shared_variance(a, 3 * a + 2) == pytest.approx(1, abs=0.01)
    assert shared_variance(a, b) < 0.01
    assert shared_variance(a[:2], b[:2]) == 0


def test_organs_speak_in_the_soil_of_sites_and_terms_still_add_up(tissue):
    organs = {"ligand": [[0.9, 0.1], [0.1, 0.9], None], "receptor": [3, 4], "scale": [2.0, 2.0]}
    torch.manual_seed(1)
    with_organs = SeedSoil(5, 3, pairs=PAIRS, width=16, organs=organs).eval()
    without = SeedSoil(5, 3, pairs=PAIRS, width=16).eval()
    without.load_state_dict({k: v for k, v in with_organs.state_dict().items() if not k.startswith("organs.")})
    waits = with_organs.organs(tissue["signals"])
    others = tissue["surroundings"]  # not malignant: what they have receptors of says nothing of the tumour
    assert (waits[others] != 0).any()
    for surroundings, expected in ((None, waits), (others, waits * ~others[:, None])):
        given = tissue | {"surroundings": surroundings}
        out, bare = with_organs(**given), without(**given)
        torch.testing.assert_close(out.terms.sum(1), out.cell_logits)
        torch.testing.assert_close((out.terms - bare.terms)[:, TERMS.index("soil")], expected)
        torch.testing.assert_close(out.terms[:, 0], bare.terms[:, 0])
    assert SeedSoil(5, 3, pairs=PAIRS, soil=False, organs=organs).organs is None


@pytest.mark.parametrize(("pairs", "most"), [(PAIRS, 3), (None, 4)])
def test_a_step_on_a_gpu_waits_for_little(tissue, pairs, most):
    """For how many cells are judged, how many edges come from surroundings, and how many each relation has."""
    with accelerator():
        there = {key: part.to(ELSEWHERE) for key, part in tissue.items()}
        made = network(pairs=pairs).train().to(ELSEWHERE)
        waits.clear()
        out = made(**there)
        (out.bag_logits.sum() + out.penalty).backward()
        assert waits == ["aten.nonzero.default"] * most
        waits.clear()
        assert made.eval()(**there).penalty is None
        assert waits == ["aten.nonzero.default"] * (most - 1)
