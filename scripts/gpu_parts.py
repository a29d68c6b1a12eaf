"""What a GPU is asked for, part by part: `python scripts/gpu_parts.py NAME...` runs them, a marked line of JSON for each.

Started by gpu_check.py, which starts it again with the rest where a part hangs or loses the GPU.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.append(str(ROOT / "src"))  # where metaniche is not installed

import gpu_attention  # noqa: E402
import gpu_bench  # noqa: E402
import gpu_bench_ligrec  # noqa: E402
import gpu_bench_nulls  # noqa: E402
import gpu_check_ligrec  # noqa: E402
import gpu_check_nulls  # noqa: E402
import gpu_networks  # noqa: E402
import gpu_sparse  # noqa: E402
from simt.cases import ALL  # noqa: E402

from metaniche import ops  # noqa: E402
from metaniche.ops.backend import use_backend  # noqa: E402
from metaniche.ops.cuda import cubins, driver  # noqa: E402
from metaniche.ops.cuda.registry import PACKED  # noqa: E402

CELLS = 50_000  # of the comparisons on random inputs


def kernels() -> list[str]:
    """Find or compile every packed variant for this GPU, in as many processes as there are cores; what came from where."""
    machine, clock = driver.gpu(), time.perf_counter()
    arch = driver.code_for(machine.architecture(torch.cuda.current_device()))
    asked = [(source, defines, arch, machine.version) for source, all_of in PACKED.items() for defines in all_of]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        origins = Counter(pool.map(origin_of, *zip(*asked), chunksize=2))
    counts = ", ".join(f"{n} from {origin}" for origin, n in origins.items())
    return [f"{arch}: {counts} in {time.perf_counter() - clock:.1f} s."]


def origin_of(*asked) -> str:
    return cubins.cubin(*asked)[1]


def small_cases() -> list[str]:
    """The cases of tests/simt on the GPU, every output poisoned; what went wrong."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    failures = []
    for case in ALL:
        try:
            case("cuda")
            torch.cuda.synchronize()
        except Exception as error:
            failures.append(f"{case.__module__.split('.')[-1]}.{case.__name__}: {in_short(error)}")
            say(failures[-1])
            if lost():
                break
    torch.use_deterministic_algorithms(False)
    return failures


# Each op, and whole networks, on `n` cells, on the GPU and on the CPU; what differs.
LARGE: dict[str, Callable[[int, int], list[str]]] = {
    "neighbors": lambda n, seed: large_neighbors(n, seed),
    "attention": lambda n, seed: large_attention(n),
    "attention by rows and by tiles": lambda n, seed: gpu_attention.compare(n),
    "segments": lambda n, seed: large_segments(n),
    "ligands and receptors": gpu_check_ligrec.large_ligrec,
    "sparse expression and transport": lambda n, seed: gpu_sparse.large(n),
    "nulls": gpu_check_nulls.large_nulls,
    "networks": lambda n, seed: gpu_networks.compare(n),
    # A dozen tables, twice; pandas, which an image may lack, is needed for these alone.
    "signals between types": lambda n, seed: import_module("gpu_signals").compare(min(n, 20_000)),
}


