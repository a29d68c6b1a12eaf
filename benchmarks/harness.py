"""Ops beside their peers: interleaved rounds in one run, medians, peak memory. `python benchmarks/harness.py neighbors`.

A benchmark file defines `CASES`, a list of `Case`. Every implementation of a case lives in a process of its own, which
makes the same inputs from the same seed and waits for its turn; so rounds are interleaved, noise falls on all alike, and
memory is that implementation's alone. Results are ratios of medians within the run, never a time by itself.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
MB = 1e6


@dataclass(frozen=True)
class Case:
    """One problem, and who solves it.

    `make` returns the inputs; `solvers` maps a name to a function of the inputs, ours first. A solver whose package is
    missing raises ImportError and is left out, by name. `growth` names the series of sizes that the case belongs to.
    """

    name: str
    make: Callable[[], dict]
    solvers: dict[str, Callable[[dict], object]]
    rounds: int = 5
    growth: str | None = None
    size: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmarks", nargs="*", help="files without bench_ and .py; all by default")
    parser.add_argument("--case", help="only cases whose name holds this text")
    parser.add_argument("--rounds", type=int, help="instead of each case's own")
    parser.add_argument("--worker", nargs=3, metavar=("FILE", "CASE", "SOLVER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if options.worker:
        return work(*options.worker)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    names = options.benchmarks or sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    for name in names:
        for case in load(name):
            if options.case is None or options.case in case.name:
                found[f"{name}: {case.name}"] = measure(name, case, options.rounds or case.rounds)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def load(name: str) -> list[Case]:
    return importlib.import_module(f"bench_{name}").CASES


def measure(file: str, case: Case, rounds: int) -> dict:
    """Seconds (median, least, most) and extra megabytes of every solver, and how many times slower than the first."""
    workers = {solver: Worker(file, case.name, solver) for solver in case.solvers}
    runs: dict[str, list[dict]] = {s: [] for s in workers}
    missing = {}
    for turn in range(rounds + 1):  # the first warms up caches and compilers
        for solver, worker in workers.items():
            if solver in missing:
                continue
            answer = worker.run()
            if "error" in answer:
                missing[solver] = answer["error"]
            elif turn or rounds == 1:
                runs[solver].append(answer)
    for worker in workers.values():
        worker.stop()
    ours = None
    result = {"machine": machine(), "size": case.size, "growth": case.growth, "rounds": rounds, "solvers": {}}
    for solver, answers in runs.items():
        if solver in missing:
            print(f"{file}: {case.name}: {solver} left out: {missing[solver]}", flush=True)
            continue
        times = [a["seconds"] for a in answers]
        median = statistics.median(times)
        ours = ours or median
        row = {
            "seconds": median, "least": min(times), "most": max(times), "slower": median / ours,
            "extra_mb": max(a["extra_mb"] for a in answers),
        }  # fmt: skip
        result["solvers"][solver] = {k: float(f"{v:.4g}") for k, v in row.items()}
        print(
            f"{file}: {case.name}: {solver}: {median:.4g} s ({min(times):.3g} to {max(times):.3g}), "
            f"{row['slower']:.1f}x, {row['extra_mb']:.0f} MB extra",
            flush=True,
        )
    return result


class Worker:
    """One solver in a process of its own."""

    def __init__(self, file: str, case: str, solver: str) -> None:
        command = [sys.executable, __file__, "--worker", file, case, solver]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self) -> dict:
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line.startswith("{") else {"error": f"died with status {self.process.wait()}"}

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def work(file: str, case: str, solver: str) -> None:
    """The worker's side: inputs once, then a measured call per line read."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a peer prints must not mix with the answers
    chosen = next(c for c in load(file) if c.name == case)
    inputs = None
    for _ in sys.stdin:
        try:
            inputs = chosen.make() if inputs is None else inputs
            answer = timed(chosen.solvers[solver], inputs)
        except ImportError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(solve: Callable[[dict], object], inputs: dict) -> dict:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    start = time.perf_counter()
    kept = solve(inputs)
    seconds = time.perf_counter() - start
    del kept
    return {"seconds": seconds, "extra_mb": memory("VmHWM") - before}


def memory(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024 / MB


def machine() -> str:
    import torch

    processor = f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return f"{processor}, torch {torch.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
