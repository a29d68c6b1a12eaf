"""console: prints tables to the terminal, names as they are written."""

from __future__ import annotations

import sys

from rich.console import Console


def console(width: int | None = None) -> Console:
    """`width` columns where no terminal is. Markup is off: names of cell types, genes and extras hold brackets and colons."""
    return Console(width=None if sys.stdout.isatty() else width, soft_wrap=width is None, markup=False, emoji=False)
