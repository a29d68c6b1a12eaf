"""From benchmarks/results.json: the tables between the markers of docs/benchmarks.md, and the figure of growth."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import harness

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURE = ROOT / "docs" / "figures" / "ops_growth.svg"
START, END = "<!-- ops: written by make bench -->", "<!-- ops: end -->"
AT_LEAST = ("slower", "larger")
NOTE = """Every solver has a process of its own with the same inputs, and the solvers of a case take turns: medians over
rounds (least to most), after a round that warms up caches and compilers. Other work ran on the machine, more at some times
than at others, so a time by itself is an upper bound; what counts is the ratio within a case, to its first row. Processor
seconds add up the threads of the process, and are not given where a peer starts processes. Extra memory is the peak during the
call over what was held before it, which holds the inputs; that of processes a peer starts is not counted."""


def main() -> None:
    found = json.loads(harness.RESULTS.read_text())
    page = PAGE.read_text()
    before, rest = page.split(START)
    PAGE.write_text(before + section(found) + rest.split(END)[1])
    FIGURE.write_bytes(figure(found))


def section(found: dict) -> str:
    files = sorted(p.stem.removeprefix("bench_") for p in harness.HERE.glob("bench_*.py"))
    cases = {name: [(case, found.get(f"{name}: {case.name}")) for case in harness.load(name)] for name in files}
    machines = sorted({row["machine"] for rows in cases.values() for _, row in rows if row})
    tables = [table(name, rows) for name, rows in cases.items() if any(row for _, row in rows)]
    every = [pair for rows in cases.values() for pair in rows]
    parts = [START, "\n".join(f"Measured with {machine}." for machine in machines), NOTE, targets(every)]
    parts += [f"![Seconds over cells, for every op and its peers](figures/{FIGURE.name})", *tables, END]
    return "\n\n".join(parts)


def table(name: str, rows: list) -> str:
    """All cases of one file, a line per solver."""
    lines = [
        f"### {name}", "", importlib.import_module(f"bench_{name}").__doc__.split("\n\n")[0].strip(), "",
        "| case | solver | seconds | times the first | processor seconds | extra memory, GB |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    told = []
    for case, row in rows:
        if row is None:
            told.append(f"Not measured: {case.name}.")
            continue
        for k, (solver, x) in enumerate(row["solvers"].items()):
            processor = f"{x['processor_seconds']:.3g}" if "processor_seconds" in x else ""
            label = f"{case.name} ({row['rounds']} rounds)" if k == 0 else ""
            lines.append(
                f"| {label} | {solver} | {x['seconds']:.3g} ({x['least']:.3g} to {x['most']:.3g}) | "
                f"{x['slower']:.3g} | {processor} | {x['extra_mb'] / 1000:.3g} |"
            )
        told += [f"{case.name}: {solver} left out: {why}." for solver, why in row["missing"].items()]
        if row["check"]:
            told.append(f"{case.name}: " + "; ".join(f"{what} {x:.2g}" for what, x in row["check"].items()) + ".")
    return "\n".join(lines) + ("\n\n" + "\n".join(f"- {line}" for line in told) if told else "")


def targets(cases: list) -> str:
    """Every bound that was set beforehand, with what was found."""
    lines = ["| target | bound | found | by processor seconds | met |", "|---|---|---|---|---|"]
    for case, row in cases:
        for target in case.targets:
            value, processor = (
                reached(target, row, clock) if row else None for clock in ("seconds", "processor_seconds")
            )
            other = "" if processor in (value, None) else f"{processor:.3g}"
            sign = "≥" if target.field in AT_LEAST else "≤"
            met = "not measured" if value is None else "yes" if holds(target, value) else "**no**"
            told = "" if value is None else f"{value:.3g}"
            lines.append(f"| {case.name}: {said(target)} | {sign} {target.bound:g} | {told} | {other} | {met} |")
    return "\n".join(lines)


def said(target: harness.Target) -> str:
    """A target in words."""
    over = f"{target.solver} over {target.than or 'ours'}"
    return {
        "slower": f"seconds of {over}",
        "larger": f"extra memory of {over}",
        "seconds": f"seconds of {target.solver}",
        "extra_mb": f"extra MB of {target.solver}",
        "check": target.solver,
    }[target.field]


def reached(target: harness.Target, row: dict, clock: str = "seconds") -> float | None:
    """The figure that a target bounds, its seconds by the wall or the processor; None where it was not measured."""
    if target.field == "check":
        return row["check"].get(target.solver)
    solvers = row["solvers"]
    than = target.than or next(iter(solvers), "")
    if target.solver not in solvers or than not in solvers:
        return None
    of = {"slower": clock, "seconds": clock, "larger": "extra_mb", "extra_mb": "extra_mb"}[target.field]
    if of not in solvers[target.solver] or of not in solvers[than]:
        return None
    own = solvers[target.solver][of]
    return own / max(solvers[than][of], 1e-9) if target.field in AT_LEAST else own


def holds(target: harness.Target, value: float) -> bool:
    return value >= target.bound if target.field in AT_LEAST else value <= target.bound


def figure(found: dict) -> bytes:
    """Seconds over size, a panel for every series that has two sizes or more."""
    from metaniche.report.figures import style

    series: dict[str, dict[str, list]] = {}
    for row in found.values():
        for solver, x in row["solvers"].items():
            if row["growth"]:
                series.setdefault(row["growth"], {}).setdefault(solver, []).append((row["size"], x["seconds"]))
    drawn = {name: lines for name, lines in series.items() if max(map(len, lines.values())) > 1}
    return style.to_bytes(style.styled(panels)(drawn), "svg")


def panels(series: dict[str, dict[str, list]]) -> object:
    from metaniche.report.figures import style

    columns = 3
    rows = max(1, -(-len(series) // columns))
    drawn = style.new_figure(9.4, 2.6 * rows)
    for place, (name, lines) in enumerate(sorted(series.items()), 1):
        axes = drawn.add_subplot(rows, columns, place)
        for (solver, points), color, mark in zip(lines.items(), style.CYCLE, "osD^vPX"):
            size, seconds = zip(*sorted(points))
            axes.plot(size, seconds, color=color, marker=mark, ms=3.5, lw=1.2, label=style.plain(solver))
        axes.set(xscale="log", yscale="log", title=name, xlabel="Cells", ylabel="Seconds")
        axes.xaxis.set_major_formatter(lambda cells, _: f"{cells:,.0f}")
        axes.yaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
        axes.minorticks_off()
        axes.grid(color=style.HAIR, lw=0.6)
        axes.legend(fontsize=6.5)
    return drawn


if __name__ == "__main__":
    main()
