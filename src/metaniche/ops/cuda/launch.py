"""One launch: the arguments are checked, then a machine runs the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from metaniche.errors import KernelError
from metaniche.ops.cuda.specs import Argument, Defines, Kernel

MOST_BLOCKS = (2**31 - 1, 65_535)


class Machine(Protocol):
    """Whoever runs a kernel: a GPU through its driver, or the host emulation of the tests."""

    def run(self, kernel: Kernel, defines: Defines, blocks: tuple[int, int], arguments: Sequence[Argument]) -> None: ...


_machine: ContextVar[Machine | None] = ContextVar("machine", default=None)


@contextmanager
def use_machine(machine: Machine) -> Iterator[None]:
    """Run the launches inside on another machine than the GPU that holds the tensors."""
    token = _machine.set(machine)
    try:
        yield
    finally:
        _machine.reset(token)


def launch(kernel: Kernel, defines: Defines, blocks: int | tuple[int, int], *arguments: Argument) -> None:
    """Check `arguments` against the spec and run `blocks` blocks of the kernel specialised by `defines`.

    Raises
    ------
    KernelError
        When an argument is not what the kernel expects, or the machine cannot run it.
    """
    grid = blocks if isinstance(blocks, tuple) else (blocks, 1)
    if 0 in grid:
        return
    if any(found > most for found, most in zip(grid, MOST_BLOCKS)):
        raise KernelError(f"Expected at most {MOST_BLOCKS} blocks of {kernel.name}, found {grid}. Split the call.")
    kernel.check(defines, arguments)
    machine = _machine.get()
    if machine is None:
        from metaniche.ops.cuda.driver import gpu

        machine = gpu()
    machine.run(kernel, defines, grid, arguments)


def blocks_for(items: int, a_block: int) -> int:
    """Blocks that hold `items`, `a_block` in each."""
    return -(-items // a_block)


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n; 1 for less."""
    return 1 << (max(n, 1) - 1).bit_length()
