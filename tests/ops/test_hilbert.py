import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import GraphError
from metaniche.ops.hilbert import hilbert_order


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=3), st.sampled_from([2, 3]))
def test_it_is_a_permutation_within_each_sample(sizes, dimensions):
    pos = torch.rand(sum(sizes), dimensions) * 100
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    order = hilbert_order(pos, ptr)
    for start, end in zip(ptr[:-1].tolist(), ptr[1:].tolist()):
        assert sorted(order[start:end].tolist()) == list(range(start, end))


def test_a_full_grid_is_walked_step_by_step():
    """On a 16 x 16 lattice consecutive cells of a Hilbert curve are direct neighbours."""
    side = torch.arange(16.0)
    pos = torch.cartesian_prod(side, side)[torch.randperm(256)].contiguous()
    steps = pos[hilbert_order(pos, torch.tensor([0, 256]))].diff(dim=0).abs().sum(1)
    assert (steps == 1).all()


def test_a_full_cube_is_walked_step_by_step():
    side = torch.arange(8.0)
    pos = torch.cartesian_prod(side, side, side)[torch.randperm(512)].contiguous()
    steps = pos[hilbert_order(pos, torch.tensor([0, 512]))].diff(dim=0).abs().sum(1)
    assert (steps == 1).all()


def test_moving_and_scaling_tissue_changes_no_order():
    pos, pointer = torch.rand(200, 2), torch.tensor([0, 200])
    assert torch.equal(hilbert_order(pos, pointer), hilbert_order(pos * 1024 - 4096, pointer))


def test_cells_on_one_spot_keep_their_order():
    assert hilbert_order(torch.full((5, 2), 3.0), torch.tensor([0, 5])).tolist() == [0, 1, 2, 3, 4]


def test_coordinates_that_are_none_are_refused():
    with pytest.raises(GraphError, match="NaN"):
        hilbert_order(torch.full((2, 2), torch.nan), torch.tensor([0, 2]))
