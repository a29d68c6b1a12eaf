import pytest
import torch

from metaniche.ops.dropout import check_dropout, draw
from metaniche.ops.reference.dropout import factors
from metaniche.ops.splitmix import of_int


def test_factors_follow_the_hash_of_seed_entry_and_column():
    seed, p = 2**62 + 3, 0.25
    found = factors(50, 3, p, seed)
    for entry in range(50):
        for column in range(3):
            start = of_int(seed)
            number = of_int(of_int(start ^ entry) ^ column)
            assert found[entry, column] == (0 if number / 2**64 < p else 1 / (1 - p))


def test_the_share_that_is_dropped():
    for p in (0.1, 0.7):
        found = factors(20_000, 2, p, 1)
        assert abs(float((found == 0).double().mean()) - p) < 0.01
        assert abs(float(found.mean()) - 1) < 0.05


def test_nothing_is_dropped_without_dropout_and_the_largest_share_fits_64_bits():
    assert torch.equal(factors(9, 2, 0.0, 4), torch.ones(9, 2, dtype=torch.float64))
    assert draw(1 - 2.0**-53, 0)[1] < 2**64


@pytest.mark.parametrize(("p", "seed"), [(1.0, 0), (-0.1, 0), (float("nan"), 0), (0.5, -1), (0.5, 2**63)])
def test_what_is_out_of_range_is_refused(p, seed):
    with pytest.raises(ValueError, match="Expected"):
        check_dropout(p, seed)
