import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse

from metaniche.errors import ConfigError, GraphError
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.signaling import nulls
from metaniche.signaling.csr import to_torch

TYPES = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2], dtype=torch.int32)


def problem(seed=0, types=TYPES, symmetric=False, full=False):
    """Few cells with arbitrary weights, and three pairs of two ligands and two receptors."""
    rng = np.random.default_rng(seed)
    n = len(types)
    weight = rng.random((n, n)) * (rng.random((n, n)) < (1.0 if full else 0.5))
    weight = weight + weight.T if symmetric else weight
    np.fill_diagonal(weight, 0)
    csr = sparse.csr_array(weight)
    ligand, receptor = (rng.gamma(1.0, 1.0, (n, 2)) * (rng.random((n, 2)) < 0.8) for _ in range(2))
    pairs = (torch.tensor(part, dtype=torch.int32) for part in ([0, 1, 0], [0, 1, 1]))
    graph = torch.from_numpy(csr.indptr.astype(np.int64)), torch.from_numpy(csr.indices.astype(np.int32))
    return LigandReceptor(
        to_torch(ligand), to_torch(receptor), *pairs, *graph, torch.from_numpy(csr.data.astype(np.float32))
    )


def every_order(null, types):
    """All permutations of labels (in terms of cells), or of cells within their types."""
    if null == "labels":
        yield from map(list, itertools.permutations(range(len(types))))
        return
    groups = [np.flatnonzero(types.numpy() == t) for t in range(int(types.max()) + 1)]
    for parts in itertools.product(*(itertools.permutations(g) for g in groups)):
        order = np.empty(len(types), dtype=int)
        for group, part in zip(groups, parts):
            order[group] = part
        yield order


def sums_of_every_order(given, null, types):
    found = []
    for order in every_order(null, types):
        if null == "labels":
            found.append(type_pair_sums(given, types[torch.as_tensor(order)], 3)[0].numpy())
            continue
        sides = {k: to_torch(getattr(given, k).to_dense().numpy()[order]) for k in ("ligand_NL", "receptor_NR")}
        found.append(type_pair_sums(replace(given, **sides), types, 3)[0].numpy())
    return np.stack(found)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("null", ["positions", "labels"])
def test_moments_are_those_of_all_permutations(null, symmetric):
    types = TYPES if null == "positions" else TYPES[[0, 1, 4, 5, 6, 7]]
    given = problem(1, types, symmetric)
    every = sums_of_every_order(given, null, types)
    found = {"positions": nulls.position_null, "labels": nulls.label_null}[null](given, types, 3)
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.variance, every.var(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.score, type_pair_sums(given, types, 3)[0], rtol=1e-12)


def test_a_type_of_one_cell_has_nothing_to_permute():
    found = nulls.position_null(problem(2), TYPES, 3)
    assert np.isnan(found.z[2, 2]).all()
    assert (found.p[2, 2] == 1).all()


@pytest.mark.parametrize("null", ["positions", "labels"])
def test_permuted_p_values_agree_with_closed_form(null):
    rng = np.random.default_rng(3)
    types = torch.from_numpy(rng.integers(0, 3, 80).astype(np.int32))
    given = problem(3, types, symmetric=True)
    ligand, receptor = (rng.gamma(1.0, 1.0, (80, 40)) * (rng.random((80, 40)) < 0.8) for _ in range(2))
    own = torch.arange(40, dtype=torch.int32)
    given = replace(given, ligand_NL=to_torch(ligand), receptor_NR=to_torch(receptor), lig_P=own, rec_P=own)
    closed = {"positions": nulls.position_null, "labels": nulls.label_null}[null](given, types, 3)
    drawn = nulls.permutation_null(given, types, 3, null, 2000, stop_after=10**6, seed=1)
    np.testing.assert_allclose(closed.p, drawn.p, atol=0.05)
    np.testing.assert_allclose(drawn.mean, closed.mean, rtol=0.05)
    tail = (drawn.p < 0.1) & (drawn.p > 0.003)
    assert tail.sum() > 20
    away = np.log(closed.p[tail] / drawn.p[tail])
    assert np.abs(np.median(away)) < 0.15
    assert np.abs(away).max() < 1


def test_a_decided_test_stops_and_a_stopped_p_is_besag_and_cliffords():
    rng = np.random.default_rng(4)
    types = torch.from_numpy(rng.integers(0, 2, 40).astype(np.int32))
    given = problem(4, types)
    told = []
    found = nulls.permutation_null(
        given, types, 2, "labels", 5000, stop_after=2, progress=lambda done, *_: told.append(done)
    )
    assert len(told) < 5000
    share = found.p[found.p > 0.2]
    assert len(share)
    assert np.allclose(2 / share, np.round(2 / share))


