"""The runners of clusters are thin and start."""

import json
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from elsewhere import ELSEWHERE, accelerator, kernels
from simt.machine import Machine, compiler

from metaniche.ops import use_backend

SCRIPTS = Path(__file__).parents[1] / "scripts"
BUILD = Path(__file__).parents[1] / "build" / "simt"


@pytest.mark.parametrize("verb", ["train", "sweep", "predict"])
def test_a_runner_shows_the_help_of_its_verb(verb, tmp_path):
    command = [sys.executable, str(SCRIPTS / f"{verb}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"train": "max_epochs", "sweep": "hparams_search", "predict": "coverage_floor"}[verb] in done.stdout


@pytest.mark.parametrize("verb", ["train", "sweep", "predict"])
def test_a_job_hands_its_arguments_to_the_runner(verb, tmp_path):
    """With an `srun` that says what it was asked to run."""
    (tmp_path / "srun").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "srun").chmod(0o755)
    command = ["bash", str(SCRIPTS / f"{verb}.sbatch"), "input=a b.h5ad"]
    done = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    assert said[:2] == ["python", f"scripts/{verb}.py"], done.stderr
    assert said[-1] == "input=a b.h5ad"


@pytest.fixture
def scripts(monkeypatch):
    """The scripts by name, as they find one another."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module


@pytest.fixture
def emulated():
    """A machine for kernels of more cells than most tests have."""
    if compiler() is None:
        pytest.skip("no g++ on this machine: the CUDA kernels cannot be run on the host")
    BUILD.mkdir(parents=True, exist_ok=True)
    return Machine(BUILD, seconds=300, most_switches=10**9)


# Cells of each comparison.
CELLS = {
    "neighbors": 150,
    "attention": 60,
    "attention by rows and by tiles": 60,
    "segments": 150,
    "ligands and receptors": 60,
    "sparse expression and transport": 60,
    "nulls": 150,
    "networks": 300,
    "signals between types": 60,
}


@pytest.mark.parametrize("name", CELLS)
def test_what_a_gpu_is_asked_for_runs_and_agrees_with_the_cpu(scripts, emulated, name):
    """`make gpu` has to run at the first try, wherever a GPU is found: its comparisons, of fewer cells, on an emulated one."""
    compared = scripts("gpu_parts").LARGE
    assert set(compared) == set(CELLS)
    torch.manual_seed(0)
    with kernels(emulated), use_backend("cuda"):
        assert compared[name](CELLS[name], 1) == []
    assert emulated.launched


def test_networks_that_differ_or_have_no_fixed_order_are_named(scripts, monkeypatch):
    networks = scripts("gpu_networks")
    with accelerator():
        monkeypatch.setattr(networks, "LIMIT", -1.0)
        assert any("SeedSoil of pairs, logits" in text for text in networks.compare(300, ELSEWHERE))
        monkeypatch.setattr(torch.Tensor, "square", lambda x: x.cumsum(0))
        assert all("does not have a deterministic" in text for text in networks.compare(300, ELSEWHERE))


def test_signals_that_differ_or_fail_are_named(scripts, monkeypatch):
    signals = scripts("gpu_signals")
    monkeypatch.setattr(signals, "CONFIGS", {name: signals.CONFIGS[name] for name in ("positions", "shifts")})
    monkeypatch.setattr(
        signals, "competing_signals", lambda x, types, graph, um, eps: 1 / (graph.pos_um.device.type == "cpu")
    )
    with accelerator():
        monkeypatch.setattr(signals, "LIMIT", -1.0)
        found = signals.compare(60, ELSEWHERE)
    assert "competition: ZeroDivisionError: division by zero" in found
    assert any(text.startswith("positions, score: ") for text in found)
    table = pd.DataFrame({"sender": ["a", "b"], "score": [1.0, 2.0]})
    assert signals.differences(table[:1], table) == [("rows", "1 and not 2")]
    assert signals.differences(table.assign(sender="a"), table) == [("sender", "other values")]


def test_what_a_gpu_is_asked_for_starts_without_what_its_machine_may_lack():
    """Kernels are tried on images of a cluster, which hold torch and the usual libraries, but none of the field."""
    code = f"""
import sys
sys.path[:0] = [{str(SCRIPTS)!r}, {str(SCRIPTS.parent / "tests")!r}]
for name in ("hydra", "omegaconf", "anndata", "wandb"):
    sys.modules[name] = None
import gpu_check
from metaniche.models import ARCHITECTURES
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Generator:
    """Numbers for a GPU, drawn here."""

    def __new__(cls, device, drawn=torch.Generator):
        return drawn("cpu")


class Event:
    """An event of a GPU that needs a millisecond for everything."""

    record = synchronize = lambda self: None

    def __init__(self, enable_timing):
        assert enable_timing

    def elapsed_time(self, stop):
        return 1.0


@pytest.fixture
def small_gpu(scripts, monkeypatch):
    """The benchmark with an emulated GPU's clock and memory, and as few cells, genes and pairs as will do."""
    bench, ligrec, nulls, sparse = map(scripts, ("gpu_bench", "gpu_bench_ligrec", "gpu_bench_nulls", "gpu_sparse"))
    for name in ("synchronize", "reset_peak_memory_stats", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: 0)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=132))
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(bench, "of_nvidia_smi", lambda *_, **__: "1980")
    for module, sizes in (
        (bench, {"GIB": 64, "SETS": 1, "ROUNDS": 1, "NEIGHBOURS": 5}),
        (ligrec, {"TYPES": 3, "GENES": 40, "PAIRS": 20, "HEADS": 2}),
        (nulls, {"TYPES": 3, "GENES": 40, "PAIRS": 20, "PERMUTATIONS": 50}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)
    for module, name, given in (
        (bench, "slides", (60,)),
        (nulls, "of_labels", (1.0, 60)),
        (sparse, "encoder", (1.0, 60, 50, 8)),
        (sparse, "solver", (1.0, 8)),
        (bench, "geometric", (60, 2, 8)),
    ):
        small = partial(getattr(module, name), *given)
        monkeypatch.setattr(module, name, lambda *_, small=small: small())
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: None)
    parts = scripts("gpu_parts")
    for made in (parts.copied, parts.slides, parts.graphs):
        made.cache_clear()
    return parts


