import re

import numpy as np
import pytest
import torch

from metaniche.errors import KernelError
from metaniche.ops.cuda import compile
from metaniche.ops.cuda.registry import KERNELS, PACKED
from metaniche.ops.cuda.specs import SCALARS, Array, Kernel, Scalar

CTYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "u8": torch.uint8,
    "VALUE": None,
    "LOCAL": "LOCAL",
}
NUMBERS = {"i64": "i64", "u64": "u64", "float": "f32", "double": "f64"}
DOUBLE = Kernel(
    "doubled",
    "doubled",
    (
        Array("x", None, ("n", "WIDTH"), vector=True),
        Scalar("n"),
        Scalar("factor", "f32"),
        Array("ptr", torch.int64, ("n+1",)),
    ),
)
HOW = {"VALUE": "float", "WIDTH": 4, "VEC": 4}


def given(x=None, n=3, factor=2.0, ptr=None):
    return (
        (torch.zeros(3, 4) if x is None else x),
        n,
        factor,
        (torch.zeros(4, dtype=torch.int64) if ptr is None else ptr),
    )


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_a_spec_names_the_arguments_of_its_kernel_in_order(kernel):
    """The signature in the source is read, type by type and name by name."""
    text = compile.texts(kernel.source)[f"cuda/{kernel.source}.cu"]
    signature = re.search(rf"\b{kernel.name}\((.*?)\) \{{", text, re.DOTALL)[1]
    found = [
        re.sub(r"\b(const|__restrict__)\b|\s+", " ", part).split() for part in signature.replace("*", " * ").split(",")
    ]
    expected = []
    for spec in kernel.arguments:
        if isinstance(spec, Scalar):
            expected.append([next(c for c, name in NUMBERS.items() if name == spec.ctype), spec.name])
        else:
            expected.append([next(c for c, dtype in CTYPES.items() if dtype == spec.dtype), "*", spec.name])
    assert found == expected


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_sizes_are_made_of_known_names(kernel):
    known = {s.name for s in kernel.arguments if isinstance(s, Scalar)}.union(*PACKED[kernel.source])
    assert {n.removesuffix("+1") for s in kernel.arguments if isinstance(s, Array) for n in s.size} <= known
    assert kernel.threads == PACKED[kernel.source][0]["THREADS"]


def test_fitting_arguments_pass():
    DOUBLE.check(HOW, given())
    assert all(SCALARS[s.ctype](2) for s in DOUBLE.arguments if isinstance(s, Scalar))


def test_numbers_of_numpy_are_numbers():
    DOUBLE.check(HOW, given(n=np.int64(3), factor=np.float32(2)))
    assert SCALARS["i64"](np.int64(3)).value == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (given()[:-1], "4 arguments of doubled, found 3"),
        (given(x=torch.zeros(3, 4, dtype=torch.float64)), "`x` of doubled to be torch.float32"),
        (given(x=torch.zeros(4, 3).t()), "found torch.float32 and strided"),
        (given(x=torch.zeros(2, 4)), "to have 12 elements, found 8"),
        (given(x=torch.zeros(13)[1:].view(3, 4)), "divisible by 16"),
        (given(x=[0.0] * 12), "tensor, found list"),
        (given(ptr=torch.zeros(3, dtype=torch.int64)), "`ptr` of doubled to have 4 elements"),
        (given(ptr=torch.zeros(4, dtype=torch.int64, device="meta")), "on one device"),
        (given(n=3.0), "`n` of doubled to be i64"),
        (given(n=True), "`n` of doubled to be i64"),
        (given(factor="2"), "`factor` of doubled to be f32"),
    ],
)
def test_others_are_refused_before_anything_runs(arguments, says):
    with pytest.raises(KernelError, match=re.escape(says)):
        DOUBLE.check(HOW, arguments)
