"""The harness of `make bench` on toy cases: who is measured, who is named as missing, and what the tables say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TOY = """
import subprocess
import time

from harness import Case, Target


def quick(given):
    return sum(given["numbers"])


def slow(given):
    time.sleep(0.05)
    return quick(given)


def hungry(given):
    return b"x" * 50_000_000


def starts(given):
    subprocess.Popen(["sleep", "2"], stdout=subprocess.DEVNULL)


def absent(given):
    import a_peer_that_is_not_installed


def same(given):
    return {"difference": abs(quick(given) - slow(given))}


def fails(given):
    raise ValueError("does not fit")


sizes = []


def counts(given):
    sizes.append(len(given["numbers"]))
    if sizes[0] != 1 or 1 in sizes[1:]:
        raise ValueError(f"warmed up with {sizes}")


def first(given):
    return {"numbers": given["numbers"][:1]}


solvers = {"ours": quick, "counts": counts, "slow": slow, "hungry": hungry, "starts": starts, "absent": absent, "broken": fails}
targets = (
    Target("slow", "slower", 2), Target("slow", "slower", 1e9), Target("hungry", "extra_mb", 1),
    Target("difference", "check", 0.1), Target("absent", "slower", 2), Target("hungry", "larger", 2, than="slow"),
)
CASES = [
    Case(f"{n} numbers", lambda n=n: {"numbers": range(n)}, solvers, 3, "sums", n, same, targets, first) for n in (10, 20)
]
"""


@pytest.fixture(scope="module")
def harness():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import harness

        yield harness


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with the harness and one toy file, after a run of it: (folder, what it printed, results)."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("harness.py", "table.py"):
        (folder / name).write_text((BENCHMARKS / name).read_text())
    (folder / "bench_toy.py").write_text('"""Sums of numbers."""\n' + TOY)
    done = subprocess.run([sys.executable, folder / "harness.py", "toy"], capture_output=True, text=True, check=True)
    return folder, done.stdout, json.loads((folder / "results.json").read_text())


def test_solvers_are_timed_beside_each_other(toy):
    _, _, results = toy
    row = results["toy: 10 numbers"]
    assert row["rounds"] == 3
    assert set(row["solvers"]) == {"ours", "counts", "slow", "hungry", "starts"}
    ours, _, slow, hungry, starts = row["solvers"].values()
    assert ours["slower"] == 1
    assert slow["seconds"] >= 0.05
    assert slow["slower"] == pytest.approx(slow["seconds"] / ours["seconds"], rel=0.01)
    assert slow["processor_seconds"] < slow["seconds"]
    assert "processor_seconds" not in starts
    assert hungry["extra_mb"] > 40 > slow["extra_mb"]
    assert row["check"] == {"difference": 0}


def test_who_cannot_run_is_left_out_by_name_and_reason(toy):
    _, printed, results = toy
    missing = results["toy: 20 numbers"]["missing"]
    assert set(missing) == {"absent", "broken"}
    assert "a_peer_that_is_not_installed" in missing["absent"]
    assert "does not fit" in missing["broken"]
    assert "toy: 20 numbers: absent left out: No module named" in printed


def test_a_run_of_one_size_keeps_what_was_measured_before(toy):
    folder, _, before = toy
    command = [sys.executable, folder / "harness.py", "--most-cells", "10", "--rounds", "1"]
    subprocess.run(command, capture_output=True, check=True)
    after = json.loads((folder / "results.json").read_text())
    assert after["toy: 10 numbers"]["rounds"] == 1
    assert after["toy: 20 numbers"] == before["toy: 20 numbers"]


def test_tables_and_figure_are_written_between_the_markers(toy):
    folder, _, _ = toy
    code = """
import sys, pathlib, table
table.PAGE, table.FIGURE = pathlib.Path("page.md"), pathlib.Path("growth.svg")
table.PAGE.write_text(f"above\\n{table.START}\\nstale\\n{table.END}\\nbelow\\n")
table.main()
first = table.PAGE.read_text()
table.main()
assert table.PAGE.read_text() == first
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    page = (folder / "page.md").read_text()
    assert page.startswith("above\n<!--")
    assert page.endswith("-->\nbelow\n")
    assert "stale" not in page
    assert "Sums of numbers." in page
    assert "| 20 numbers (3 rounds) | ours |" in page
    assert "20 numbers: absent left out" in page
    for line, met in {
        "seconds of slow over ours | ≥ 2 |": "yes", "seconds of slow over ours | ≥ 1e+09 |": "**no**",
        "extra MB of hungry | ≤ 1 |": "**no**", "difference | ≤ 0.1 |": "yes",
        "seconds of absent over ours | ≥ 2 |": "not measured", "extra memory of hungry over slow | ≥ 2 |": "yes",
    }.items():  # fmt: skip
        row = next(x for x in page.splitlines() if line in x and x.startswith("| 20 numbers"))
        assert row.endswith(f"| {met} |")
    assert (folder / "growth.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("bench_*.py")), ids=lambda p: p.stem)
def test_cases_load_where_no_peer_is_installed(file):
    code = f"""
import sys
for peer in ("squidpy", "liana", "commot", "torch_geometric", "sklearn", "scipy"):
    sys.modules[peer] = None
import harness
cases = harness.load({file.stem.removeprefix("bench_")!r})
assert cases and len({{case.name for case in cases}}) == len(cases)
for case in cases:
    assert case.rounds >= 3 and case.size > 0, case.name
    assert {{t.solver for t in case.targets if t.field != "check"}} <= set(case.solvers), case.name
    assert {{t.than for t in case.targets}} <= {{"", *case.solvers}}, case.name
"""
    subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def test_every_growth_series_has_sizes_to_compare(harness):
    sizes = {}
    for file in BENCHMARKS.glob("bench_*.py"):
        for case in harness.load(file.stem.removeprefix("bench_")):
            sizes.setdefault(case.growth, set()).add(case.size)
    sizes.pop(None)
    assert all(len(found) > 1 for found in sizes.values())


def test_a_peer_that_cannot_be_installed_is_named_and_the_others_are_installed(harness, monkeypatch, capsys):
    import install_peers

    asked, pins = [], []

    def pip(command, check):
        packages = command[command.index("--constraint") + 2 :]
        asked.append(packages)
        pins.append(Path(command[command.index("--constraint") + 1]).read_text())
        return subprocess.CompletedProcess(command, int(any("liana" in p for p in packages)))

    monkeypatch.setattr(subprocess, "run", pip)
    install_peers.main()
    assert capsys.readouterr().out == "liana>=1.5 cannot be installed and is left out.\n"
    assert asked[0] == ["torch"]
    assert asked[1][-2:] == ["--editable", str(BENCHMARKS.parent)]
    assert ["squidpy>=1.8"] in asked[3:]
    assert "torch==" in pins[0]
    assert "dateutil" not in pins[0]
