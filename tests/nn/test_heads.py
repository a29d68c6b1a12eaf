import pytest

from metaniche.errors import ConfigError
from metaniche.nn.heads import head_width


def test_a_width_is_shared_out_evenly():
    assert head_width(32, 4) == 8


@pytest.mark.parametrize(("width", "heads"), [(32, 5), (32, 0), (0, 4)])
def test_a_width_that_cannot_be_shared_out_is_refused(width, heads):
    with pytest.raises(ConfigError, match=f"multiple of model.heads, found width={width}, heads={heads}"):
        head_width(width, heads)
