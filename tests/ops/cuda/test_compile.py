"""The gate: every kernel compiles for every architecture within its budgets, and nothing is spilled."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metaniche.errors import KernelError
from metaniche.ops.cuda import compile, edge_attention, edge_attention_tiles, ligrec
from metaniche.ops.cuda.registry import KERNELS, PACKED

ROOT = Path(__file__).parents[3]
try:
    compile.nvrtc_version()
    WHY = ""
except KernelError as error:
    WHY = str(error)
needs_nvrtc = pytest.mark.skipif(bool(WHY), reason=f"the CUDA kernels were not compiled: {WHY}")
# Of each source the widest and the narrowest variants; the pack compiles them all.
GATED = {
    "edge_attention": [
        edge_attention.defines(heads, width, dtype)
        for heads, width in ((4, 64), (8, 64), (4, 16), (1, 16))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    + [edge_attention.defines(4, width, torch.bfloat16, dropout=True) for width in (16, 64)],
    "edge_attention_tiles": [
        edge_attention_tiles.defines(4, width, dtype, *rest)
        for width in (16, 64)
        for dtype in (torch.float32, torch.bfloat16)
        for rest in ((torch.uint8, False), (torch.int16, True))
    ],
    **{
        source: PACKED[source]
        for source in (
            "autocorrelation",
            "csr_encoder",
            "edge_null",
            "expression",
            "hilbert",
            "label_moments",
            "neighbors",
            "nearest",
            "nearest_few",
            "transport",
        )
    },
    "label_null": [PACKED["label_null"][0], PACKED["label_null"][-1]],
    "ligrec": [
        *(v for v in PACKED["ligrec"] if v["FAR"] != 704),
        ligrec.defines(1500, 3000, torch.float64, saturates=False),
    ],
    "pair_logits": [v for v in PACKED["pair_logits"] if v["FAR"] != 704],
    "segment": [v for v in PACKED["segment"] if v["COLUMNS"] != 4],
}


@needs_nvrtc
@pytest.mark.parametrize("arch", compile.ARCHITECTURES)
@pytest.mark.parametrize("source", PACKED)
def test_kernels_keep_their_budgets(source, arch):
    budgets = {kernel.name: kernel for kernel in KERNELS if kernel.source == source}
    for defines in GATED[source]:
        code, log = compile.compile_cubin(source, defines, arch)
        assert code[:4] == b"\x7fELF"
        used = compile.usage(log)
        assert used.keys() == budgets.keys()
        for name, use in used.items():
            where = f"{name} {dict(defines)} {arch}: {use}"
            assert use.spills == use.stack == 0, where
            assert use.registers <= budgets[name].registers, where
            assert use.shared <= budgets[name].shared, where


@needs_nvrtc
@pytest.mark.parametrize("shape", [(1, 1024), (4, 256), (32, 32), (3, 100)])
def test_the_widest_layouts_do_not_spill(shape):
    assert edge_attention.unable(torch.zeros(1, *shape)) is None
    _, log = compile.compile_cubin("edge_attention", edge_attention.defines(*shape, torch.float32), "sm_90")
    assert all(use.spills == use.stack == 0 for use in compile.usage(log).values())


@needs_nvrtc
@pytest.mark.parametrize("shape", [(4, 64), (8, 32), (3, 60), (1, 8)])
def test_the_widest_tiles_do_not_spill(shape):
    how = edge_attention_tiles.defines(*shape, torch.float32, torch.int16, True)
    _, log = compile.compile_cubin("edge_attention_tiles", how, "sm_90")
    assert all(use.spills == use.stack == 0 for use in compile.usage(log).values())


@needs_nvrtc
@pytest.mark.parametrize("version", [(13, 0), (12, 8)])
def test_the_nvrtc_of_older_torch_compiles_every_source(version):
    """In another process, since a process keeps the NVRTC that it loaded first; it stands there beside the newest."""
    major, minor = version
    library = next((ROOT / "build" / f"nvrtc-{major}.{minor}").glob(f"nvidia/*/lib/libnvrtc.so.{major}"), None)
    if library is None:
        pytest.skip("make test brings the older NVRTC; it is not here")
    program = """
import sys
from types import SimpleNamespace
from metaniche.ops.cuda import compile
from metaniche.ops.cuda.registry import PACKED
compile.find_spec = lambda name: SimpleNamespace(submodule_search_locations=[sys.argv[1]])
compile.prefer(int(sys.argv[2]))
assert compile.nvrtc_version() == (int(sys.argv[2]), int(sys.argv[3])), compile.nvrtc_version()
for source, variants in PACKED.items():
    for defines in (variants[0], variants[-1]):
        _, log = compile.compile_cubin(source, defines, "sm_90")
        assert all(use.spills == use.stack == 0 for use in compile.usage(log).values()), (source, defines)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, library.parents[2], *map(str, version)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@needs_nvrtc
def test_a_fault_in_a_kernel_is_told_with_its_line(monkeypatch):
    monkeypatch.setattr(compile, "texts", lambda source: {"cuda/broken.cu": "int main( {"})
    with pytest.raises(KernelError, match=r"cuda/broken.cu\(1\): error"):
        compile.compile_cubin("broken", {}, "sm_90")


def test_usage_is_read_from_the_log():
    log = """ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
    8 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 53 registers, used 1 barriers, 8 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compiling entry function 'second' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers"""
    assert compile.usage(log) == {
        "first": compile.Usage(53, 40, 8, 1024),
        "second": compile.Usage(12, 0, 0, 0),
    }


def test_texts_hold_every_header_once():
    assert set(compile.texts("nearest")) == {"cuda/nearest.cu", "cuda/rings.h", "cuda/cell_list.h", "common/types.h"}


def test_the_fingerprint_changes_with_everything_that_matters(monkeypatch):
    first = compile.fingerprint("hilbert", {"DIM": 2}, "sm_90")
    assert first == compile.fingerprint("hilbert", {"DIM": 2}, "sm_90")
    others = {
        compile.fingerprint("hilbert", {"DIM": 3}, "sm_90"),
        compile.fingerprint("hilbert", {"DIM": 2}, "sm_80"),
        compile.fingerprint("segment", {"DIM": 2}, "sm_90"),
    }
    monkeypatch.setattr(compile, "texts", lambda source: {"cuda/hilbert.cu": "", "common/types.h": "changed"})
    others.add(compile.fingerprint("hilbert", {"DIM": 2}, "sm_90"))
    assert len(others | {first}) == 5


def test_without_nvrtc_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    compile.nvrtc_version.cache_clear()
    with pytest.raises(KernelError, match=r"metaniche\[cuda\]"):
        compile.nvrtc_version()
    compile.nvrtc_version.cache_clear()
