"""EpochProgress: a progress bar on a terminal, a line per epoch in a log."""

from __future__ import annotations

import logging
import sys
import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


class EpochProgress(Callback):
    """Shows epochs done, the losses, and the time left; only the first process of a distributed run speaks.

    `label` stands before every line: which of several networks it is.
    """

    def __init__(self, label: str = "") -> None:
        self.label = f"{label}  " if label else ""
        self._progress: Progress | None = None
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns)
        self._progress.start()
        self._task = self._progress.add_task(
            f"{self.label}training", total=trainer.max_epochs, completed=trainer.current_epoch
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        losses = "  ".join(f"{k} {float(v):.4f}" for k, v in sorted(trainer.callback_metrics.items()))
        if self._progress is not None:
            self._progress.update(
                self._task, completed=trainer.current_epoch + 1, description=f"{self.label}training  {losses}"
            )
        else:
            elapsed = time.monotonic() - self._started
            done = trainer.current_epoch + 1
            log.info("%sepoch %d/%d  %s  %.0f s", self.label, done, trainer.max_epochs, losses, elapsed)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
