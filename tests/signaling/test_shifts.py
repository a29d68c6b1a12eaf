from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import cKDTree

from metaniche.errors import ConfigError, GraphError
from metaniche.graph import GraphConfig, build_graph
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.signaling.csr import to_torch
from metaniche.signaling.nulls import position_null
from metaniche.signaling.shifts import KeptShifts, matched, shift_null, shifts_of_cells

DENSITY = 0.004  # cells per square micrometre
PATCH_UM = 25.0
N_PAIRS = 2


def patchy(rng, pos, n_fields):
    """(N, n_fields) smooth random fields of unit variance, whose correlation is a Gaussian of PATCH_UM."""
    waves, phase = rng.normal(0, 1 / PATCH_UM, (2, 200)), rng.uniform(0, 2 * np.pi, (200, n_fields))
    return np.stack([np.cos(pos @ waves + phase[:, k]).sum(1) / 10 for k in range(n_fields)], 1)


def tissue(seed, n=400, together=0.0, noise=0.3, n_types=1, patches=True):
    """(problem, positions, types): pairs whose two sides are patches of their own, or the same to a share `together`."""
    rng = np.random.default_rng(seed)
    pos = rng.random((n, 2)) * np.sqrt(n / DENSITY)
    field = np.concatenate([patchy(rng, pos, 1) if patches else rng.normal(size=(n, 1)) for _ in range(2 * N_PAIRS)], 1)
    field[:, N_PAIRS:] = together * field[:, :N_PAIRS] + np.sqrt(1 - together**2) * field[:, N_PAIRS:]
    field = np.sqrt(1 - noise) * field + np.sqrt(noise) * rng.normal(size=field.shape)
    x = np.log1p(np.exp(field)) * (field > -1)
    graph = build_graph(
        torch.from_numpy(pos).float(), torch.tensor([0, n]), GraphConfig(radius_um=60.0, max_paracrine=None)
    )
    own = torch.arange(N_PAIRS, dtype=torch.int32)
    problem = LigandReceptor(
        to_torch(x[:, :N_PAIRS]), to_torch(x[:, N_PAIRS:]), own, own, graph.indptr, graph.indices,
        torch.exp(-graph.distance_um / 30),
    )  # fmt: skip
    return problem, graph.pos_um, torch.from_numpy(rng.integers(0, n_types, n).astype(np.int32))


@pytest.mark.slow
def test_patches_that_lie_anyhow_have_uniform_p_where_permuted_cells_have_not():
    by_shifts, by_positions = [], []
    for seed in range(100):
        problem, pos, types = tissue(seed, n=900)
        by_shifts.extend(shift_null(problem, pos, types, 1, 59, seed=seed).p.ravel())
        by_positions.extend(position_null(problem, types, 1).p.ravel())
    by_shifts, by_positions = np.array(by_shifts), np.array(by_positions)
    assert stats.kstest(by_positions, "uniform").pvalue < 1e-9
    assert (by_positions <= 0.05).mean() > 0.15
    assert stats.kstest(by_shifts, "uniform").pvalue > 0.05
    assert 0.02 < (by_shifts <= 0.05).mean() < 0.09


def test_patches_that_lie_on_one_another_are_found():
    p = np.concatenate([shift_null(*tissue(seed, together=0.9), 1, 99).p.ravel() for seed in range(12)])
    assert (p <= 0.05).mean() > 0.8


def test_places_that_are_taken_once_keep_power_for_noisy_genes():
    p = {
        once: np.concatenate(
            [shift_null(*tissue(s, together=0.9, noise=0.7), 1, 99, once=once).p.ravel() for s in range(12)]
        )
        for once in (True, False)
    }
    assert p[True].mean() < p[False].mean() < 0.5


def test_every_cells_ligands_stay_in_its_type_and_are_used_once(monkeypatch):
    problem, pos, types = tissue(0, n_types=3)
    given_ = []
    monkeypatch.setattr(
        "metaniche.signaling.shifts.type_pair_sums", lambda p, *a: (given_.append(p), type_pair_sums(p, *a))[1]
    )
    shift_null(problem, pos, types, 3, 5)
    seen = problem.ligand_NL.to_dense().numpy()
    assert len(given_) == 6
    for shifted in given_[1:]:
        assert shifted.receptor_NR is problem.receptor_NR
        ligand = shifted.ligand_NL.to_dense().numpy()
        assert not np.array_equal(ligand, seen)
        for kind in range(3):
            here = types.numpy() == kind
            np.testing.assert_array_equal(np.sort(ligand[here], 0), np.sort(seen[here], 0))


