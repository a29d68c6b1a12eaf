"""Ops beside their peers: interleaved rounds in one run, medians, peak memory. `python benchmarks/harness.py neighbors`.

A benchmark file defines `CASES`, a list of `Case`. Every implementation of a case lives in a process of its own, which
makes the same inputs from the same seed and waits for its turn; so rounds are interleaved, noise falls on all alike, and
memory is that implementation's alone. Results are ratios of medians within the run, never a time by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
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
from typing import NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
MB = 1e6
PEERS = ("squidpy", "liana", "torch-geometric", "scikit-learn", "scipy", "numpy")
# Of every solver alike: an OpenMP thread that waits sleeps. Where other work holds the cores, spinning keeps a thread of the
# same process from being run.
WAITING = {"OMP_WAIT_POLICY": "passive"}
CHECK = "check"  # in the place of a solver: the case's check


class Target(NamedTuple):
    """A bound that was set beforehand for a figure of `solver`.

    "slower" and "larger" are its seconds and megabytes over those of `than` (the case's first solver), at least
    `bound`; "seconds" and "extra_mb" are its own, and "check" a figure of the case's check: at most `bound`.
    """

    solver: str
    field: str
    bound: float
    than: str = ""


@dataclass(frozen=True)
class Case:
    """One problem, and who solves it.

    `make` returns the inputs; `solvers` maps a name to a function of the inputs, ours first. A solver whose package is
    missing, or that fails, is left out, by name and reason. `growth` names the series of sizes that the case belongs to.
    `warm` makes of the inputs smaller ones for the warm-up round, where a full one is very long. `check` returns named
    figures of how well the solvers agree, computed once in a process of its own.
    """

    name: str
    make: Callable[[], dict]
    solvers: dict[str, Callable[[dict], object]]
    rounds: int = 5
    growth: str | None = None
    size: int = 0
    check: Callable[[dict], dict[str, float]] | None = None
    targets: tuple[Target, ...] = ()
    warm: Callable[[dict], dict] = lambda inputs: inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmarks", nargs="*", help="files without bench_ and .py; all by default")
    parser.add_argument("--case", help="only cases whose name holds this text")
    parser.add_argument("--rounds", type=int, help="instead of each case's own")
    parser.add_argument("--most-cells", type=int, help="leave out larger cases")
    parser.add_argument("--worker", nargs=3, metavar=("FILE", "CASE", "SOLVER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    if options.worker:
        return work(*options.worker)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    names = options.benchmarks or sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    for name in names:
        for case in load(name):
            small = options.most_cells is None or case.size <= options.most_cells
            if small and (options.case is None or options.case in case.name):
                found[f"{name}: {case.name}"] = measure(name, case, options.rounds or case.rounds)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def load(name: str) -> list[Case]:
    return importlib.import_module(f"bench_{name}").CASES


def measure(file: str, case: Case, rounds: int) -> dict:
    """Seconds (median, least, most) and extra megabytes of every solver, and how many times slower than the first."""
    runs, missing = interleaved(file, case, rounds)
    result = {
        "machine": machine(), "size": case.size, "growth": case.growth, "rounds": rounds,
        "solvers": {}, "missing": missing, "check": {},
    }  # fmt: skip
    for solver, reason in missing.items():
        print(f"{file}: {case.name}: {solver} left out: {reason}", flush=True)
    ours = None
    for solver, answers in runs.items():
        times = [a["seconds"] for a in answers]
        median = statistics.median(times)
        ours = ours or median
        row = {
            "seconds": median, "least": min(times), "most": max(times), "slower": median / ours,
            "extra_mb": max(a["extra_mb"] for a in answers),
        }  # fmt: skip
        if all(a["processor_seconds"] is not None for a in answers):
            row["processor_seconds"] = statistics.median(a["processor_seconds"] for a in answers)
        result["solvers"][solver] = {k: float(f"{v:.4g}") for k, v in row.items()}
        print(
            f"{file}: {case.name}: {solver}: {median:.4g} s ({min(times):.3g} to {max(times):.3g}), "
            f"{row['slower']:.1f}x, {row['extra_mb']:.0f} MB extra",
            flush=True,
        )
    if case.check is not None:
        worker = Worker(file, case.name, CHECK)
        result["check"] = worker.run()
        worker.stop()
        if "error" in result["check"]:
            missing[CHECK], result["check"] = result["check"]["error"], {}
        print(f"{file}: {case.name}: {result['check']}", flush=True)
    return result


def interleaved(file: str, case: Case, rounds: int) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """The answers of every solver, one a round, and why solvers are missing. A first round warms up and is dropped."""
    workers = {solver: Worker(file, case.name, solver) for solver in case.solvers}
    runs: dict[str, list[dict]] = {solver: [] for solver in workers}
    missing = {}
    for turn in range(rounds + 1):
        for solver in [s for s in workers if s not in missing]:
            answer = workers[solver].run("run" if turn else "warm up")
            if "error" in answer:
                missing[solver] = answer["error"]
                workers[solver].stop()
            elif turn:
                runs[solver].append(answer)
    for worker in workers.values():
        worker.stop()
    return {solver: answers for solver, answers in runs.items() if solver not in missing}, missing


class Worker:
    """One solver in a process of its own."""

    def __init__(self, file: str, case: str, solver: str) -> None:
        command = [sys.executable, __file__, "--worker", file, case, solver]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=WAITING | os.environ
        )

    def run(self, request: str = "run") -> dict:
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line.startswith("{") else {"error": f"died with status {self.process.wait()}"}

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def work(file: str, case: str, solver: str) -> None:
    """The worker's side: inputs once, then a measured call per line read."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a peer prints must not mix with the answers
    chosen = next(c for c in load(file) if c.name == case)
    inputs = None
    for request in sys.stdin:
        try:
            inputs = chosen.make() if inputs is None else inputs
            given = chosen.warm(inputs) if request == "warm up\n" else inputs
            answer = chosen.check(given) if solver == CHECK else timed(chosen.solvers[solver], given)
        except ImportError as error:
            answer = {"error": str(error)}
        except Exception as error:  # a peer may fail in its own way: the others are still measured
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(solve: Callable[[dict], object], inputs: dict) -> dict:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what an earlier run has freed counts again
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    processor, start = time.process_time(), time.perf_counter()
    kept = solve(inputs)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    del kept
    if Path(f"/proc/self/task/{os.getpid()}/children").read_text():
        processor = None  # that of the processes it started is not known
    return {"seconds": seconds, "processor_seconds": processor, "extra_mb": memory("VmHWM") - before}


def memory(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024 / MB


def machine() -> str:
    import torch

    processor = f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    found = {d.name.lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", *PEERS) if name in found)
    waiting = (WAITING | os.environ)["OMP_WAIT_POLICY"]
    return f"{processor}, {waiting} waiting of OpenMP threads, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
