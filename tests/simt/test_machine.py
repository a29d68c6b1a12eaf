"""The emulation itself: right kernels give what a GPU would, wrong ones are told apart by what is wrong."""

import ctypes
import hashlib
from pathlib import Path

import pytest
import torch
from simt import machine as simt

from metaniche.ops.cuda import compile
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

HEAD = '#include "common/types.h"\nusing namespace metaniche;\nextern "C" __global__ void __launch_bounds__(64, 1)\n'
BUILD = Path(__file__).parents[2] / "build" / "simt"
INPUT = torch.arange(64, dtype=torch.int32)


@pytest.fixture
def run(monkeypatch):
    """run(body, seed) launches one block of 64 threads with i32 `x` (64) and `out` (64) and gives `out`."""
    if simt.compiler() is None:
        pytest.skip("no g++ on this machine")
    BUILD.mkdir(parents=True, exist_ok=True)
    arrays = (Array("x", torch.int32, ("n",)), Array("out", torch.int32, ("n",)), Scalar("n"))

    def launch(body, seed=0, before="", **how):
        name = "k" + hashlib.sha256((before + body).encode()).hexdigest()[:12]
        text = f"{before}\n{HEAD}{name}(const i32* x, i32* out, i64 n) {{\n    const int t = threadIdx.x;\n{body}\n}}\n"
        files = {f"cuda/{name}.cu": text, "common/types.h": (compile.CSRC / "common/types.h").read_text()}
        monkeypatch.setattr(compile, "texts", lambda source: files)
        out = torch.full((64,), -1, dtype=torch.int32)
        simt.Machine(BUILD, seed, **how).run(Kernel(name, name, arrays, 64), {}, (1, 1), (INPUT, out, 64))
        return out

    return launch


@pytest.mark.parametrize("seed", range(4))
def test_warp_operations(run, seed):
    body = """
    i32 sum = x[t];
    for (int o = 16; o; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    const i32 up = __shfl_up_sync(0xffffffffu, x[t], 1), down = __shfl_down_sync(0xffffffffu, x[t], 1);
    const u32 odd = __ballot_sync(0xffffffffu, t % 2);
    bool ok = sum == (t < 32 ? 496 : 1520) && up == (t % 32 ? t - 1 : t) && down == (t % 32 == 31 ? t : t + 1);
    ok = ok && odd == 0xaaaaaaaau && __popc(odd) == 16 && __ffs(8) == 4 && __clz(1) == 31;
    ok = ok && __reduce_add_sync(0xffffffffu, 2u) == 64 && __reduce_max_sync(0xffffffffu, u32(t)) == u32(t | 31);
    ok = ok && __reduce_min_sync(0xffffffffu, u32(t)) == u32(t & 32) && __any_sync(0xffffffffu, t == 40) == (t >= 32);
    out[t] = ok && __all_sync(0xffffffffu, t < 32) == (t < 32);"""
    assert run(body, seed).tolist() == [1] * 64


def test_parts_of_a_warp_may_go_their_own_way(run):
    body = """
    const u32 mask = 0xffu << (t % 32 / 8 * 8);
    i32 sum = x[t];
    for (int round = 0; round < 1 + t % 32 / 8; ++round) sum += __shfl_sync(mask, sum, t % 32 / 8 * 8);
    out[t] = sum;"""
    first = [t // 8 * 8 for t in range(64)]
    expected = []
    for t in range(64):
        lead, own = first[t], t
        for _ in range(1 + t % 32 // 8):
            own, lead = own + lead, 2 * lead
        expected.append(own)
    assert run(body, 1).tolist() == expected


SUM = """
    {barrier}
    i32 sum = 0;
    for (int i = 0; i < 64; ++i) sum += tile[i];
    out[t] = sum;"""


@pytest.mark.parametrize("shared", ["__shared__ i32 tile[64];", "extern __shared__ i32 tile[];"])
@pytest.mark.parametrize("seed", range(4))
def test_shared_memory_and_barriers(run, shared, seed):
    body = f"    {shared}\n    tile[t] = x[t];" + SUM.format(barrier="__syncthreads();")
    assert run(body, seed).tolist() == [2016] * 64


def test_a_missing_barrier_shows(run):
    body = "    __shared__ i32 tile[64];\n    tile[t] = x[t];" + SUM.format(barrier="")
    assert run(body, 1).tolist() != [2016] * 64


def test_atomics(run):
    assert run("    atomicAdd(out, 1); atomicMax(out + 1, t); atomicMin(out + 2, -t); atomicCAS(out + 3, -1, 5);", 3)[
        :4
    ].tolist() == [63, 63, -63, 5]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    if (t == 3) return; out[t] = __shfl_sync(0xffffffffu, t, 3);", "shuffles from lane 3"),
        ("    if (t < 8) __shfl_sync(0xffu, t, 0); else if (t < 32) __syncwarp(0xffu);", "leaves it out"),
        ("    if (t % 2) __syncwarp(); else __ballot_sync(0xffffffffu, 1);", "different warp operations"),
        ("    const u32 mask = t % 32 / 4 ? 0xfffffff0u : 0xffffffffu; __syncwarp(mask);", "different warp operations"),
        ("    if (t == 0) for (;;) __syncwarp(1u);", "no end after"),
        ("    if (t == 0) for (;;) out[0] = out[1];", "the time is over"),
        ("    out[t + 1] = 1;", "an access beyond `out`, at element 64"),
        ("    out[t] = x[t + 1];", "an access beyond `x`, at element 64"),
        ("    out[t - 1] = 1;", "a write beside `out`"),
        (
            "    i32 own[4]; for (int i = 0; i <= int(n) / 16; ++i) own[i] = t; out[t] = own[t % 4];",
            "undefined behaviour",
        ),
        ("    out[t] = __ldg(reinterpret_cast<const uint4*>(x + t)).x;", "16 bytes is not aligned"),
    ],
)
def test_what_is_wrong_is_named(run, body, says):
    with pytest.raises(simt.SimtError, match=says):
        run(body, 2, seconds=0.5, most_switches=10_000)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    out[t] = x[t - 1];", "an access beyond `x`, at element -1"),
        ("    out[t - 1] = 1;", "an access beyond `out`, at element -1"),
        ("    out[t + 1] = 1;", "a write beside `out`"),
    ],
)
def test_odd_seeds_close_the_pages_before_an_array(run, body, says):
    with pytest.raises(simt.SimtError, match=says):
        run(body, 1)


def test_half_a_warp_at_a_barrier_is_a_deadlock(run):
    with pytest.raises(simt.SimtError, match=r"deadlock: threads wait for ever: 0 \(warp ffffffff\)"):
        run("    if (t % 32 < 16) __syncwarp(); else __syncthreads();", 1)


def test_threads_that_left_are_not_waited_for(run):
    assert run("    if (t < 7) return;\n    __syncthreads();\n    __syncwarp();\n    out[t] = 1;", 1).sum() == 57 - 7


def test_shared_memory_is_not_zero_at_first(run):
    assert run("    __shared__ i32 tile[64]; out[t] = tile[t];").tolist() == [-1] * 64


def test_the_next_launch_is_clean_after_a_fault(run):
    with pytest.raises(simt.SimtError):
        run("    out[t + 10000] = 1;", 1)
    assert run("    out[t] = x[t];", 1).tolist() == INPUT.tolist()


def test_signals_are_left_as_they_were(run):
    libc = ctypes.CDLL(None)
    run("    out[t] = 1;")
    assert libc.alarm(0) == 0
