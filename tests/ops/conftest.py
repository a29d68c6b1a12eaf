"""Every test of an op runs on the plain implementation and on the native one."""

import pytest

from metaniche.ops import use_backend
from metaniche.ops.backend import native


@pytest.fixture(params=["reference", "cpu"], autouse=True, scope="module")
def backend(request):
    if request.param == "cpu" and native() is None:
        pytest.skip("the native CPU backend was not built: no C++ compiler at installation")
    with use_backend(request.param):
        yield request.param