@pytest.mark.parametrize("once", [True, False])
def test_all_cells_move_by_one_vector_over_a_closed_box(once):
    rng = np.random.default_rng(1)
    pos, types = rng.random((1500, 2)) * [300, 100], rng.integers(0, 2, 1500)
    turns = np.array(
        [
            np.exp(2j * np.pi * (pos[source] - pos) / np.ptp(pos, axis=0)).mean(0)
            for source in shifts_of_cells(pos, types, 60, once, 0)
        ]
    )
    assert (np.abs(turns) > (0.8 if once else 0.97)).all()
    quadrant = (np.angle(turns) // (np.pi / 2)).astype(int) + 2
    assert min(np.bincount(axis, minlength=4).min() for axis in quadrant.T) >= 5


def test_what_is_nearest_stays_near():
    """Where many places find all their nearest points taken, hardly any two would rather have one another."""
    rng = np.random.default_rng(2)
    points, places = rng.random((300, 2)), rng.random((300, 2)) ** 4
    found = matched(cKDTree(points), places)
    distance = np.linalg.norm(points[None] - places[:, None], axis=2)
    of_place, of_point = distance[np.arange(300), found], distance[np.argsort(found), np.arange(300)]
    assert ((distance < of_place[:, None]) & (distance < of_point)).mean() < 0.01


def test_the_axes_of_the_vector_are_drawn_apart():
    pos = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), -1).reshape(-1, 2)
    sources = shifts_of_cells(pos, np.zeros(len(pos), np.int32), 80, False, 0)
    moved = np.array([np.median((pos[source] - pos) % 11, axis=0) for source in sources])
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.4


def test_one_cell_of_a_lattice_takes_the_place_of_another():
    """Shifted by whole steps on a closed lattice, every cell arrives at a cell's place."""
    side = 6
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2).astype(float)
    for step in ([1, 0], [2, 5], [0, 3]):
        places = (grid + step) % side
        found = matched(cKDTree(grid), places + np.random.default_rng(0).normal(0, 0.05, places.shape))
        np.testing.assert_array_equal(grid[found], places)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 120), apart=st.booleans(), same=st.booleans())
def test_matching_uses_every_point_once(seed, n, apart, same):
    rng = np.random.default_rng(seed)
    points, places = rng.random((n, 2)), rng.random((n, 2)) + 10 * apart
    points = np.round(points, 1) if same else points
    found = matched(cKDTree(points), places)
    assert sorted(found) == list(range(n))
    # Whoever has the nearest pair of all gets it.
    distance = np.linalg.norm(points[None] - places[:, None], axis=2)
    assert distance[np.arange(n), found].min() == pytest.approx(distance.min())


def test_the_same_seed_gives_the_same_result_and_progress_is_told():
    given_ = tissue(1, n=80, n_types=2)
    told = []
    one = shift_null(*given_, 2, 20, seed=3, stop_after=21, progress=lambda *step: told.append(step))
    two, other = (shift_null(*given_, 2, 20, seed=s, stop_after=21) for s in (3, 4))
    np.testing.assert_array_equal(one.p, two.p)
    assert not np.array_equal(one.mean, other.mean)
    assert [step[:2] for step in told] == [(k, 20) for k in range(1, 21)]


@pytest.mark.parametrize("once", [True, False])
def test_p_counts_the_shifts_that_reach_the_score(once, monkeypatch):
    problem, pos, types = tissue(2, n=80, n_types=2)
    every = []
    monkeypatch.setattr(
        "metaniche.signaling.shifts.type_pair_sums", lambda *a: (every.append(type_pair_sums(*a)), every[-1])[1]
    )
    found = shift_null(problem, pos, types, 2, 30, once=once, stop_after=31)
    score, *drawn = (sums.numpy() for sums, _ in every)
    drawn = np.stack(drawn)
    np.testing.assert_array_equal(found.score, score)
    np.testing.assert_allclose(found.p, (1 + (drawn >= score).sum(0)) / 31)
    np.testing.assert_allclose(found.mean, drawn.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.variance, drawn.var(0), rtol=1e-6)
    np.testing.assert_allclose(found.z, (score - drawn.mean(0)) / drawn.std(0), rtol=1e-6)


