"""On a machine with a GPU: every CUDA op against the CPU reference, sanitizers, benchmark; docs/gpu_results.md.

python scripts/gpu_check.py [--small] [--out FILE]     --small runs the correctness cases alone (for the sanitizers)
Needs torch with CUDA, cuda-bindings and NVRTC (both come with torch's CUDA wheels); no nvcc, no hydra, no anndata.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "scripts")]

import gpu_attention  # noqa: E402
import gpu_bench  # noqa: E402
import gpu_bench_ligrec  # noqa: E402
import gpu_bench_nulls  # noqa: E402
import gpu_check_ligrec  # noqa: E402
import gpu_check_nulls  # noqa: E402
import gpu_networks  # noqa: E402
import gpu_signals  # noqa: E402
import gpu_sparse  # noqa: E402
from simt.cases import ALL  # noqa: E402

from metaniche import ops  # noqa: E402
from metaniche.ops.backend import cuda_status, use_backend  # noqa: E402
from metaniche.ops.cuda import cubins, driver  # noqa: E402
from metaniche.ops.cuda.registry import PACKED  # noqa: E402

SANITIZERS = ("memcheck", "racecheck")
SANITIZER_SECONDS = 100
# No part of the benchmark is started after this: the whole check stays below eight minutes.
LAST_START_SECONDS = 330
started = time.perf_counter()
broken: list[str] = []  # what of our own could not run to its end


def main() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS has no fixed order
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu_results.md")
    given = parser.parse_args()
    ready, why = cuda_status()
    if not ready:
        raise SystemExit(f"No CUDA kernel can run here: {why}. {given.out.name} is left as it is.")
    with use_backend("cuda"):
        failures = run_cases()
        if given.small:
            raise SystemExit("\n".join(failures))
        lines = heading(why)
        for section in (kernels, lambda: correctness(failures), sanitizers, benchmark):
            try:
                lines += ["", *section()]
            except Exception as error:
                broken.append(f"{type(error).__name__}: {str(error)[:300]}")
                lines += ["", f"Not finished: {broken[-1]}"]
            given.out.with_suffix(".partial.md").write_text("\n".join(lines) + "\n")  # known, whatever comes next
    given.out.with_suffix(".partial.md").replace(given.out)
    say(f"wrote {given.out}")
    failures += broken
    if failures:
        raise SystemExit("\n".join(failures))


def heading(status: str) -> list[str]:
    packages = ("torch", "cuda-bindings", "nvidia-cuda-nvrtc", "triton", "torch-geometric", "numpy", "scipy")
    return [
        "# CUDA kernels on a GPU",
        "",
        "Written by `make gpu`; every figure below was measured in that one run.",
        "",
        f"- date: {date.today().isoformat()}",
        f"- GPU: {torch.cuda.get_device_name()}; {status}; torch's CUDA {torch.version.cuda}",
        f"- driver: {gpu_bench.of_nvidia_smi('driver_version') or 'unknown'}; Python {platform.python_version()}",
        f"- versions: {', '.join(f'{name} {installed(name)}' for name in packages)}",
    ]


def kernels() -> list[str]:
    """Load or compile every packed variant for this GPU."""
    machine, clock = driver.gpu(), time.perf_counter()
    arch, origins = driver.code_for(machine.architecture(torch.cuda.current_device())), {}
    for source, variants in PACKED.items():
        for defines in variants:
            _, origin = cubins.cubin(source, defines, arch, machine.version)
            origins[origin] = origins.get(origin, 0) + 1
    counts = ", ".join(f"{n} from {origin}" for origin, n in origins.items())
    return ["## Kernels", "", f"{arch}: {counts} in {time.perf_counter() - clock:.1f} s."]


def run_cases() -> list[str]:
    """The cases of tests/simt on the GPU, every output poisoned; what went wrong."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    failures = []
    for case in ALL:
        try:
            case("cuda")
            torch.cuda.synchronize()
        except Exception as error:
            failures.append(f"{case.__module__.split('.')[-1]}.{case.__name__}: {type(error).__name__}: {error}")
            say(failures[-1])
    torch.use_deterministic_algorithms(False)
    return failures


