"""Transport against COMMOT's loop, a convex solver's optimality conditions and what every plan must obey."""

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import GraphError
from metaniche.ops import radius_neighbors, transport
from metaniche.ops.backend import use_backend

MODULE = import_module("metaniche.ops.transport")
FULL = torch.tensor([[0, 0], [0, 1], [1, 1], [2, 2]])


@pytest.fixture(autouse=True, scope="module")
def backend():
    """The tests here say themselves which implementation they ask."""


def make_problem(seed=0, sizes=(60,), radius=25.0, dense=0.5, pairs=FULL, lattice=False):
    """Masses with zeros, an unused ligand and receptor, and a radius graph whose cells may be co-located or alone."""
    rng = np.random.default_rng(seed)
    n, columns = sum(sizes), int(pairs.max()) + 2
    pos = rng.uniform(0, 100, (n, 2))
    pos = torch.from_numpy((np.round(pos, -1) if lattice else pos).astype(np.float32))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    ligand, receptor = (rng.exponential(1, (n, columns)) * (rng.random((n, columns)) < dense) for _ in range(2))
    graph = radius_neighbors(pos, ptr, radius)
    return (torch.from_numpy(ligand), torch.from_numpy(receptor), pairs, *graph), ptr


def commot_loop(a, b, cost, eps, rho, turns):
    """The published update on one dense problem: cost is infinite where no mass may go."""
    f, g = np.zeros_like(a), np.zeros_like(b)
    for _ in range(turns):
        plan = np.exp((-cost + f[:, None] + g) / eps)
        f = eps * np.log(a) - eps * np.log(plan.sum(1) + np.exp((-rho + f) / eps)) + f
        plan = np.exp((-cost + f[:, None] + g) / eps)
        g = eps * np.log(b) - eps * np.log(plan.sum(0) + np.exp((-rho + g) / eps)) + g
    return np.exp((-cost + f[:, None] + g) / eps)


def dense_amounts(args, eps, rho, turns):
    """Sent and received (N, P) of one sample by the loop over all (cell, ligand) x (cell, receptor)."""
    ligand, receptor, pairs, indptr, indices, cost = (x.numpy() for x in args)
    n = len(ligand)
    distance = np.full((n, n), np.inf)  # sender, receiver
    distance[indices, np.repeat(np.arange(n), np.diff(indptr))] = cost / cost.max()
    amount = max(ligand.sum(), receptor.sum())
    full = np.full((*ligand.shape, *receptor.shape), np.inf)
    for lig, rec in pairs:
        full[:, lig, :, rec] = distance
    full = full.reshape(ligand.size, receptor.size)
    a, b = ligand.ravel() / amount, receptor.ravel() / amount
    plan = np.zeros_like(full)
    inside = np.ix_(a > 0, b > 0)
    plan[inside] = commot_loop(a[a > 0], b[b > 0], full[inside], eps, rho, turns)
    plan = plan.reshape(*ligand.shape, *receptor.shape) * amount
    return [np.stack([plan[:, lig, :, rec].sum(axis) for lig, rec in pairs], 1) for axis in (1, 0)]


def assert_close(ours, theirs, relative=1e-6):
    assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() <= relative * np.abs(np.asarray(theirs)).max()


@pytest.fixture(params=[True, False], ids=["by mass", "by cell"])
def written_out(request, monkeypatch):
    """Whether the native solver writes out links, as it does for problems of a test's size, or works on edges."""
    if not request.param:
        monkeypatch.setattr(MODULE, "MOST_LINKS", 0)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_it_ends_where_commots_loop_ends(backend, written_out):
    args, _ = make_problem(1, (40,))
    with use_backend(backend):
        result = transport(*args, rho=1.0, tolerance=1e-9)
        amounts = result.amounts()
    assert result.converged_S.all()
    for ours, theirs in zip(amounts, dense_amounts(args, 0.1, 1.0, 4000)):
        assert_close(ours, theirs)


