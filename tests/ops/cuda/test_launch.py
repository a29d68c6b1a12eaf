import pytest
import torch

from metaniche.errors import KernelError
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two, use_machine
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

KERNEL = Kernel("k", "k", (Array("x", torch.float32, ("n",)), Scalar("n")))


class Recorder:
    def __init__(self):
        self.seen = []

    def run(self, kernel, defines, blocks, arguments):
        self.seen.append((kernel.name, dict(defines), blocks, len(arguments)))


@pytest.fixture
def machine():
    recorder = Recorder()
    with use_machine(recorder):
        yield recorder


def test_a_checked_launch_reaches_the_machine(machine):
    launch(KERNEL, {"A": 1}, 3, torch.zeros(5), 5)
    launch(KERNEL, {}, (3, 2), torch.zeros(5), 5)
    assert machine.seen == [("k", {"A": 1}, (3, 1), 2), ("k", {}, (3, 2), 2)]


def test_nothing_runs_without_blocks_or_with_wrong_arguments(machine):
    launch(KERNEL, {}, (0, 4), torch.zeros(0), 0)
    with pytest.raises(KernelError, match="5 elements"):
        launch(KERNEL, {}, 1, torch.zeros(4), 5)
    with pytest.raises(KernelError, match="Split the call"):
        launch(KERNEL, {}, (1, 70_000), torch.zeros(5), 5)
    assert machine.seen == []


def test_blocks_hold_all_items():
    assert [blocks_for(n, 8) for n in (0, 1, 8, 9)] == [0, 1, 1, 2]


def test_the_next_power_of_two():
    assert [power_of_two(n) for n in (0, 1, 2, 3, 8, 9, 16)] == [1, 1, 2, 4, 8, 16, 16]
