"""Self-supervised pretraining: cells whose features are hidden, in part or as a whole, are to be told from the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from metaniche.data.batch import Batch
from metaniche.errors import ConfigError
from metaniche.graph import CellGraph
from metaniche.models.encoder import Encoder
from metaniche.models.mil import MIL
from metaniche.ops import csr_encoder
from metaniche.training.datamodule import TumourDataModule
from metaniche.training.module import seed_batch

log = logging.getLogger(__name__)

LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class PretrainConfig:
    """What precedes training on labels.

    Parameters
    ----------
    epochs
        Passes over the training units' cells, labels unseen; 0: none.
    hidden
        Share of a cell's features that is hidden.
    alone
        Share of cells of which all features are hidden: only the neighbours tell of them.
    signals
        Weight of a second task, for networks that hear pairs: what is left of a cell is to tell which ligands and receptors its
        neighbours have; 0: none.
    freeze
        The encoder stays as pretraining left it; only what stands on it learns from labels.
    encoder
        One that was pretrained elsewhere, to start from.
    """

    epochs: int = 0
    hidden: float = 0.3
    alone: float = 0.2
    signals: float = 0.0
    freeze: bool = False
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        shares = 0 < self.hidden < 1 and 0 <= self.alone < 1 and 0 <= self.signals < float("inf")
        if not isinstance(self.epochs, int) or self.epochs < 0 or not shares:
            raise ConfigError(
                "Expected pretrain.epochs >= 0, 0 < pretrain.hidden < 1, 0 <= pretrain.alone < 1 and pretrain.signals >= 0, "
                f"found {self.epochs!r}, {self.hidden}, {self.alone} and {self.signals}."
            )
        if self.signals and not self.epochs:
            raise ConfigError("pretrain.signals without pretraining: set pretrain.epochs.")
        if self.freeze and not self.epochs and self.encoder is None:
            raise ConfigError("pretrain.freeze=true without pretraining: set pretrain.epochs or pretrain.encoder.")


class HiddenFeatures(pl.LightningModule):
    r"""Trains `embed` to tell hidden features: :math:`\hat x_i = f(h_i, \langle h_j \rangle_j)`, squared error where hidden.

    With h the embedding of what is left of a cell, averaged over its neighbours in the graph; f is thrown away afterwards. With
    `config.signals` the ligands and receptors of its neighbours, on average and standardised, are to be told from h_i too.
    """

    def __init__(self, network: MIL, config: PretrainConfig, seed: int, n_signals: int = 0) -> None:
        super().__init__()
        self.embed, self.config, self.seed = network.embed, config, seed
        width, n_features = network.embed[0].weight.shape
        self.tell = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, n_features))
        self.hear = nn.Linear(width, n_signals) if n_signals else None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        seed_batch(self, self.seed, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return sum(self.errors(batch))

    def errors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean squared error of the hidden features, and of the neighbours' signals times their weight; the first, and the
        second over its weight, are about 1 for a network that tells the mean."""
        x, graph = batch.x, batch.graph
        hidden = torch.rand_like(x) < self.config.hidden
        hidden |= torch.rand(len(x), 1, device=x.device) < self.config.alone
        own = self.embed(x.masked_fill(hidden, 0.0))
        around = _around(own, graph)
        told = self.tell(torch.cat((own, around), dim=1))
        if batch.inside is not None:  # what stands around the halo is not there
            hidden &= batch.inside[:, None]
        of_features = (told - x).square()[hidden].mean()
        if self.hear is None:
            return of_features, torch.zeros_like(of_features)
        near = _around(batch.signals, graph)
        if batch.inside is not None:
            near, own = near[batch.inside], own[batch.inside]
        near = (near - near.mean(0)) / near.std(0).clamp(min=1e-4)
        return of_features, self.config.signals * (self.hear(own) - near).square().mean()

    def configure_gradient_clipping(self, *_: object, **__: object) -> None:
        """Squared errors of standardised features need none, whatever the Trainer says of training on labels."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


def _around(x: Tensor, graph: CellGraph) -> Tensor:
    """(N, D) mean of the neighbours, a product of the graph with x: nothing is E x D; zeros without neighbours."""
    total = csr_encoder(graph.indptr, graph.indices, torch.ones_like(graph.distance_um), x)
    return total / graph.indptr.diff().clamp(min=1)[:, None]


def pretrain(
    network: MIL,
    data: TumourDataModule,
    config: PretrainConfig,
    make_trainer: Callable[[None, int], pl.Trainer],
    seed: int,
) -> tuple[float, float]:
    """Pretrain `network.embed` on the training units of `data`; labels are not looked at.

    `make_trainer(None, epochs)` makes the Trainer, which keeps nothing. Returns the error of the hidden features in the first
    training batch, before and after.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n_signals = next(iter(data.train_batches(0, 1))).signals.shape[1] if config.signals else 0
        if config.signals and not n_signals:
            log.warning("pretrain.signals has nothing to tell: the network hears no pairs, or none is measured.")
        module = HiddenFeatures(network, config, seed, n_signals)
        before = _error(module, data, seed)
        trainer = make_trainer(None, config.epochs)
        share = trainer.global_rank, trainer.world_size
        trainer.fit(module, train_dataloaders=data.train_batches(*share, hops=1))
        return before, _error(module, data, seed)


@torch.no_grad()
def _error(module: HiddenFeatures, data: TumourDataModule, seed: int) -> float:
    torch.manual_seed(seed)
    module.eval()
    found = float(module.errors(next(iter(data.train_batches(0, 1, hops=1))))[0])
    module.train()
    return found