def test_what_no_shift_changes_has_p_1_and_no_z():
    problem, pos, types = tissue(3, n=60)
    types = torch.where(torch.arange(60) == 0, 1, types).to(torch.int32)
    even = replace(problem, ligand_NL=to_torch(np.full((60, N_PAIRS), 0.1)))
    found = shift_null(even, pos, types, 3, 20)
    assert (found.p == 1).all()
    assert np.isnan(found.z).all()
    alone = shift_null(problem, pos, types, 3, 20)
    assert (alone.p[1] == 1).all()  # one cell, and no cell
    assert (alone.p[2] == 1).all()
    assert (alone.p[0, 0] < 1).any()


def test_rounding_is_no_variance():
    """One receiver hears three senders alike: whoever stands where, the sum is the same but for its last digit."""
    pos = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [9.0, 9.0]])
    ligand = to_torch(np.array([[1e6], [1.0], [1e-6], [0.0]]) / 3)
    column = torch.zeros(1, dtype=torch.int32)
    problem = LigandReceptor(
        ligand, to_torch(np.ones((4, 1))), column, column, torch.tensor([0, 0, 0, 0, 3]),
        torch.arange(3, dtype=torch.int32), torch.full((3,), 0.7),
    )  # fmt: skip
    found = shift_null(problem, pos, torch.tensor([0, 0, 0, 1], dtype=torch.int32), 2, 50)
    assert found.p[0, 1, 0] == 1
    assert np.isnan(found.z[0, 1, 0])
    assert found.variance[0, 1, 0] == 0


def test_any_score_and_three_axes_will_do():
    problem, pos, types = tissue(4, n=60, n_types=2)
    saturated = replace(problem, half_saturation=1.0)
    deep = torch.cat((pos, torch.linspace(0, 20, 60)[:, None]), 1)
    assert (shift_null(saturated, deep, types, 2, 10).p <= 1).all()


def test_what_does_not_fit_is_refused():
    problem, pos, types = tissue(5, n=60)
    with pytest.raises(ConfigError, match="found 0 and 20"):
        shift_null(problem, pos, types, 1, 0)
    with pytest.raises(ConfigError, match="found 5 and 0"):
        shift_null(problem, pos, types, 1, 5, stop_after=0)
    for wrong in (pos[:-1], pos[:, :1], pos * torch.nan):
        with pytest.raises(GraphError, match="finite positions"):
            shift_null(problem, wrong, types, 1, 5)
    with pytest.raises(GraphError, match="type_N"):
        shift_null(problem, pos, types + 1, 1, 5)


@pytest.mark.parametrize("n_kept", [0, 3, 5, 9])
def test_shifts_are_searched_once_as_far_as_they_are_kept(n_kept, monkeypatch):
    monkeypatch.setattr("metaniche.signaling.shifts.KEPT_BYTES", n_kept * 4 * 50)
    pos, types = torch.rand(50, 2) * 100, torch.arange(50, dtype=torch.int32) % 3
    plain = list(shifts_of_cells(pos.double().numpy(), types.numpy(), 5, True, 7))
    kept = KeptShifts(pos, types, 5, True, 7)
    halted = [source for _, source in zip(range(2), kept)]
    with mock.patch("metaniche.signaling.shifts.matched", wraps=matched) as searches:
        for found in (halted, kept, kept):
            assert all(np.array_equal(one, two) for one, two in zip(found, plain))
        assert searches.call_count == 3 * (min(n_kept, 5) - min(n_kept, 2) + 2 * max(5 - n_kept, 0))
    assert len(list(kept)) == 5


def test_the_shifts_of_other_pairs_give_the_same_null():
    given_ = tissue(2, n_types=2)
    kept = KeptShifts(given_[1], given_[2], 20, True, 3)
    alone = shift_null(*given_, 2, 20, seed=3)
    for _ in range(2):
        for one, two in zip(alone, shift_null(*given_, 2, 20, seed=3, sources=kept)):
            np.testing.assert_array_equal(one, two)