def results(said):
    marked = (line.removeprefix("@result ") for line in said.splitlines() if line.startswith("@result "))
    return {found["part"]: found for found in map(json.loads, marked)}


def test_the_benchmark_of_a_gpu_measures_every_op(small_gpu, emulated, monkeypatch, capsys):
    monkeypatch.setattr("gpu_bench.flex", lambda *_: [])  # compiles
    with kernels(emulated):
        small_gpu.work([name for name in small_gpu.parts() if name.startswith("time: ")])
    found = results(capsys.readouterr().out)
    assert not any(part["error"] for part in found.values()), found
    table = "\n".join(line for part in found.values() for line in part["lines"])
    for op in ("copy", "radius", "knn", "hilbert", "segment_sum", "type_pair_sums", "received_signal", "pair_logits", "complex",
               "neighborhood_enrichment", "edge_scores_null", "moran", "cluster_means", "edge_attention bfloat16",
               "attention by tiles", "csr_encoder", "transport", "torch-geometric"):  # fmt: skip
        assert op in table


def test_a_part_that_fails_is_named_and_the_others_go_on(small_gpu, emulated, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no such clock")

    monkeypatch.setattr("gpu_bench.neighbours", broken)
    with kernels(emulated):
        small_gpu.work(["time: neighbours", "time: sums"])
    found = results(capsys.readouterr().out)
    assert found["time: neighbours"]["error"] == "RuntimeError: no such clock"
    assert found["time: sums"]["lines"][0].startswith("| segment_sum")


def test_a_process_that_lost_its_gpu_ends(small_gpu, monkeypatch, capsys):
    def illegal():
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(small_gpu, "parts", lambda: {"a": list, "b": list})
    monkeypatch.setattr(torch.cuda, "synchronize", illegal)
    with pytest.raises(SystemExit, match="3"):
        small_gpu.work(["a", "b"])
    assert list(results(capsys.readouterr().out)) == ["a"]


WORKER = """
import json, sys, time
for name in sys.argv[1:]:
    print("{noise")
    if name == "hangs":
        time.sleep(600)
    if name == "dies":
        sys.exit(7)
    if name == "torn":
        print("@result {", flush=True)
    print("@result " + json.dumps({"part": name, "lines": [name.upper()], "error": ""}), flush=True)
    if name == "loses":
        sys.exit(3)
"""


def test_a_part_that_hangs_or_ends_its_process_does_not_stop_the_others(scripts, monkeypatch):
    check = scripts("gpu_check")
    monkeypatch.setattr(check, "PART_SECONDS", 5)
    command = [sys.executable, "-c", WORKER]
    names = ["a", "dies", "b", "hangs", "c", "torn", "loses", "d"]
    found = list(check.supervised(names, check.elapsed() + 300, command))
    assert [r.part for r in found] == names
    assert [r.part for r in found if not r.lines] == ["dies", "hangs"]
    assert "ended with 7" in found[1].error
    assert "too long" in found[3].error
    over = list(check.supervised(["a"], check.elapsed() - 1, command))
    assert over[0].error == "not begun, the time was over"


MEMCHECK = "========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: {} errors\n"
CASES = '@result {{"part": "small cases", "lines": {}, "error": ""}}\n'


@pytest.mark.parametrize(
    ("text", "code", "clean"),
    [
        (CASES.format("[]") + MEMCHECK.format(0), 0, True),
        (CASES.format("[]") + MEMCHECK.format(2), 9, False),
        (CASES.format('["x differs"]') + MEMCHECK.format(0), 0, False),
        (MEMCHECK.format(0), 1, False),
        (CASES.format("[]"), 0, False),
        (CASES.format("[]") + MEMCHECK.format(0), None, False),
    ],
)
def test_a_sanitizer_is_believed_only_when_the_cases_came_to_their_end(scripts, text, code, clean):
    assert (scripts("gpu_check").verdict("memcheck", text, code, 1.0).error == "") == clean


def test_what_a_gpu_showed_is_written_whatever_fails(scripts, monkeypatch, tmp_path):
    check = scripts("gpu_check")
    result = check.Result

    def supervised(names, until):
        if names[0].startswith("time: "):
            yield result("time: sums", ["| a row |"], "")
            yield result("time: FlexAttention", [], "no compiler")
            yield result("time: attention", [], "out of clocks")
        else:
            yield result("kernels", ["all loaded"], "")
            yield result("check: nulls", ["moran differs"], "")

    for name, does in {
        "cuda_status": lambda: (True, "sm_90"),
        "heading": lambda why: [f"# On {why}"],
        "supervised": supervised,
        "sanitizers": lambda: iter([result("memcheck", ["memcheck: 1 error"], "exit code 9")]),
    }.items():
        monkeypatch.setattr(check, name, does)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "results.md")])
    with pytest.raises(SystemExit) as stopped:
        check.main()
    assert str(stopped.value).splitlines() == [
        "check: nulls: moran differs", "time: attention: out of clocks", "memcheck: exit code 9"
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["results.md"]
    written = (tmp_path / "results.md").read_text()
    parts = ("# On sm_90", "all loaded", "failures: 1", "- nulls: moran differs", "| a row |", "- FlexAttention: not measured",
             "- memcheck: 1 error")  # fmt: skip
    places = [written.index(part) for part in parts]
    assert places == sorted(places)


def test_without_a_gpu_what_is_known_of_one_stays(scripts, monkeypatch, tmp_path):
    (tmp_path / "results.md").write_text("as measured")
    monkeypatch.setattr(scripts("gpu_check"), "cuda_status", lambda: (False, "torch sees no GPU"))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "results.md")])
    with pytest.raises(SystemExit, match="No CUDA kernel can run here: torch sees no GPU"):
        scripts("gpu_check").main()
    assert (tmp_path / "results.md").read_text() == "as measured"