def correctness(failures: list[str]) -> list[str]:
    failures += large_cases()
    return [
        "## Correctness",
        "",
        f"{len(ALL)} small cases against float64 oracles (every layout, empty rows, rows longer than a warp, co-located",
        "cells, ties at the radius), and each op and whole networks on fresh random inputs of 50,000 cells against the CPU.",
        f"Failures: {len(failures)}.",
        *(f"- {failure}" for failure in failures),
    ]


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
    "signals between types": lambda n, seed: gpu_signals.compare(min(n, 20_000)),  # a dozen tables, twice
}


def large_cases(n: int = 50_000) -> list[str]:
    seed, failures = int(time.time()), []
    say(f"random inputs of seed {seed}")
    torch.manual_seed(seed)
    for name, compare in LARGE.items():
        try:
            failures += compare(n, seed)
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:300]} (seed {seed})")
    return failures


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


def sanitizers() -> list[str]:
    """compute-sanitizer over the small cases."""
    lines = ["## compute-sanitizer", ""]
    program = shutil.which("compute-sanitizer")
    if program is None:
        return [*lines, "Not run: compute-sanitizer is not on this machine."]
    for tool in SANITIZERS:
        say(f"compute-sanitizer {tool}")
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small"]
        clock = time.perf_counter()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=SANITIZER_SECONDS, env={**os.environ}
            )
            found = [line for line in done.stdout.splitlines() if "SUMMARY" in line] or [f"exit code {done.returncode}"]
            verdict = "; ".join(found)
        except subprocess.TimeoutExpired:
            verdict = f"stopped after {SANITIZER_SECONDS} s, nothing can be said"
        lines.append(f"- {tool}: {verdict} ({time.perf_counter() - clock:.0f} s)")
    return lines


def benchmark() -> list[str]:
    """The table; what cannot run is named with its reason."""
    say("benchmark")
    rows, notes = [], []

    def part(name: str, run: Callable[[], list], peer: bool = False) -> None:
        if time.perf_counter() - started > LAST_START_SECONDS:
            notes.append(f"- {name}: not measured, the time was over")
            return
        say(name)
        try:
            torch.cuda.empty_cache()
            rows.extend(timing.row() for timing in run())
        except Exception as error:
            notes.append(f"- {name}: not measured ({type(error).__name__}: {str(error)[:200]})")
            if not peer:
                broken.append(notes[-1])

    speed, slides = gpu_bench.bandwidth(), gpu_bench.slides()
    graphs = gpu_bench.graphs_of(slides)
    part("neighbours", lambda: gpu_bench.neighbours(speed, slides))
    part("sums", lambda: gpu_bench.sums(speed, graphs))
    part("attention", lambda: gpu_bench.attentions(speed, graphs))
    part("ligands and receptors", lambda: gpu_bench_ligrec.ours(speed, graphs))
    part("nulls and autocorrelation of graphs", lambda: gpu_bench_nulls.of_graphs(speed, graphs))
    part("nulls of labels", lambda: gpu_bench_nulls.of_labels(speed))
    part("attention by rows and by tiles", lambda: gpu_attention.timings(speed, graphs))
    part("sparse expression", lambda: gpu_sparse.encoder(speed))
    part("transport", lambda: gpu_sparse.solver(speed))
    part("torch-geometric", lambda: gpu_bench.geometric(1_000_000, 4, 16), peer=True)
    part("torch-geometric, wide", lambda: gpu_bench.geometric(100_000, 4, 64), peer=True)
    part("FlexAttention", lambda: gpu_bench.flex(131_072, 4, 64), peer=True)
    return [
        "## Times",
        "",
        f"Event timing, {gpu_bench.ROUNDS} runs over {gpu_bench.SETS} input sets after a warm-up. Bound: the fewest",
        f"bytes (each input read once, each output written once) at {speed / 1e12:.2f} TB/s, the copy bandwidth of this run.",
        "The edges by sender and the tiles of attention, which it takes where they pay, are made once a graph and are",
        "not in these times.",
        "",
        "| op | size | median ms | range | bound ms | of the bound | peak GiB beyond inputs |",
        "|---|---|---:|---|---:|---:|---:|",
        *rows,
        *(["", "Left out:", *notes] if notes else []),
    ]


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def say(text: str) -> None:
    print(f"[{time.perf_counter() - started:5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