@pytest.mark.parametrize("most_links", [2**25, 0])
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 999), st.lists(st.integers(0, 30), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_native_and_reference_agree(most_links, seed, sizes, lattice, one_pair):
    pairs = FULL[:1] if one_pair else FULL
    args, ptr = make_problem(seed, tuple(sizes), lattice=lattice, pairs=pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "MOST_LINKS", most_links)
        native = transport(*args, sample_ptr=ptr, rho=0.7, tolerance=1e-9)
    with use_backend("reference"):
        plain = transport(*args, sample_ptr=ptr, rho=0.7, tolerance=1e-9)
        amounts = plain.amounts()
    assert native.converged_S.all()
    assert plain.converged_S.all()
    for ours, theirs in zip(native.amounts(), amounts):
        assert (ours - theirs).abs().max() <= 1e-6 * max(float(theirs.max()), 1.0) if ours.numel() else True
    used = pairs.T.unique(dim=1)
    mass = args[0][:, used[0].unique()] > 0
    assert torch.equal(native.log_u_NL[:, used[0].unique()].isfinite(), mass)


def test_at_the_default_penalty_it_meets_the_conditions_of_the_optimum(written_out):
    """rho / eps = 100, where the loop needs more turns than a test has: plan and slack make up every mass."""
    args, ptr = make_problem(2, (300, 200), radius=12.0, dense=0.3)
    ligand, receptor, pairs, indptr, indices, _ = args
    result = transport(*args, sample_ptr=ptr)
    assert result.converged_S.all()
    receivers = torch.arange(500).repeat_interleave(indptr.diff())
    sent, received = torch.zeros_like(ligand), torch.zeros_like(receptor)
    for p, (lig, rec) in enumerate(pairs.tolist()):
        plan = result.plan(p)
        sent[:, lig].index_add_(0, indices.long(), plan)
        received[:, rec].index_add_(0, receivers, plan)
    for s in range(2):
        rows = slice(ptr[s], ptr[s + 1])
        amount = max(ligand[rows].sum(), receptor[rows].sum())
        slack_u = (result.log_u_NL[rows, :3] - 100).exp()
        slack_v = (result.log_v_NR[rows, :3] - 100).exp() * amount
        assert_close(sent[rows, :3] + slack_u, ligand[rows, :3], 1e-10)
        assert_close(received[rows, :3] + slack_v, receptor[rows, :3], 1e-6)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_amounts_are_the_sums_of_the_plans(backend):
    args, ptr = make_problem(3, (30, 20))
    with use_backend(backend):
        result = transport(*args, sample_ptr=ptr, rho=1.0, tolerance=1e-6)
        sent, received = result.amounts()
        some = result.amounts([3, 1])
    receivers = torch.arange(50).repeat_interleave(args[3].diff())
    for p in range(4):
        plan = result.plan(p)
        assert (plan >= 0).all()
        assert torch.allclose(sent[:, p], torch.zeros(50).double().index_add_(0, args[4].long(), plan))
        assert torch.allclose(received[:, p], torch.zeros(50).double().index_add_(0, receivers, plan))
    assert torch.equal(some[0], sent[:, [3, 1]])
    assert torch.equal(some[1], received[:, [3, 1]])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999))
def test_no_cell_sends_or_receives_more_than_it_has(seed):
    args, ptr = make_problem(seed, (80,), dense=0.4)
    sent, received = transport(*args, sample_ptr=ptr).amounts()
    for column, amounts, mass in ((0, sent, args[0]), (1, received, args[1])):
        for name in FULL[:, column].unique():
            of_name = FULL[:, column] == name
            assert (amounts[:, of_name].sum(1) <= mass[:, name] * (1 + 1e-6) + 1e-12).all()


def test_more_supply_never_lowers_what_a_cell_receives_in_all():
    """The slack of every receiver falls when the supply of any sender grows, as long as demand sets the scale."""
    args, _ = make_problem(4, (80,), dense=0.4, pairs=FULL[:1])
    args[1][:, 0] += 3.0 * (args[1][:, 0] > 0)
    before = transport(*args, tolerance=1e-11).amounts()[1]
    args[0][7, 0] += 0.5
    args[0][30:35, 0] *= 1.5
    after = transport(*args, tolerance=1e-11).amounts()[1]
    assert (after >= before - 1e-8).all()
    assert after.sum() > before.sum() + 0.1


def test_the_order_of_cells_does_not_matter():
    args, _ = make_problem(5, (70,))
    ligand, receptor, pairs, indptr, indices, cost = args
    order = torch.from_numpy(np.random.default_rng(0).permutation(70))
    place = torch.argsort(order)
    rows = torch.cat([torch.arange(indptr[i], indptr[i + 1]) for i in order])
    turned = torch.cat((torch.zeros(1, dtype=torch.int64), indptr.diff()[order].cumsum(0)))
    moved = (ligand[order], receptor[order], pairs, turned, place[indices.long()[rows]].int(), cost[rows])
    for ours, theirs in zip(transport(*moved).amounts(), transport(*args).amounts()):
        assert_close(ours, theirs[order])


def test_samples_are_solved_apart(written_out):
    args, ptr = make_problem(6, (50, 0, 40))
    both = transport(*args, sample_ptr=ptr)
    ligand, receptor, pairs, indptr, indices, cost = args
    first = int(indptr[50])
    alone = transport(
        ligand[50:], receptor[50:], pairs, indptr[50:] - first, (indices[first:] - 50).int(), cost[first:]
    )
    for ours, theirs in zip(both.amounts(), alone.amounts()):
        assert torch.equal(ours[50:], theirs)
    assert both.iterations_S.shape == (3,)
    assert both.converged_S.all()


