import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.ops.grouped import grouped


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 8)), st.sampled_from([torch.int32, torch.int64]))
def test_each_number_has_its_places_as_they_were_given(numbers, dtype):
    ptr, order = grouped(torch.tensor(numbers, dtype=dtype), 9)
    assert ptr.shape == (10,)
    assert ptr.dtype == order.dtype == torch.int64
    for number in range(9):
        expected = [place for place, other in enumerate(numbers) if other == number]
        assert order[ptr[number] : ptr[number + 1]].tolist() == expected


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_is_grouped_into_nothing(n):
    ptr, order = grouped(torch.zeros(0, dtype=torch.int64), n)
    assert ptr.tolist() == [0] * (n + 1)
    assert order.numel() == 0
