"""log_once: what every fold of a cross-validation would say again."""

from __future__ import annotations

import logging
from functools import cache


@cache
def log_once(log: logging.Logger, level: int, text: str) -> None:
    """Says `text` the first time in this process."""
    log.log(level, text)