def test_pairs_that_share_nothing_do_not_compete_and_those_that_share_do():
    args, _ = make_problem(7, (60,))
    together = transport(*args).amounts()[0]
    only = transport(*args[:2], FULL[3:], *args[3:]).amounts()[0]
    assert torch.allclose(together[:, 3:], only, atol=1e-9)
    assert not torch.allclose(together[:, :1], transport(*args[:2], FULL[:1], *args[3:]).amounts()[0], atol=1e-3)


def test_more_columns_than_a_machine_word_has_bits(written_out):
    pairs = torch.stack((torch.arange(70), torch.arange(70).roll(1)), 1)
    chain = torch.cat((pairs, torch.stack((torch.arange(70), torch.arange(70)), 1)))
    args, ptr = make_problem(8, (20,), pairs=chain, radius=40.0)
    native = transport(*args, rho=0.5, tolerance=1e-9).amounts()
    with use_backend("reference"):
        plain = transport(*args, rho=0.5, tolerance=1e-9).amounts()
    for ours, theirs in zip(native, plain):
        assert_close(ours, theirs)


def test_a_scale_of_masses_or_costs_changes_nothing_but_the_scale():
    args, _ = make_problem(9, (50,))
    ligand, receptor, pairs, indptr, indices, cost = args
    scaled = transport(ligand * 8, receptor * 8, pairs, indptr, indices, cost * 0.25).amounts()
    for ours, theirs in zip(scaled, transport(*args).amounts()):
        assert torch.allclose(ours, theirs * 8, rtol=1e-9)


@pytest.mark.parametrize(("sizes", "radius", "dense"), [((400, 300), 15.0, 0.5), ((380,), 200.0, 1.0)])
def test_threads_and_runs_change_no_bit(sizes, radius, dense, written_out):
    """Small islands, each of one thread, and an island of 144,000 edges for all threads."""
    args, ptr = make_problem(10, sizes, radius=radius, dense=dense)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 2):
            torch.set_num_threads(n)
            result = transport(*args, sample_ptr=ptr, rho=0.5, tolerance=1e-3)
            results.append((result.log_u_NL, result.log_v_NR, *result.amounts()))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_it_says_when_it_did_not_converge():
    args, _ = make_problem(11, (80,))
    result = transport(*args, max_iter=20)
    assert not result.converged_S.any()
    assert result.iterations_S[0] <= 40
    assert 1e-8 < result.marginal_error_S[0] < 10
    assert all(torch.isfinite(x).all() for x in result.amounts())


def test_nothing_to_send_is_no_error():
    args, _ = make_problem(12, (10,))
    nothing = torch.zeros_like(args[0])
    for ligand, receptor in ((nothing, args[1]), (args[0], nothing), (nothing, nothing)):
        for backend in ("auto", "reference"):
            with use_backend(backend):
                result = transport(ligand, receptor, *args[2:])
                assert result.converged_S.all()
                assert all((x == 0).all() for x in result.amounts())


def test_float32_masses_are_computed_in_float64():
    args, _ = make_problem(13, (30,))
    ligand, receptor = args[0].float(), args[1].float()
    ours = transport(ligand, receptor, *args[2:]).amounts()
    theirs = transport(ligand.double(), receptor.double(), *args[2:]).amounts()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


ARGS, PTR = make_problem(14, (6, 4))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({0: -ARGS[0]}, "not negative"),
        ({0: ARGS[0].long()}, "float type"),
        ({1: ARGS[1] * torch.nan}, "receptor_NR"),
        ({1: ARGS[1][:-1]}, "ligands"),
        ({2: FULL.int()}, "int64"),
        ({2: FULL + 9}, "pairs_P2"),
        ({2: FULL[[0, 0]]}, "twice"),
        ({4: ARGS[4].long()}, "int32"),
        ({4: ARGS[4] + 5}, "senders in"),
        ({4: ARGS[4] - 5}, "senders in"),
        ({5: -ARGS[5]}, "cost_E"),
        ({5: ARGS[5][:-1]}, "cost_E"),
        ({"eps": 0.01}, "Raise eps"),
        ({"rho": 0.0}, "rho"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_iter": 0}, "max_iter"),
        ({"sample_ptr": torch.tensor([0, 3, 10])}, "own sample"),
        ({"sample_ptr": torch.tensor([0, 3])}, "indptr"),
    ],
)
def test_refuses(change, says):
    args = [change.get(k, x) for k, x in enumerate(ARGS)]
    named = {"sample_ptr": PTR, **{k: x for k, x in change.items() if isinstance(k, str)}}
    with pytest.raises(GraphError, match=says):
        transport(*args, **named)


def test_a_pair_that_is_not_there_is_refused():
    with pytest.raises(GraphError, match="pairs in"):
        transport(*ARGS, sample_ptr=PTR).plan(4)
