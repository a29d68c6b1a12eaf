import ast
import logging
from importlib import import_module
from pathlib import Path
from threading import Thread

import pytest
import torch

from metaniche import ops
from metaniche.errors import ConfigError, KernelError
from metaniche.ops import backend as room
from metaniche.ops import segment_softmax, segment_sum, use_backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_backend_asked_for_runs_and_the_old_one_returns():
    with use_backend("reference"):
        assert room.choose("segment_sum", CPU) == "reference"
        with use_backend("cpu"):
            assert room.choose("segment_sum", CPU) == "cpu"
        assert room.choose("segment_sum", CPU) == "reference"


def test_the_environment_decides_for_a_process(monkeypatch):
    with use_backend("auto"):
        token = room._wanted.set(None)
        monkeypatch.setenv(room.VARIABLE, "reference")
        assert room.choose("segment_sum", CPU) == "reference"
        monkeypatch.setenv(room.VARIABLE, "gpu")
        with pytest.raises(ConfigError, match=r"METANICHE_BACKEND.*'gpu'"):
            room.choose("segment_sum", CPU)
        room._wanted.reset(token)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="'fast'"), use_backend("fast"):
        pass


def test_a_backend_that_cannot_run_says_why_and_never_falls_back(monkeypatch):
    with use_backend("cuda"), pytest.raises(KernelError, match="found cpu"):
        room.choose("segment_sum", CPU)
    monkeypatch.setattr(room, "_load", lambda: (None, "not built: no C++ compiler"))
    with use_backend("cpu"), pytest.raises(KernelError, match="no C\\+\\+ compiler"):
        room.choose("segment_sum", CPU)


