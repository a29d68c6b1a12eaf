"""The loss over epochs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from metaniche.report.figures.style import CYCLE, HAIR, new_figure, said, styled


@styled
def training_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch. `history`: epoch (from 0; drawn from 1), train_loss and/or val_loss."""
    losses = [c for c in ("train_loss", "val_loss") if c in history and history[c].notna().any()]
    if not losses or "epoch" not in history:
        return said("No training curve: no loss was recorded.", 9.4)
    figure = new_figure(9.4, 3.3)
    axes = figure.add_subplot()
    for loss, color, dash in zip(losses, CYCLE, ("-", (0, (5, 1.5)))):
        label = {"train_loss": "training", "val_loss": "validation"}[loss]
        axes.plot(history["epoch"] + 1, history[loss], color=color, ls=dash, label=label, gid=loss)
    axes.set(xlabel="Epoch", ylabel="Loss")
    axes.grid(color=HAIR, lw=0.6)
    axes.legend(loc="upper right")
    return figure