LISTING = """
.section	.text.first,"ax",@progbits
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   ISETP.GE.AND P0, PT, R0, 0x4, PT ;
.L_x_0:
        /*0020*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0030*/               @P0 FFMA R6, R4, R5, R6 ;
        /*0040*/              @!P1 BRA `(.L_x_0) ;
        /*0050*/              @!P0 BRA `(.L_x_1) ;
        /*0060*/                   EXIT ;
.L_x_2:
        /*0070*/                   BRA `(.L_x_2);
.section	.text.second,"ax",@progbits
        /*0000*/                   EXIT ;
"""


def test_inner_loops_are_read_from_machine_code(scripts):
    script = scripts("machine_code")
    first, second = (script.instructions(listing) for listing in script.kernels(LISTING).values())
    assert len(first[0]) == 8
    assert script.inner_loops(*first) == [["LDG.128", "FFMA", "BRA"]]
    assert script.inner_loops(*second) == []


def test_without_a_disassembler_the_remedy_is_named(scripts, monkeypatch, tmp_path):
    script = scripts("machine_code")
    monkeypatch.setattr(script.sysconfig, "get_path", lambda _: tmp_path)
    monkeypatch.setattr(script.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match="pip install nvidia-cuda-nvdisasm"):
        script.disassembler()
