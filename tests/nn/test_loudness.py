import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.nn.loudness import Loudness


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 100), st.integers(0, 99))
def test_nothing_is_gained_by_being_louder(volume, seed):
    torch.manual_seed(seed)
    heard = torch.rand(50, 2) + 0.1
    quiet, loud = (Loudness(2)(v * heard) for v in (1.0, volume))
    torch.testing.assert_close(quiet, loud, rtol=0.01, atol=0.01)


def test_no_gradient_leads_to_the_volume():
    volume = torch.ones(1, requires_grad=True)
    Loudness(2)(volume * (torch.rand(50, 2) + 1)).sum().backward()
    assert abs(float(volume.grad)) < 0.2  # of a sum of 100; SILENCE leaves a trace


def test_only_cells_inside_count_for_the_mean():
    layer, heard = Loudness(2), torch.rand(40, 2) + 0.5
    inside = torch.arange(40) < 25
    torch.testing.assert_close(layer(heard, inside)[inside], Loudness(2)(heard[inside]))
    torch.testing.assert_close(layer.mean, heard[inside].mean(0))


def test_nothing_is_left_of_where_the_mean_starts():
    layer, heard = Loudness(1), torch.tensor([[10.0], [20.0], [60.0]])
    for each in heard:
        layer(each[None])
    torch.testing.assert_close(layer.mean, heard.mean(0))


def test_after_training_it_remembers_the_mean():
    layer, heard = Loudness(2), torch.tensor([[2.0, 4.0]]).expand(30, 2)
    for _ in range(300):
        layer(heard)
    layer.eval()
    torch.testing.assert_close(layer.mean, torch.tensor([2.0, 4.0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer(3 * heard)[0], torch.tensor([3.0, 3.0]), rtol=1e-2, atol=1e-2)
    assert (layer(torch.zeros(5, 2)) == 0).all()
