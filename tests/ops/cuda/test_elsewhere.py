"""The host side of every kernel makes its tensors on the device of its inputs, and brings them here before it reads them."""

import pytest
from elsewhere import ELSEWHERE, accelerator
from simt.cases import ALL


@pytest.mark.parametrize("case", ALL, ids=lambda c: f"{c.__module__.split('.')[-1]}.{c.__name__}")
def test_on_another_device_it_does_the_same(simt, case):
    with accelerator(), simt():
        case(ELSEWHERE)