def test_auto_says_once_which_implementation_ran_and_why(monkeypatch, caplog):
    monkeypatch.setattr(room, "_told", set())
    monkeypatch.setattr(room, "_load", lambda: (None, "not built: no C++ compiler"))
    with caplog.at_level(logging.INFO), use_backend("auto"):
        assert room.choose("segment_sum", CPU) == "reference"
        assert room.choose("segment_sum", CPU) == "reference"
    assert [r.getMessage() for r in caplog.records] == ["segment_sum runs on reference (not built: no C++ compiler)"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("1 GiB"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        KernelError("CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)
def test_what_does_not_fit_on_a_gpu_runs_on_the_cpu_and_says_so(error, caplog):
    def run(device):
        if device == CUDA:
            raise error
        return device

    assert room.where_it_fits(run, CUDA, "A slide") == CPU
    assert "A slide does not fit into the memory of cuda: done on the CPU." in caplog.text
    assert room.where_it_fits(run, CPU, "A slide") == CPU


@pytest.mark.parametrize(
    ("device", "error"), [(CUDA, RuntimeError("shapes differ")), (CPU, RuntimeError("out of memory"))]
)
def test_what_fails_otherwise_or_on_the_cpu_fails(device, error):
    with pytest.raises(RuntimeError, match=str(error)):
        room.where_it_fits(lambda _: (_ for _ in ()).throw(error), device, "A slide")


def modules():
    """Those of the instruction sets that this processor has."""
    names = list(room.MODULES.values())
    best = room.MODULES.get(torch.backends.cpu.get_cpu_capability(), "_cpu_baseline")
    return names[names.index(best) :]


@pytest.mark.parametrize("name", modules())
def test_every_instruction_set_gives_the_same(name, monkeypatch):
    """Which one runs is the processor's choice: the others would be tried on no machine that has the best."""
    module = pytest.importorskip(f"metaniche.{name}")
    monkeypatch.setattr(room, "_load", lambda: (module, name))
    generator = torch.Generator().manual_seed(0)
    n, heads, width = 700, 2, 12
    ptr = torch.tensor([0, 300, n])
    q, k, v = torch.rand(3, n, heads, width, generator=generator)
    found = {}
    for backend in ("reference", "cpu"):
        with use_backend(backend):
            for dim in (2, 3):
                pos = torch.rand(n, dim, generator=torch.Generator().manual_seed(dim)) * 60
                pos[::7] = pos[::7].round()
                searches = {
                    "radius": ops.radius_neighbors(pos, ptr, 9.0),
                    "ring": ops.radius_neighbors(pos, ptr, 30.0, inner_um=5.0),
                    "thinned": ops.radius_neighbors(pos, ptr, 40.0, max_per_cell=9, seed=3),
                    "nearest": ops.knn_neighbors(pos, ptr, 19),
                }
                found |= {(backend, dim, what): edges for what, edges in searches.items()}
            indptr, indices, distance = found["reference", 2, "nearest"]
            bias = distance[:, None].expand(-1, heads).contiguous()
            found[backend, "attention"] = ops.edge_attention(q, k, v, indptr, indices, bias, torch.zeros(heads))
            found[backend, "sum"] = ops.segment_sum(distance, indptr)
    for (backend, *what), result in found.items():
        expected = found["reference", *what]
        if isinstance(result, tuple):
            assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True)), (backend, what)
        else:
            torch.testing.assert_close(result, expected)


def test_native_code_runs_with_the_threads_of_torch():
    seen = []
    module, _ = room._load()
    if module is None:
        pytest.skip("the native CPU backend was not built")

    class Spy:
        def set_threads(self, n):
            seen.append(n)

    original = room._load
    room._load = lambda: (Spy(), "")
    try:
        torch.set_num_threads(2)
        room.native()
    finally:
        room._load = original
        torch.set_num_threads(1)
    assert seen == [2]


def test_every_name_that_an_op_asks_for_is_in_the_table():
    asked = {
        node.args[0].value
        for path in Path(room.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("choose", "runner")
        if isinstance(node.args[0], ast.Constant)
    }
    assert asked | {"segment_sum", "segment_max", "segment_softmax", "delaunay_neighbors"} == set(room.NATIVE)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(room, "cuda_status", lambda *_: (True, "driver for CUDA 13.0, sm_90"))


def test_on_a_gpu_auto_takes_the_kernels_or_says_why_not(gpu, monkeypatch):
    assert room.best("edge_attention", CUDA) == ("cuda", "")
    assert room.best("delaunay_neighbors", CUDA) == ("reference", "no native code for cuda")
    assert room.best("edge_attention", CUDA, "no kernel for float64") == ("reference", "no kernel for float64")
    monkeypatch.setattr(room, "cuda_status", lambda *_: (False, "cuda-bindings is not installed"))
    assert room.best("edge_attention", CUDA) == ("reference", "cuda-bindings is not installed")


def test_backend_cuda_raises_where_it_cannot_run(gpu, monkeypatch):
    with use_backend("cuda"):
        assert room.choose("edge_attention", CUDA) == "cuda"
        with pytest.raises(KernelError, match=r"CUDA backend cannot run edge_attention: no kernel for float64"):
            room.choose("edge_attention", CUDA, "no kernel for float64")
        with pytest.raises(KernelError, match=r"cannot run delaunay_neighbors: no native code for cuda"):
            room.choose("delaunay_neighbors", CUDA)
        monkeypatch.setattr(room, "cuda_status", lambda *_: (False, "torch sees no GPU"))
        with pytest.raises(KernelError, match="torch sees no GPU"):
            room.choose("edge_attention", CUDA)


def test_rows_that_lie_apart_are_not_copied_and_others_are():
    x = torch.arange(24.0).reshape(4, 2, 3)
    apart = x[:, :, :3].unflatten(0, (2, 2))[:, 0]
    assert room.dense_rows(apart)[0].data_ptr() == apart.data_ptr()
    mixed = x.transpose(1, 2)
    assert room.dense_rows(mixed)[0].is_contiguous()
    assert room.dense_rows(x.requires_grad_())[0].requires_grad is False


@pytest.mark.parametrize(
    "changes",
    [
        {"x": torch.ones(3, 2, dtype=torch.float16)},
        {"indptr": torch.tensor([0, 1, 3], dtype=torch.int32)},
        {"out": torch.zeros(2, 2, dtype=torch.float64)},
        {"out": torch.zeros(2, 2).t()},
    ],
    ids=["a half", "narrow pointers", "a wide output", "a turned output"],
)
def test_native_code_refuses_what_it_would_have_to_copy(changes):
    """What is written into a converted copy would be lost."""
    module = room.native()
    if module is None:
        pytest.skip("no native code here")
    given = {"x": torch.ones(3, 2), "indptr": torch.tensor([0, 1, 3]), "out": torch.zeros(2, 2)}
    module.segment_sum(*given.values())
    assert given["out"].tolist() == [[1, 1], [2, 2]]
    with pytest.raises(TypeError, match="incompatible function arguments"):
        module.segment_sum(*(given | changes).values())


@pytest.mark.parametrize("name", ["gpu", "CPU", "meta", "cpu:3", 3.5, "cuda:99"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(ConfigError, match="Set device=cpu" if name == "cuda:99" else "auto, cpu, cuda or cuda:1"):
        room.device_of(name)


@pytest.mark.parametrize("ready", [True, False])
def test_auto_is_the_gpu_where_kernels_can_run(monkeypatch, ready):
    monkeypatch.setattr(room, "cuda_status", lambda *_: (ready, "why"))
    assert room.device_of("auto").type == ("cuda" if ready else "cpu")
    assert room.device_of("cpu") == room.device_of(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_the_backward_pass_runs_on_the_backend_of_the_forward(backend, monkeypatch):
    """Also in a thread of autograd's own, which a context variable does not reach."""
    said = []
    monkeypatch.setattr(
        import_module("metaniche.ops.segment"), "choose", lambda *_: said.append(room.wanted()) or "reference"
    )
    x = torch.rand(5, 2, requires_grad=True)
    with use_backend(backend):
        out = segment_sum(segment_softmax(x, torch.tensor([0, 3, 5])), torch.tensor([0, 2, 5])).sum()
    thread = Thread(target=out.backward)
    thread.start()
    thread.join()
    assert x.grad is not None
    assert set(said) == {backend}
    assert len(said) > 2


def test_a_second_backward_pass_raises_instead_of_giving_zeros():
    floats = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    ptr, indices, pair = torch.tensor([0, 1, 2]), torch.tensor([1, 0]).int(), torch.tensor([0, 1]).int()
    q, none = floats.view(2, 1, 2), torch.zeros(2, 1, dtype=torch.float64)
    for call in (
        lambda: ops.edge_attention(q, q, q, ptr, indices, none, none[0]),
        lambda: ops.pair_logits(floats, floats, floats, pair, pair, ptr, indices),
        lambda: ops.csr_encoder(ptr, indices, floats[0], floats.detach()),
        lambda: ops.csr_encoder(ptr, indices, floats[0].detach(), floats),
    ):
        (slope,) = torch.autograd.grad(call().square().sum(), floats, create_graph=True)
        assert slope.isfinite().all()
        with pytest.raises(KernelError, match="differentiable once"):
            slope.square().sum().backward()