def test_the_same_seed_gives_the_same_permutations():
    one, two = (nulls.permutation_null(problem(5), TYPES, 3, "positions", 20, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.p, two.p)


def test_cells_stay_within_their_type():
    order = nulls.shuffled_within_types(TYPES, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(len(TYPES)))
    assert torch.equal(TYPES[order], TYPES)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rows", [3, 1024])
def test_the_weight_of_the_way_back(symmetric, rows, monkeypatch):
    monkeypatch.setattr(nulls, "ROWS_AT_ONCE", rows)
    given = problem(6, symmetric=symmetric)
    dense = sparse.csr_array(
        (given.weight_E.numpy(), given.indices.numpy(), given.indptr.numpy()), shape=(8, 8)
    ).toarray()
    row = np.repeat(np.arange(8), given.indptr.diff())
    np.testing.assert_array_equal(nulls.weight_of_reverse(given), dense[given.indices.numpy(), row])


@pytest.mark.parametrize("null", [nulls.position_null, nulls.label_null])
def test_the_blocks_of_cells_that_are_summed_at_once_do_not_matter(null, monkeypatch):
    given = problem(8)
    whole = null(given, TYPES, 3)
    for name in ("received_by_pair", "sent_by_pair"):
        monkeypatch.setattr(nulls, name, partial(getattr(nulls, name), rows=3))
    for one, two in zip(whole, null(given, TYPES, 3), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize("null", [nulls.position_null, nulls.label_null])
def test_a_score_that_is_not_separable_asks_for_permutations(null):
    with pytest.raises(ConfigError, match="n_permutations"):
        null(replace(problem(), half_saturation=1.0), TYPES, 3)


def test_expression_that_is_the_same_throughout_each_type_leaves_no_choice():
    of_type = np.array([0.1, 0.7, 1.1])[TYPES.numpy()][:, None]
    given = replace(
        problem(4, full=True), ligand_NL=to_torch(of_type * [1, 3]), receptor_NR=to_torch(of_type * [0.3, 1])
    )
    found = nulls.position_null(given, TYPES, 3)
    assert np.isnan(found.z).all()
    assert (found.p == 1).all()
    assert (found.variance == 0).all()


@pytest.mark.parametrize("null", [nulls.position_null, nulls.label_null])
@pytest.mark.parametrize("scale", [1e-24, 1e24])
def test_the_scale_of_the_weights_changes_no_p(null, scale):
    given = problem(3, symmetric=True)
    one, other = (null(replace(given, weight_E=given.weight_E * by), TYPES, 3) for by in (1.0, scale))
    for part, power in (("score", 1), ("mean", 1), ("variance", 2), ("z", 0), ("p", 0)):
        np.testing.assert_allclose(getattr(other, part) / scale**power, getattr(one, part), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("null", [nulls.position_null, nulls.label_null])
def test_graphs_that_the_moments_do_not_hold_for_are_refused(null):
    given = problem(full=True)
    with pytest.raises(GraphError, match="out of order"):
        null(replace(given, indices=given.indices.view(8, 7).flip(1).flatten().contiguous()), TYPES, 3)
    with pytest.raises(GraphError, match="own neighbour"):
        null(replace(given, indices=torch.arange(7).int().repeat(8)), TYPES, 3)


@pytest.mark.parametrize(("null", "n", "stop"), [("cells", 10, 5), ("labels", 0, 5), ("labels", 10, 0)])
def test_settings_that_mean_nothing_are_refused(null, n, stop):
    with pytest.raises(ConfigError, match="Expected null in"):
        nulls.permutation_null(problem(), TYPES, 3, null, n, stop_after=stop)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("null", ["positions", "labels"])
@pytest.mark.parametrize("n_permutations", [0, 30])
def test_a_signal_that_is_none_has_no_p(null, bad, n_permutations):
    given = problem(9)
    ligand = given.ligand_NL.to_dense().numpy()
    ligand[0, 0] = bad
    broken = replace(given, ligand_NL=to_torch(ligand))
    if n_permutations:
        found = nulls.permutation_null(broken, TYPES, 3, null, n_permutations)
    else:
        found = {"positions": nulls.position_null, "labels": nulls.label_null}[null](broken, TYPES, 3)
    none = ~np.isfinite(found.score)
    assert none.any()
    assert np.isnan(found.p[none]).all()
    assert np.isfinite(found.p[..., 1]).all()  # the pair of the other ligand
