"""log_once: what every fold of a cross-validation would say again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache


@cache
def log_once(say: Callable[[str], None], text: str) -> None:
    """Calls `say`, such as `log.warning`, with `text` the first time in this process."""
    say(text)
