import pytest
import torch
from scipy.integrate import quad

from metaniche.errors import ConfigError
from metaniche.nn.length_scale import LengthScale, Range


def test_it_starts_where_it_is_told():
    length = LengthScale(Range(40, 10, 150, 100), heads=2)
    torch.testing.assert_close(length.length_um, torch.full((2,), 40.0))
    torch.testing.assert_close(length(torch.tensor([0.0, 40.0]))[:, 0], torch.tensor([0.0, -1.0]))


def test_the_kernel_keeps_its_mass_over_the_disc_of_the_graph():
    length = LengthScale(Range(40, 10, 150, 100))
    masses = []
    for place in (-0.4, 0.0, 0.3):
        with torch.no_grad():
            length.place.fill_(place)
            masses.append(quad(lambda r: float(length(torch.tensor([r])).exp()) * r, 0, 100)[0])
    assert masses == pytest.approx([masses[0]] * 3, rel=1e-3)


def test_gradients_reach_the_length():
    length = LengthScale(Range(40, 10, 150, 100))
    length(torch.tensor([10.0, 60.0])).exp().sum().backward()
    assert length.place.grad.abs().sum() > 0


@pytest.mark.parametrize("bounds", [(5, 10, 150, 100), (200, 10, 150, 100), (40, 0, 150, 100), (40, 10, 150, 0)])
def test_bounds_that_do_not_hold_the_start_are_refused(bounds):
    with pytest.raises(ConfigError, match="low < start < high"):
        LengthScale(Range(*bounds))
