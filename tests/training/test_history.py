from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from metaniche.training.history import EpochHistory, collect_history, overfitted


def trainer(epoch):
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.01}])
    return SimpleNamespace(
        is_global_zero=True,
        current_epoch=epoch,
        callback_metrics={"train_loss": torch.tensor(0.5)},
        optimizers=[optimizer],
    )


def record(folder, epochs):
    history = EpochHistory(str(folder))
    history.on_train_start(trainer(epochs[0]), None)
    for epoch in epochs:
        history.on_train_epoch_start(trainer(epoch), None)
        history.on_train_epoch_end(trainer(epoch), None)


def test_a_resumed_run_repeats_no_epoch(tmp_path):
    record(tmp_path / "member0", range(4))
    record(tmp_path / "member0", range(2, 6))
    assert pd.read_csv(tmp_path / "member0/history.csv")["epoch"].tolist() == list(range(6))


def test_members_are_averaged(tmp_path):
    for member in range(2):
        record(tmp_path / f"member{member}", range(3))
    collect_history(tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["epoch"].tolist() == [0, 1, 2]
    assert (history["train_loss"] == 0.5).all()


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.9, 0.42, 0.5, 1.87], "from 0.42 (epoch 2) to 1.87"),
        ([0.9, 0.42, 0.5], None),
        ([0.9, 0.42], None),
        ([0.9, 0.001, 0.004], None),  # nearly nothing, both
        ([], None),
    ],
)
def test_a_loss_of_held_out_patients_that_ends_well_above_its_lowest_is_said(losses, words):
    said = overfitted(pd.DataFrame({"epoch": range(len(losses)), "val_loss": losses}))
    assert (words is None) == (said is None)
    assert words is None or words in said


def test_without_held_out_patients_nothing_is_said():
    assert overfitted(pd.DataFrame({"epoch": [0, 1], "train_loss": [1.0, 2.0]})) is None
