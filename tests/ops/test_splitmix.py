import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from metaniche.ops.splitmix import GOLDEN, of_array, of_int, of_tensor, signed


def test_it_gives_the_published_sequence():
    """First outputs of the generator seeded with 1234567 (Vigna's reference implementation)."""
    states = [(1234567 + GOLDEN * k) % 2**64 for k in range(3)]
    assert [of_int(state) for state in states] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_numbers_arrays_and_tensors_have_the_same(states):
    hashes = [of_int(state) for state in states]
    assert of_array(np.array(states, np.uint64)).tolist() == hashes
    assert of_tensor(torch.tensor([signed(state) for state in states])).tolist() == [signed(found) for found in hashes]
