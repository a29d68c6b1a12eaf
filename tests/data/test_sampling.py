import numpy as np
import pytest
import torch
from tissue import make_sample

from metaniche.data import sampling
from metaniche.data.batch import Bag, Piece, collate
from metaniche.data.sampling import EpochSampler, SamplingConfig, WholeBags, WindowBatches, Windows
from metaniche.errors import ConfigError


def make_bags(n=10, n_cells=60):
    units = []
    for i in range(n):
        graph = make_sample("s", f"p{i}", n_cells=n_cells, seed=i).graph
        labels = torch.full((n_cells,), torch.nan)
        x = torch.full((n_cells, 1), float(i))
        mask = torch.ones(n_cells, dtype=torch.bool)
        units.append(
            Bag(
                i,
                [Piece(x, graph, mask, labels, x.expand(-1, 2), mask)],
                np.array([i % 2.0]),
                np.zeros(0),
            )
        )
    return units


CONFIG = SamplingConfig(windows=2, window_cells=20, batch_size=4)


def test_an_epoch_serves_every_unit():
    batches = WindowBatches(make_bags(), CONFIG, seed=0)
    served = {i for step in range(len(batches)) for i in batches[step].index.tolist()}
    assert served == set(range(10))


def test_a_batch_is_a_function_of_its_number():
    one, other = (WindowBatches(make_bags(), CONFIG, seed=3)[7] for _ in range(2))
    assert torch.equal(one.graph.pos_um, other.graph.pos_um)
    assert one.index.tolist() == other.index.tolist()


def test_epochs_and_seeds_differ():
    batches = WindowBatches(make_bags(), CONFIG, seed=3)
    assert not torch.equal(batches[0].graph.pos_um, batches[batches.steps].graph.pos_um)
    assert not torch.equal(batches[0].graph.pos_um, WindowBatches(make_bags(), CONFIG, seed=4)[0].graph.pos_um)


