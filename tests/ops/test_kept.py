import gc
from types import SimpleNamespace

import torch

from metaniche.ops.kept import kept


def test_made_once_a_graph_and_forgotten_with_it():
    calls = []

    @kept
    def edges(indptr, indices, more=0):
        """How many."""
        calls.append(indices)
        return indices.numel() + int(indices.sum()) + more

    indptr, indices = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0], dtype=torch.int32)
    assert edges(indptr, indices) == edges(indptr, indices) == 4
    assert len(calls) == 1
    indices[2] = 1
    assert edges(indptr, indices) == 5
    assert edges(indptr.clone(), indices) == 5
    assert edges(indptr, indices, 2) == edges(indptr, indices, 2) == 7
    assert len(calls) == 4
    assert edges.__doc__ == "How many."
    calls.clear()
    del indices
    gc.collect()
    assert len(edges.known) == 0


def test_a_tensor_that_tells_nothing_of_writes_is_never_trusted():
    total = kept(lambda indptr, indices: int(indices.sum()))
    indptr = torch.tensor([0, 2])
    with torch.inference_mode():
        indices = torch.tensor([1, 2])
        assert total(indptr, indices) == 3
        indices[0] = 5
        assert total(indptr, indices) == 7
        assert total(indptr.clone(), torch.tensor([4])) == 4


def test_on_a_gpu_a_result_is_of_its_stream_and_none_is_kept_of_a_graph(monkeypatch):
    calls, now = [], {"stream": 1, "captures": False}
    build = kept(lambda indptr, indices: calls.append(now["stream"]) or len(calls))

    class OnGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: now["captures"])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=now["stream"]))
    given = torch.tensor([0]), torch.tensor([1]).as_subclass(OnGpu)
    assert build(*given) == build(*given) == 1
    now["captures"] = True
    assert build(*given) == 2
    now["captures"] = False
    assert build(*given) == 1
    now["stream"] = 2
    assert build(*given) == build(*given) == 3


def test_nothing_at_all_is_kept_as_well():
    calls = []
    nothing = kept(lambda indptr, indices: calls.append(1))
    indptr, indices = torch.tensor([0]), torch.empty(0, dtype=torch.int32)
    assert nothing(indptr, indices) is nothing(indptr, indices) is None
    assert len(calls) == 1
