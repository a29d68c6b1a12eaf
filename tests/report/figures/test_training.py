import numpy as np
import pandas as pd

from metaniche.report.figures.training import training_curve


def _history(**columns):
    return pd.DataFrame({"epoch": np.arange(4), **columns})


def _line(figure, name):
    return next(line for line in figure.axes[0].lines if line.get_gid() == name)


def test_losses_are_drawn_as_they_are():
    figure = training_curve(_history(train_loss=[4.0, 3, 2, 1], val_loss=[4.0, 4, 4, 4]))
    assert _line(figure, "train_loss").get_ydata().tolist() == [4, 3, 2, 1]
    assert _line(figure, "train_loss").get_xdata().tolist() == [1, 2, 3, 4]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["training", "validation"]


def test_a_validation_loss_that_was_never_computed_is_not_drawn():
    figure = training_curve(_history(train_loss=[1.0] * 4, val_loss=[np.nan] * 4))
    assert len(figure.axes[0].lines) == 1


def test_nothing_recorded_says_so():
    assert "No training curve" in training_curve(_history()).axes[0].texts[0].get_text()
    assert "No training curve" in training_curve(pd.DataFrame({"train_loss": [1.0]})).axes[0].texts[0].get_text()
