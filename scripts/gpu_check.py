"""On a machine with a GPU: every CUDA op against the CPU, benchmark, sanitizers; docs/gpu_results.md. Below eight minutes.

python scripts/gpu_check.py [--out FILE]
Needs torch with CUDA, cuda-bindings and NVRTC (both come with torch's CUDA wheels); no nvcc, no hydra, no anndata. Parts run
in another process: one that hangs or loses the GPU is named, and the rest goes on in a fresh one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.append(str(Path(__file__).parents[1] / "src"))  # where metaniche is not installed

import gpu_bench
import gpu_parts

from metaniche.ops.backend import cuda_status, native_status

SANITIZERS = ("memcheck", "racecheck")
# Not torch's kernels, whose names are mangled; nor what the driver answers to cuda-bindings about functions it lacks.
OURS_ALONE = ("--report-api-errors", "no", "--kernel-name-exclude", "kns=_Z")
# Seconds from the start after which a stage starts nothing more, and what one part may take.
CHECKED_BY, TIMED_BY, OVER_BY = 190, 330, 440
PART_SECONDS, KERNEL_SECONDS = 75, 150
TIME_OVER = "not begun, the time was over"
started = time.perf_counter()


class Result(NamedTuple):
    """What a part said, and in words why it could not be finished, else nothing."""

    part: str
    lines: list[str]
    error: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=gpu_parts.ROOT / "docs" / "gpu_results.md")
    given = parser.parse_args()
    ready, why = cuda_status()
    if not ready:
        raise SystemExit(f"No CUDA kernel can run here: {why}. {given.out.name} is left as it is.")
    head, found, partial = heading(why), [], given.out.with_suffix(".partial.md")
    checks, times = ([n for n in gpu_parts.parts() if n.startswith("time: ") == timed] for timed in (False, True))
    for stage in (supervised(checks, CHECKED_BY), supervised(times, TIMED_BY), sanitizers()):
        for result in stage:
            say(f"{result.part}: {result.error or f'{len(result.lines)} lines'}")
            found.append(result)
            partial.write_text(document(head, found))  # known, whatever comes next
    partial.replace(given.out)
    say(f"wrote {given.out}")
    if wrong := failures(found):
        raise SystemExit("\n".join(wrong))


def supervised(names: Sequence[str], until: float, command: Sequence[str] | None = None) -> Iterator[Result]:
    """Results of these parts in order, each from a process that is replaced when it ends or says nothing for too long."""
    command = command or [sys.executable, gpu_parts.__file__]
    remaining = list(names)
    while remaining:
        if elapsed() > until:
            yield from (Result(name, [], TIME_OVER) for name in remaining)
            return
        process = subprocess.Popen([*command, *remaining], stdout=subprocess.PIPE, text=True, start_new_session=True)
        said: queue.Queue[Result | None] = queue.Queue()
        answered = False
        threading.Thread(target=_read, args=(process, said), daemon=True).start()
        while remaining:
            name = remaining.pop(0)
            try:
                limit = KERNEL_SECONDS if name == gpu_parts.KERNELS else PART_SECONDS
                result = said.get(timeout=max(1.0, min(limit, until + 15 - elapsed())))
            except queue.Empty:
                yield Result(name, [], "stopped: it took too long")
                break
            if result is None:
                if process.wait() == gpu_parts.LOST and answered:  # by the part before, which has been told
                    remaining.insert(0, name)
                else:
                    yield Result(name, [], f"its process ended with {process.wait()}")
                break
            answered = True
            yield result
        _end(process)


def _read(process: subprocess.Popen, said: queue.Queue) -> None:
    for line in process.stdout:
        if result := _parsed(line):
            said.put(result)
    said.put(None)


def _parsed(line: str) -> Result | None:
    """The result in a line of a worker; none in any other line, or in one that was torn."""
    try:
        return Result(**json.loads(line.removeprefix(gpu_parts.MARK))) if line.startswith(gpu_parts.MARK) else None
    except json.JSONDecodeError:
        return None


def _end(process: subprocess.Popen) -> None:
    """The process and all that it started; what has finished its work may end by itself."""
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sanitizers() -> Iterator[Result]:
    """compute-sanitizer over the small cases, as long as there is time."""
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if program is None:
        yield Result("compute-sanitizer", ["Not run: compute-sanitizer is not on this machine."], "")
        return
    # Tensors of their own: else what is read beyond one still lies in the pool of torch.
    env = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    running, said = {}, {}
    for tool in SANITIZERS:  # at the same time: most of their work is the processor's
        options = ["--tool", tool, "--error-exitcode", "9", *OURS_ALONE]
        command = [program, *options, sys.executable, gpu_parts.__file__, gpu_parts.SMALL]
        said[tool] = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe that nobody reads would stop it
        running[tool] = subprocess.Popen(command, stdout=said[tool], text=True, env=env, start_new_session=True)
    clock = elapsed()
    for tool, process in running.items():
        try:
            code = process.wait(timeout=max(5.0, OVER_BY - elapsed()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = None
        said[tool].seek(0)
        yield verdict(tool, said[tool].read(), code, elapsed() - clock)


def verdict(tool: str, text: str, code: int | None, seconds: float) -> Result:
    """What a sanitizer found; an error unless it came to its end (code None: it did not), found nothing, and the cases were
    right."""
    if code is None:
        reports = sum("Invalid " in line or "hazard" in line for line in text.splitlines())
        return Result(tool, [], f"stopped after {seconds:.0f} s, with {reports} reports so far")
    summary = "; ".join(line.lstrip("= ") for line in text.splitlines() if "SUMMARY" in line)
    cases = [result for result in map(_parsed, text.splitlines()) if result]
    wrong = [f for case in cases for f in (*case.lines, case.error) if f]
    clean = code == 0 and summary and cases and not wrong
    line = f"{tool}: {summary or 'no summary'} ({seconds:.0f} s)"
    return Result(
        tool, [line], "" if clean else f"exit code {code}, {summary or 'no summary'}, cases: {wrong or len(cases)}"
    )


def document(head: list[str], found: Sequence[Result]) -> str:
    """docs/gpu_results.md, as far as is known."""
    checks = _checks(found)
    times = [r for r in found if r.part.startswith("time: ")]
    others = [r for r in found if r.part in ("compute-sanitizer", *SANITIZERS)]
    wrong = [f"- {r.part.removeprefix('check: ')}: {text}" for r in checks for text in (*r.lines, r.error) if text]
    left_out = [f"- {r.part.removeprefix('time: ')}: not measured ({r.error})" for r in times if r.error]
    lines = [
        *head, "", "## Kernels", "", *(line for r in found if r.part == gpu_parts.KERNELS for line in (*r.lines, r.error)),
        "## Correctness", "",
        f"{len(gpu_parts.ALL)} small cases against float64 oracles (every layout, empty rows, rows longer than a warp,",
        "co-located cells, ties at the radius), and each op and whole networks on fresh random inputs against the CPU, of "
        f"{gpu_parts.CELLS:,} cells (transport of half of them, signals between types of 20,000).",
        f"{sum(not r.error for r in checks)} of {1 + len(gpu_parts.LARGE)} groups came to their end; failures: {len(wrong)}.",
        *wrong, "",
    ]  # fmt: skip
    if times:
        lines += [
            "## Times",
            "",
            gpu_bench.COPY_WORDS,
            "",
            *gpu_bench.HEADER,
            *(line for r in times for line in r.lines),
            "",
        ]
        lines += ["Left out:", *left_out, ""] if left_out else []
    if others:
        lines += ["## compute-sanitizer", "", "The small cases, every tensor with memory of its own.", ""]
        lines += [f"- {text}" for r in others for text in (*r.lines, r.error and f"{r.part}: {r.error}") if text]
    return "\n".join(lines).rstrip() + "\n"


def failures(found: Sequence[Result]) -> list[str]:
    """What of our own went wrong; peers may be absent, and the time may be over before all is measured."""
    beside = {f"time: {name}" for name in gpu_parts.PEERS} | {r.part for r in found if r.error == TIME_OVER}
    checks = [f"{r.part}: {text}" for r in _checks(found) for text in r.lines]
    return checks + [f"{r.part}: {r.error}" for r in found if r.error and r.part not in beside]


def _checks(found: Sequence[Result]) -> list[Result]:
    return [r for r in found if r.part == gpu_parts.SMALL or r.part.startswith("check: ")]


def heading(status: str) -> list[str]:
    packages = ("torch", "cuda-bindings", "nvidia-cuda-nvrtc", "triton", "torch-geometric", "numpy", "scipy")
    return [
        "# CUDA kernels on a GPU",
        "",
        "Written by `make gpu`; every figure below was measured in that one run.",
        "",
        f"- date: {date.today().isoformat()}",
        f"- GPU: {torch.cuda.get_device_name()}; {status}; torch's CUDA {torch.version.cuda}",
        f"- CPU that is compared with: {native_status()}",
        f"- driver: {gpu_bench.of_nvidia_smi('driver_version') or 'unknown'}; Python {platform.python_version()}",
        f"- versions: {', '.join(f'{name} {installed(name)}' for name in packages)}",
    ]


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def elapsed() -> float:
    return time.perf_counter() - started


def say(text: str) -> None:
    print(f"[{elapsed():5.0f} s] {text}", flush=True)


if __name__ == "__main__":
    main()
