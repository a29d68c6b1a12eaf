import re

from metaniche.ops.cuda.compile import CSRC
from metaniche.ops.cuda.registry import KERNELS, PACKED


def test_every_kernel_in_the_sources_has_a_spec():
    written = {
        (path.stem, name)
        for path in (CSRC / "cuda").glob("*.cu")
        for name in re.findall(r"__launch_bounds__\([^)]*\)\s*(\w+)\(", path.read_text())
    }
    assert written == {(kernel.source, kernel.name) for kernel in KERNELS}
    assert {source for source, _ in written} == set(PACKED)


def test_no_variant_is_packed_twice():
    for variants in PACKED.values():
        assert len({tuple(sorted(v.items())) for v in variants}) == len(variants)
