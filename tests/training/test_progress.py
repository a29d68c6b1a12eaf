import logging
from types import SimpleNamespace

import torch

from metaniche.training.progress import EpochProgress


def test_a_log_gets_a_line_per_epoch_and_only_from_the_first_process(caplog):
    trainer = SimpleNamespace(
        is_global_zero=True, max_epochs=3, current_epoch=1, callback_metrics={"train_loss": torch.tensor(0.25)}
    )
    progress = EpochProgress()
    with caplog.at_level(logging.INFO):
        progress.on_train_start(trainer, None)
        progress.on_train_epoch_end(trainer, None)
        trainer.is_global_zero = False
        progress.on_train_epoch_end(trainer, None)
    assert [r.message.split("  ")[:2] for r in caplog.records] == [["epoch 2/3", "train_loss 0.2500"]]


def test_a_line_says_which_of_several_networks_it_is_of(caplog):
    trainer = SimpleNamespace(is_global_zero=True, max_epochs=3, current_epoch=0, callback_metrics={})
    progress = EpochProgress("member0 of 2")
    with caplog.at_level(logging.INFO):
        progress.on_train_start(trainer, None)
        progress.on_train_epoch_end(trainer, None)
    assert caplog.messages[0].startswith("member0 of 2  epoch 1/3")