def test_ranks_share_a_step_without_overlap_and_with_equal_loads():
    ranks = [WindowBatches(make_bags(), CONFIG, seed=0, rank=r, world=2) for r in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    for step in range(len(ranks[0]) - 1):
        one, other = (set(r[step].index.tolist()) for r in ranks)
        assert not one & other
        assert len(one) == len(other)


def test_every_patient_gives_the_same_number_of_cells_whatever_its_size():
    units = make_bags(4)
    units[0] = Bag(0, units[0].pieces * 5, units[0].target, units[0].clinical)
    batch = WindowBatches(units, CONFIG, seed=0)[0]
    assert batch.bag_ptr.diff().tolist() == [40, 40, 40, 40]


def test_samples_count_by_the_cells_that_are_pooled():
    small, large = (make_bags(1, n_cells=n)[0].pieces[0] for n in (30, 90))
    silent = small._replace(candidates=torch.zeros(30, dtype=torch.bool))
    windows = Windows(Bag(0, [silent, small, large], np.zeros(1), np.zeros(0)), hops=0)
    drawn = [windows.draw(10, np.random.default_rng(seed)).graph.pos_um[0].tolist() for seed in range(400)]
    at = [sum(place in piece.graph.pos_um.tolist() for place in drawn) for piece in (silent, small, large)]
    assert at[0] == at[1]  # the same places: only those of the second were drawn
    assert 0.19 < at[1] / 400 < 0.31


def random_piece(n=200, seed=0, pooled=0.5):
    torch.manual_seed(seed)
    graph = make_sample("s", "p", n_cells=n, seed=seed).graph
    candidates = torch.rand(n) < pooled
    return Piece(torch.randn(n, 4), graph, candidates, torch.full((n,), torch.nan), torch.rand(n, 6), ~candidates)


def drawn(piece, hops, n_cells=30, seed=0):
    bag = Bag(0, [piece], np.zeros(1), np.zeros(0))
    return Windows(bag, hops).draw(n_cells, np.random.default_rng(seed)), bag


def places(found, whole):
    """Where the cells of a window stand in the whole piece."""
    return torch.cdist(found.graph.pos_um, whole.graph.pos_um).argmin(1)


@pytest.mark.parametrize("hops", [1, 2])
def test_cells_of_a_window_hear_all_whom_they_hear_in_the_whole(hops):
    piece = random_piece()
    found, _ = drawn(piece, hops)
    found.graph.validate()
    assert int(found.inside.sum()) == 30 < found.graph.n_cells < 200
    at = places(found, piece)
    degrees, whole = found.graph.indptr.diff(), piece.graph.indptr.diff()[at]
    assert torch.equal(degrees[found.inside], whole[found.inside])
    halo = degrees[~found.inside]
    assert (halo == 0).all() if hops == 1 else 0 < halo.sum() < whole[~found.inside].sum()
    assert found.candidates.any()
    assert not (found.candidates & ~found.inside).any()
    assert torch.equal(found.x, piece.x[at])
    assert torch.equal(found.signals, piece.signals[at])


def test_without_messages_there_is_no_halo():
    found, _ = drawn(random_piece(), hops=0)
    assert found.inside is None
    assert found.graph.n_cells == 30


def test_a_halo_is_not_pooled_where_nobody_is_a_candidate_and_has_no_label():
    piece = random_piece(pooled=0.0)
    found, bag = drawn(piece, hops=1)
    assert torch.equal(found.candidates, found.inside)
    piece.labels[:] = 1.0
    found, _ = drawn(piece, hops=1)
    assert torch.equal(torch.isfinite(found.labels), found.inside)
    batch = collate([bag, Bag(1, [found], np.zeros(1), np.zeros(0))])
    assert batch.inside[:200].all()
    assert torch.equal(batch.inside[200:], found.inside)
    assert collate([bag]).inside is None


@pytest.mark.parametrize("hops", [0, 1])
def test_where_nobody_is_a_candidate_small_pieces_are_pooled_as_large_ones(hops):
    bag = Bag(0, [random_piece(20, 1, pooled=0.0), random_piece(200, 2, pooled=0.0)], np.zeros(1), np.zeros(0))
    for seed in range(6):
        found = Windows(bag, hops).draw(30, np.random.default_rng(seed))
        assert int(found.candidates.sum()) == min(30, found.graph.n_cells)


def test_a_window_holds_the_nearest_cells_of_its_centre():
    bag = make_bags(1, n_cells=200)[0]
    piece = bag.pieces[0]
    graph = Windows(bag, hops=0).draw(30, np.random.default_rng(0)).graph
    graph.validate()
    everywhere, window = piece.graph.pos_um, graph.pos_um
    gaps = torch.cdist(window, window).max(1).values
    centre = window[gaps.argmin()]
    radius = (window - centre).norm(dim=1).max()
    inside = ((everywhere - centre).norm(dim=1) <= radius).sum()
    assert inside <= 60


def test_a_large_piece_is_searched_by_a_tree_and_gives_the_same_windows(monkeypatch):
    bags = make_bags(3, n_cells=200)
    scanned = WindowBatches(bags, CONFIG, seed=1)[0]
    monkeypatch.setattr(sampling, "SCANNED_CELLS", 199)
    built = []
    monkeypatch.setattr(sampling, "cKDTree", lambda x, of=sampling.cKDTree: built.append(len(x)) or of(x))
    batches = WindowBatches(bags, CONFIG, seed=1)
    assert torch.equal(batches[0].graph.pos_um, scanned.graph.pos_um)
    batches[1]
    assert built == [200] * 3  # one for each piece, at its first window


def test_a_window_is_centred_on_a_labelled_cell_where_cells_have_labels():
    bag = make_bags(1, n_cells=200)[0]
    bag.pieces[0].labels[17] = 1.0
    for seed in range(5):
        window = Windows(bag, hops=0).draw(10, np.random.default_rng(seed))
        assert torch.isfinite(window.labels).sum() == 1


def test_epoch_sampler_numbers_epochs():
    sampler = EpochSampler(3)
    sampler.set_epoch(2)
    assert list(sampler) == [6, 7, 8]


def test_whole_units_are_whole():
    assert WholeBags(make_bags())[3].bag_ptr.tolist() == [0, 60]


def test_impossible_requests_are_refused():
    with pytest.raises(ConfigError, match="at least one training unit"):
        WindowBatches([], CONFIG, seed=0)
    with pytest.raises(ConfigError, match=r"batch_size=1 for 2 processes\. Raise it, or use fewer devices"):
        WindowBatches(make_bags(), SamplingConfig(batch_size=1), seed=0, world=2)


@pytest.mark.parametrize("name", ["windows", "window_cells", "batch_size"])
def test_a_sampling_that_shows_nothing_is_refused(name):
    with pytest.raises(ConfigError, match=rf"data\.sampling\.{name} to be a whole number of at least [12], found 0"):
        SamplingConfig(**{name: 0})