def large_neighbors(n: int, seed: int) -> list[str]:
    failures = []
    for dim in (2, 3):
        pos, ptr = torch.rand(n, dim) * n ** (1 / dim), torch.tensor([0, n // 3, n])
        for name, run in {
            "radius_neighbors": lambda p, s: ops.radius_neighbors(p, s, 2.0),
            "radius_neighbors thinned": lambda p, s: ops.radius_neighbors(
                p, s, 2.5, inner_um=0.5, max_per_cell=8, seed=seed
            ),
            "knn_neighbors": lambda p, s: ops.knn_neighbors(p, s, 15),
            "hilbert_order": lambda p, s: (ops.hilbert_order(p, s),),
        }.items():
            found = run(pos.cuda(), ptr.cuda())
            with use_backend("reference"):
                expected = run(pos, ptr)
            if not all(torch.equal(a.cpu(), b) for a, b in zip(found, expected)):
                failures.append(f"{name} in {dim}-D differs from the reference (seed {seed})")
    return failures


def large_attention(n: int) -> list[str]:
    failures = []
    ptr = torch.tensor([0, n])
    with use_backend("reference"):
        indptr, indices, _ = ops.knn_neighbors(torch.rand(n, 2) * 200, ptr, 15)
    limits = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
    for heads, width, dtype in ((4, 16, torch.float32), (4, 64, torch.float32), (4, 64, torch.bfloat16)):
        q, k, v, grad = (torch.randn(n, heads, width).to(dtype) for _ in range(4))
        bias, null = torch.randn(indices.numel(), heads), torch.randn(heads)
        results = []
        for device, to, backend in (("cuda", None, "cuda"), ("cpu", torch.float64, "reference")):
            floats = [x.to(device, to if to else x.dtype).requires_grad_() for x in (q, k, v, bias, null)]
            with use_backend(backend):
                graph = indptr.to(device), indices.to(device)
                out = ops.edge_attention(*floats[:3], *graph, *floats[3:])
                results.append([out, *torch.autograd.grad(out, floats, grad.to(device, out.dtype))])
        for name, own, other in zip(("out", "q", "k", "v", "bias", "null"), *results):
            error = float((own.detach().cpu().double() - other.detach()).norm() / other.detach().norm())
            say(f"attention {heads} x {width} {dtype} {name}: relative error {error:.1e}")
            if not error < limits[dtype]:
                failures.append(f"edge_attention {heads} x {width} {dtype}, {name}: relative error {error:.1e}")
    return failures


def large_segments(n: int) -> list[str]:
    failures, indptr = [], torch.cat((torch.zeros(1, dtype=torch.int64), torch.randint(0, 40, (n,)).cumsum(0)))
    x = torch.randn(int(indptr[-1]), 6)
    for run in (ops.segment_sum, ops.segment_mean, ops.segment_max, ops.segment_softmax):
        with use_backend("reference"):
            expected = run(x.double(), indptr)
        found = run(x.cuda(), indptr.cuda())
        if not torch.allclose(found.cpu().double(), expected, atol=1e-5, rtol=1e-5):
            failures.append(f"{run.__name__} differs from the reference")
    return failures


@cache
def copied() -> gpu_bench.Timing:
    return gpu_bench.copied()


def speed() -> float:
    return gpu_bench.bandwidth(copied())


@cache
def slides() -> list:
    return gpu_bench.slides()


@cache
def graphs() -> list:
    return gpu_bench.graphs_of(slides())


# Rows of the table of times. Of ours, and of peers, which may be absent.
TIMES: dict[str, Callable[[], list[gpu_bench.Timing]]] = {
    "copy": lambda: [copied()],
    "neighbours": lambda: gpu_bench.neighbours(speed(), slides()),
    "sums": lambda: gpu_bench.sums(speed(), graphs()),
    "attention": lambda: gpu_bench.attentions(speed(), graphs()),
    "ligands and receptors": lambda: gpu_bench_ligrec.ours(speed(), graphs()),
    "nulls and autocorrelation of graphs": lambda: gpu_bench_nulls.of_graphs(speed(), graphs()),
    "nulls of labels": lambda: gpu_bench_nulls.of_labels(speed()),
    "attention by rows and by tiles": lambda: gpu_attention.timings(speed(), graphs()),
    "sparse expression": lambda: gpu_sparse.encoder(speed()),
    "transport": lambda: gpu_sparse.solver(speed()),
}
PEERS: dict[str, Callable[[], list[gpu_bench.Timing]]] = {
    "torch-geometric": lambda: gpu_bench.geometric(1_000_000, 4, 16),
    "torch-geometric, wide": lambda: gpu_bench.geometric(100_000, 4, 64),
    "FlexAttention": lambda: gpu_bench.flex(131_072, 4, 64),
}
KERNELS, SMALL = "kernels", "small cases"
LOST = 3  # the exit code of a process that lost its GPU
MARK = "@result "  # begins the lines that gpu_check.py reads


def compared(compare: Callable[[int, int], list[str]]) -> list[str]:
    seed = int(time.time())
    say(f"random inputs of seed {seed}")
    torch.manual_seed(seed)
    return [f"{text} (seed {seed})" for text in compare(CELLS, seed)]


def in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def timed(measure: Callable[[], list[gpu_bench.Timing]]) -> list[str]:
    torch.cuda.empty_cache()
    return [timing.row() for timing in measure()]


def parts() -> dict[str, Callable[[], list[str]]]:
    """Name -> a function that gives lines: what differs or fails of a check, rows of a time, words on the kernels."""
    checks = {f"check: {name}": partial(compared, compare) for name, compare in LARGE.items()}
    times = {f"time: {name}": partial(timed, measure) for name, measure in {**TIMES, **PEERS}.items()}
    return {KERNELS: kernels, SMALL: small_cases} | checks | times


def lost() -> bool:
    """Whether the GPU answers no more, as after an illegal address: nothing that follows in this process could be trusted."""
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def work(names: list[str]) -> None:
    """Run these parts, a line of JSON for each: its name, its lines, and in words what stopped it, if anything did."""
    known = parts()
    with use_backend("cuda"):
        for name in names:
            say(name)
            result = {"part": name, "lines": [], "error": ""}
            try:
                result["lines"] = known[name]()
            except Exception as error:
                result["error"] = in_short(error)
            print(MARK + json.dumps(result), flush=True)
            if lost():
                raise SystemExit(LOST)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no fixed order
    work(sys.argv[1:])
