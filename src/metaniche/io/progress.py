"""How far long work has come: a bar on a terminal; in a log, a line about every ten per cent."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType

from rich import progress

log = logging.getLogger(__name__)

Tell = Callable[[int, int, str], None]  # (done, total, text)


class Progress:
    """A context whose value is called as `tell(done, total, text)`.

    Parameters
    ----------
    shown
        False: says nothing (other processes of a distributed run, callers that asked for silence).
    """

    def __init__(self, shown: bool = True) -> None:
        self._shown, self._last, self._bar = shown, -1, None

    def __enter__(self) -> Progress:
        if self._shown and sys.stdout.isatty():
            self._bar = progress.Progress(
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.description}", markup=False),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, done: int, total: int, text: str = "") -> None:
        tenth = 10 * done // max(total, 1)
        if tenth < self._last:  # other work has begun
            self._last = -1
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif self._shown and tenth > self._last:
            self._last = tenth
            log.info("%d/%d  %s", done, total, text)
