"""The plan of the house, held by the syntax tree of every file: who may import whom, and which line lives where."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metaniche.ops.cuda.compile import texts

SOURCE = Path(__file__).parents[1] / "src" / "metaniche"
FILES = sorted(SOURCE.rglob("*.py"))

# Left to right: a room imports only from rooms to its left, or of itself. Rooms in one row do not see each other.
ORDER = [
    {"errors"},
    {"ops", "io", "metrics"},
    {"graph"},
    {"signaling"},
    {"nn", "data"},
    {"models", "annotate", "communicate", "clones"},
    {"predict", "communicate_anndata"},
    {"training", "explain"},
    {"evaluation"},
    {"report"},
    {"config", "pp", "tl", "pl"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

NAMES_ONLY = ("errors.py", "io/keys.py")  # nothing in them that could be wrong

# A module may be imported only by files whose path starts so.
LIVES_IN = {
    "lightning": ("training/", "cli/", "config.py"),
    "hydra": ("config.py", "cli/"),
    "omegaconf": ("config.py", "cli/"),
    "h5py": ("io/",),
    "zarr": ("io/",),
    "spatialdata": ("io/",),
    "anndata": (
        "io/", "graph/", "data/cohort.py", "data/prepare.py", "data/synthetic.py", "annotate.py", "communicate_anndata.py",
        "predict.py", "report/", "pp.py", "tl.py", "pl.py",
    ),
    "safetensors": ("models/bundle.py", "models/encoder.py", "data/cache.py"),
    "matplotlib": ("report/", "pl.py"),
    "wandb": ("config.py",),
    "pickle": (),
    "liana": ("signaling/readers.py",),
    "optuna": ("evaluation/search.py", "evaluation/heartbeat.py"),
    "cuda": ("ops/cuda/",),
}  # fmt: skip
# An attribute may be used only there.
CALLED_IN = {
    ("torch", "load"): ("training/checkpoint.py",),
    ("torch", "save"): ("training/checkpoint.py",),
    ("nn", "Module"): ("nn/", "models/"),
    ("torch", "library"): ("ops/",),
}


def relative(path):
    return path.relative_to(SOURCE).as_posix()


def room_of(module):
    """'metaniche.graph.build' -> 'graph'."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imports(tree):
    """(module, under TYPE_CHECKING) of every import in a file."""
    checking = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in checking) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names] if base == "metaniche" else [base]
            yield from ((name, id(node) in checking) for name in names)


@pytest.fixture(params=FILES, ids=relative, scope="module")
def file(request):
    return relative(request.param), ast.parse(request.param.read_text())


def test_rooms_import_only_from_the_left(file):
    path, tree = file
    own = path.split("/")[0].removesuffix(".py")
    if own == "__init__":
        return
    for module, type_only in imports(tree):
        room = room_of(module) if module.startswith("metaniche") else None
        if room in (None, own, "__version__") or type_only:
            continue
        assert RANK[room] < RANK[own], f"{path} imports {module}: {room} is not to the left of {own}"


def test_a_line_knows_its_room(file):
    path, tree = file
    for module, _ in imports(tree):
        allowed = LIVES_IN.get(module.split(".")[0])
        assert allowed is None or path.startswith(allowed or "-"), f"{path} imports {module}; it lives in {allowed}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            allowed = CALLED_IN.get((node.value.id, node.attr))
            assert allowed is None or path.startswith(allowed), f"{path} uses {node.value.id}.{node.attr}"


def test_no_forbidden_words(file):
    path, tree = file
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec", "__import__"), f"{path}:{node.lineno}"
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} checks input with assert"


