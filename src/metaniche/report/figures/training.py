"""The loss over epochs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from metaniche.report.figures.style import CYCLE, HAIR, new_figure, plain, said, styled

_RUN_COLUMNS = ("model", "seed", "repeat", "fold")


@styled
def training_curve(history: pd.DataFrame) -> Figure:
    """Training and validation loss by epoch; thin lines are single fits where there are several, thick ones the median.

    `history`: epoch, train_loss and/or val_loss; fits are told apart by model, seed, repeat and fold where given.
    """
    losses = [c for c in ("train_loss", "val_loss") if c in history and history[c].notna().any()]
    if not losses or "epoch" not in history:
        return said("No training curve: no loss was recorded.", 9.4)
    figure = new_figure(9.4, 3.3)
    axes = figure.add_subplot()
    by = [c for c in _RUN_COLUMNS if c in history and history[c].nunique() > 1]
    for loss, color, dash in zip(losses, CYCLE, ("-", (0, (5, 1.5)))):
        rows = history.dropna(subset=[loss])
        fits = [f for _, f in rows.groupby(by)] if by else []
        for fit in fits:
            axes.plot(fit["epoch"], fit[loss], color=color, lw=0.6, alpha=0.3)
        middle = rows.groupby("epoch")[loss].median()
        name = {"train_loss": "training", "val_loss": "validation"}[loss]
        label = f"{name}, median of {len(fits)} fits" if fits else name
        axes.plot(middle.index, middle, color=color, ls=dash, label=plain(label), gid=loss)
    axes.set(xlabel="Epoch", ylabel="Loss")
    axes.grid(color=HAIR, lw=0.6)
    axes.legend(loc="upper right")
    return figure
