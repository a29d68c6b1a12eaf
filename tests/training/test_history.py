from types import SimpleNamespace

import pandas as pd
import torch

from metaniche.training.history import EpochHistory, collect_history


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