CSRC = sorted((SOURCE / "csrc").rglob("*.*"))
# A word of native code may stand only in files whose path below csrc starts so.
NATIVE_WORDS = {
    "__global__": ("cuda/",),
    "<<<": (),  # kernels are launched by ops/cuda/launch.py
    "__shfl": ("cuda/",),
    "omp": ("cpu/",),
    "nanobind": ("cpu/",),
    "m.def": ("cpu/arrays.h", "cpu/module.cpp"),  # all others are made by `def`, which converts no array
    "torch/": (),
    "cooperative_groups": (),
    "cub/": (),
}


@pytest.mark.parametrize("path", [p for p in CSRC if p.suffix in (".cu", ".h", ".cpp")], ids=lambda p: p.name)
def test_a_native_line_knows_its_room(path):
    """common/ is plain C++ for both, cuda/ has neither torch nor CCCL, cpu/ alone knows Python and OpenMP."""
    place, text = path.relative_to(SOURCE / "csrc").as_posix(), path.read_text()
    code = re.sub(r"//.*", "", text)
    for word, allowed in NATIVE_WORDS.items():
        used = re.search(rf"(?<![A-Za-z]){re.escape(word)}(?![a-z])", code)
        assert not used or place.startswith(allowed or "-"), f"csrc/{place} says {word}"
    assert len(text.splitlines()) <= 410, f"csrc/{place} cannot be read in one sitting"


@pytest.mark.parametrize("path", [p for p in CSRC if p.suffix == ".cu"], ids=lambda p: p.name)
def test_a_kernel_includes_nothing_that_nvrtc_would_have_to_find(path):
    for place, text in texts(path.stem).items():
        headers = re.findall(r"#include (.+)", text)
        assert all(h.startswith(('"common/', '"cuda/')) for h in headers), f"csrc/{place} includes {headers}"


def test_every_cuda_source_has_its_op_and_is_told_apart_by_one_word():
    ops = {path.stem for path in (SOURCE / "ops" / "cuda").glob("*.py")}
    sources = {path.stem for path in CSRC if path.suffix == ".cu"}
    assert sources - ops == {"nearest_few"}, (
        "a .cu file has its host side under the same name; nearest_few.cu is of nearest.py"
    )


def test_files_and_functions_can_be_read_in_one_sitting(file):
    path, tree = file
    lines = len((SOURCE / path).read_text().splitlines())
    assert lines <= 400, f"{path} has {lines} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 80, f"{path}: {node.name} has {length} lines"


def test_every_file_has_its_test(file):
    path, _ = file
    if Path(path).name == "__init__.py" or path in NAMES_ONLY:
        return
    room = Path(path.replace("ops/reference/", "ops/"))  # one op, one contract, one test
    test = Path(__file__).parent / room.parent / f"test_{room.name}"
    assert test.exists(), f"{path} has no {test.relative_to(Path(__file__).parents[1])}"


def test_every_room_says_what_comes_in_and_out(file):
    path, tree = file
    if Path(path).name == "__init__.py" or path.count("/") == 0:
        assert ast.get_docstring(tree), f"{path} does not say what it is for"


def loaded(imported, heavy):
    """Those of `heavy` that a fresh Python has in memory after it imported these modules, and what it complained of."""
    code = f"import sys, {imported}; print(' '.join(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.split(), done.stderr


def test_import_is_light():
    """`import metaniche`, `pp` and `tl` pull none of the heavy libraries; `pl` draws, and needs matplotlib."""
    heavy = ("torch", "lightning", "hydra", "matplotlib", "wandb", "anndata", "sklearn", "torch_geometric")
    assert loaded("metaniche, metaniche.pp, metaniche.tl", heavy) == ([], "")


def test_predict_needs_neither_lightning_nor_hydra():
    assert loaded("metaniche.predict", ("lightning", "hydra", "torch_geometric")) == ([], "")


@pytest.mark.parametrize("verb", ["communicate", "predict", "prepare"])
def test_a_verb_that_does_not_train_starts_without_what_trains(verb):
    assert loaded(f"metaniche.cli.{verb}", ("lightning", "torch_geometric", "torch._dynamo")) == ([], "")
