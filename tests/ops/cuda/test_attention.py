import math

import pytest
import torch

from metaniche.ops.cuda import attention as op


@pytest.mark.parametrize(
    ("width", "dtype", "most", "expected"),
    [
        (64, torch.bfloat16, 8, (8, 8, 8)),  # 16 bytes a lane
        (64, torch.float32, 8, (4, 8, 8)),  # two pieces each
        (12, torch.float32, 8, (4, 4, 4)),  # a lane stands idle
        (5, torch.bfloat16, 4, (1, 4, 2)),  # an odd width is read one by one
    ],
)
def test_lanes_of_a_head(width, dtype, most, expected):
    how = op.lanes(2, width, dtype, most)
    assert (how["VEC"], how["GROUP"], op.channels_a_lane(how)) == expected


def test_numbers_stand_in_the_order_of_their_specs():
    q, indices = torch.zeros(3, 2, 16), torch.zeros(5, dtype=torch.int32)
    found = dict(zip((spec.name for spec in op.NUMBERS), op.numbers(q, indices, 0.75, 9), strict=True))
    start = found.pop("start")
    assert found == {"n": 3, "edges": 5, "scale": 1 / math.sqrt(16), "limit": 3 * 2**62, "keep": 4.0}
    assert start != dict(zip((spec.name for spec in op.NUMBERS), op.numbers(q, indices, 0.75, 8)))["start"]


def test_powers_of_two():
    assert [op.power_of_two(n) for n in (1, 2, 3, 8, 9)] == [1, 2, 4, 8, 16]


def test_a_view_that_starts_anywhere_is_copied():
    x = torch.arange(9.0)
    assert op.aligned(x) is x
    assert op.aligned(x[1:]).data_ptr() % 16 == 0
    assert torch.equal(op.aligned(x[1:]), x[1:])
