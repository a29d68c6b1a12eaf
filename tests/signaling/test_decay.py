import numpy as np
import pytest
import torch

from metaniche.errors import ConfigError
from metaniche.signaling import DECAYS, SIGNALING_TYPES, Decay

DISTANCES = torch.tensor([0.0, 10.0, 20.0, 20.1, 60.0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cut", [1, 1, 1, 0, 0]),
        ("exponential", np.exp(-DISTANCES.numpy() / 20)),
        ("gaussian", np.exp(-(DISTANCES.numpy() ** 2) / 800)),
    ],
)
def test_weights_follow_the_formula(kind, expected):
    weights = Decay(kind, 20.0).weights(DISTANCES)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_every_signaling_type_has_a_rule_and_so_has_the_unknown():
    assert set(DECAYS) == {*SIGNALING_TYPES, "unknown"}


@pytest.mark.parametrize(("kind", "length"), [("linear", 20.0), ("cut", 0.0), ("cut", float("inf")), ("cut", -1.0)])
def test_what_makes_no_weight_is_refused(kind, length):
    with pytest.raises(ConfigError, match="a decay of kind"):
        Decay(kind, length)
