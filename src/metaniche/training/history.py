"""EpochHistory: a line per epoch in a csv, kept across a kill and a resume."""

from __future__ import annotations

import time
from pathlib import Path

import lightning.pytorch as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback

from metaniche.io.run_files import HISTORY
from metaniche.io.write import write_csv

OVERFITTED, LEAST_RISE = 1.25, 0.05  # times the lowest loss of held-out patients, and above it


class EpochHistory(Callback):
    """Appends epoch, losses, learning rate and seconds to `folder/history.csv`.

    Epochs from the one a resumed run starts with are dropped first, so that no epoch stands twice.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / HISTORY
        self._started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.path.exists():
            rows = pd.read_csv(self.path)
            self._write(rows[rows["epoch"] < trainer.current_epoch])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row = {"epoch": trainer.current_epoch, **{k: float(v) for k, v in sorted(trainer.callback_metrics.items())}}
        row |= {
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(time.monotonic() - self._started, 3),
        }
        past = [pd.read_csv(self.path)] if self.path.exists() else []
        self._write(pd.concat([*past, pd.DataFrame([row])]))

    def _write(self, rows: pd.DataFrame) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows, self.path, index=False)


def collect_history(run_dir: Path) -> pd.DataFrame | None:
    """Mean over members of their histories, also as `run_dir/history.csv`; None where there are none."""
    parts = [pd.read_csv(p) for p in sorted(run_dir.glob(f"member*/{HISTORY}"))]
    if not parts:
        return None
    mean = pd.concat(parts).groupby("epoch", as_index=False).mean()
    write_csv(mean, run_dir / HISTORY, index=False)
    return mean


def overfitted(history: pd.DataFrame) -> str | None:
    """In words, where the loss of held-out patients ends well above its lowest: training longer made it worse there.

    It chooses nothing: weights are those of the last epoch, else the held-out patients would no longer be held out.
    """
    loss = history.get("val_loss", pd.Series(dtype=float)).dropna()
    if loss.empty or loss.iloc[-1] <= max(OVERFITTED * loss.min(), loss.min() + LEAST_RISE):
        return None
    best = int(history.loc[loss.idxmin(), "epoch"]) + 1
    return (
        f"the loss of held-out patients rose from {loss.min():.2f} (epoch {best}) to {loss.iloc[-1]:.2f}: the network is surer "
        "than it should be. Fewer epochs (trainer.max_epochs), chosen by metaniche-sweep, or calibrate= and members= help."
    )
