import pytest
import torch
from torch import nn

from metaniche.errors import ConfigError
from metaniche.nn.query_key_value import QueryKeyValue

N, WIDTH, HEADS = 50, 12, 3


def test_it_is_one_layer_cut_in_three():
    torch.manual_seed(0)
    project = QueryKeyValue(WIDTH, HEADS).double()
    h = torch.randn(N, WIDTH, dtype=torch.float64)
    together = nn.functional.linear(h, project.weight, project.bias).view(N, 3, HEADS, WIDTH // HEADS)
    for found, expected in zip(project(h), together.unbind(1), strict=True):
        torch.testing.assert_close(found, expected)


def test_it_starts_and_is_stored_as_one_layer():
    torch.manual_seed(0)
    project = QueryKeyValue(WIDTH, HEADS)
    torch.manual_seed(0)
    plain = nn.Linear(WIDTH, 3 * WIDTH)
    for name, stored in plain.state_dict().items():
        torch.testing.assert_close(project.state_dict()[name], stored)


def test_backward_joins_no_gradients():
    """The gradient of h takes (N, width) thrice in turn; a tensor of (N, 3 width) never comes to be."""
    project = QueryKeyValue(WIDTH, HEADS)
    h = torch.randn(N, WIDTH, requires_grad=True)
    with torch.profiler.profile(record_shapes=True) as profile:
        sum(part.square().sum() for part in project(h)).backward()
    sizes = [size for event in profile.events() for size in event.input_shapes]
    assert sizes
    assert [N, 3 * WIDTH] not in sizes
    assert [N, 3, HEADS, WIDTH // HEADS] not in sizes


def test_no_cells_are_fine():
    assert {part.shape for part in QueryKeyValue(WIDTH, HEADS)(torch.zeros(0, WIDTH))} == {(0, HEADS, WIDTH // HEADS)}


def test_a_width_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ConfigError, match="found width=12, heads=5"):
        QueryKeyValue(12, 5)
