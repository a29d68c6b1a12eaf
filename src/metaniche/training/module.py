"""NetworkModule: one network, one task, Lightning's loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from metaniche.data.batch import Batch
from metaniche.data.task import Task
from metaniche.errors import TrainingError
from metaniche.models import MIL, MILOutput
from metaniche.training.losses import cell_loss, cox_loss, discrete_time_loss, masked_binary_loss

WARM_UP = 0.1  # share of the steps in which the learning rate rises


class NetworkModule(pl.LightningModule):
    """Trains `network` on `task`.

    Parameters
    ----------
    network, task
        What is trained, on which question.
    optimizer
        Parameters -> Optimizer.
    seed
        Dropout is re-seeded at each batch from (seed, batch, rank), so that a resumed run repeats an uninterrupted one.
    survival_labels
        (U, 2) time and event of all training units, for Cox: every step sees the full risk set, with the latest known
        risk (no gradient) of units that are not in its batch.
    bin_edges
        Inner edges of the intervals, for discrete time.
    """

    def __init__(
        self,
        network: MIL,
        task: Task,
        optimizer: Callable[[Iterable], Optimizer],
        *,
        seed: int = 0,
        survival_labels: Tensor | None = None,
        bin_edges: Iterable[float] = (),
    ) -> None:
        super().__init__()
        self.network, self.task, self.make_optimizer, self.seed = network, task, optimizer, seed
        if task.level == "cell":  # its loss is of cells alone
            network.pool.stay_uniform()
        labels = torch.zeros(0, 2) if survival_labels is None else survival_labels
        self.register_buffer("survival_labels", labels)
        self.register_buffer("latest_risk", torch.zeros(len(labels)))
        self.register_buffer("bin_edges", torch.tensor(list(bin_edges), dtype=torch.float32))

    def forward(self, batch: Batch) -> MILOutput:
        return self.network(*batch.tissue)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seed_batch(self, self.seed, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        out = self(batch)
        loss = self._training_loss(out, batch)
        if out.penalty is not None:
            loss = loss + out.penalty
        self._stop_unless_finite(loss, batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.index), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        # A single patient has no risk set, so Cox has no validation loss.
        if self.task.kind != "cox":
            loss = self._loss(self(batch), batch)
            self.log("val_loss", loss, on_epoch=True, batch_size=len(batch.index), sync_dist=True)

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer(self.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = LambdaLR(optimizer, lambda step: _warm_up_then_cosine(step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _training_loss(self, out: MILOutput, batch: Batch) -> Tensor:
        if self.task.kind != "cox":
            return self._loss(out, batch)
        own = out.bag_logits[:, 0].float()
        risk = self.latest_risk.clone()
        risk[batch.index] = own
        index, latest = self.all_gather(batch.index).flatten(), self.all_gather(own.detach()).flatten()
        self.latest_risk[index] = latest
        return cox_loss(risk, self.survival_labels[:, 0], self.survival_labels[:, 1])

    def _loss(self, out: MILOutput, batch: Batch) -> Tensor:
        if self.task.level == "cell":
            return cell_loss(out.cell_logits[:, 0].float(), batch.cell_target, batch.bag_ptr)
        logits = out.bag_logits.float()
        if self.task.kind == "discrete_time":
            time, event, *competing = batch.target.unbind(1)
            return discrete_time_loss(logits, time, event, self.bin_edges, *competing)
        return masked_binary_loss(logits, batch.target)

    def _stop_unless_finite(self, loss: Tensor, batch: Batch) -> None:
        """Every rank stops when any rank's loss is not finite; otherwise training would go on with NaN weights."""
        bad = self.all_gather((~torch.isfinite(loss.detach())).to(torch.int32))
        if int(bad.sum()):
            raise TrainingError(
                f"Expected a finite loss, found {float(loss.detach())} on rank {self.global_rank} at step {self.global_step} "
                f"(units {batch.index.tolist()}). Lower the learning rate or use trainer.precision=32-true; the last "
                "checkpoint is intact."
            )


def seed_batch(module: pl.LightningModule, seed: int, batch_idx: int) -> None:
    """Random numbers of this batch, also where the gradients of several are accumulated to one step."""
    number = module.current_epoch * int(module.trainer.num_training_batches) + batch_idx
    torch.manual_seed(hash((seed, number, module.global_rank)) % 2**63)


def _warm_up_then_cosine(progress: float) -> float:
    if progress < WARM_UP:
        return 0.1 + 0.9 * progress / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1.0 - WARM_UP)))) + 1e-3
