"""TumourDataModule: bags in, batches out, for Lightning's loop."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from metaniche.data.batch import Bag
from metaniche.data.sampling import EpochSampler, SamplingConfig, WholeBags, WindowBatches
from metaniche.data.splits import check_split


class TumourDataModule(pl.LightningDataModule):
    """Training bags as freshly drawn windows, validation bags whole. `hops` is how far the network hears in the graph.

    `train_patients` and `val_patients` name the patient of each sample; a patient on both sides is refused (SplitError).
    """

    def __init__(
        self,
        train: Sequence[Bag],
        val: Sequence[Bag],
        *,
        train_patients: Sequence[str],
        val_patients: Sequence[str],
        sampling: SamplingConfig,
        seed: int,
        hops: int,
    ) -> None:
        super().__init__()
        if len(val_patients):
            check_split(train_patients, val_patients)
        self.train, self.val, self.sampling, self.seed, self.hops = train, val, sampling, seed, hops

    def train_dataloader(self) -> DataLoader:
        return self.train_batches(*(self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1))

    def train_batches(self, rank: int, world: int, hops: int | None = None) -> DataLoader:
        """The share of one of `world` processes; `hops` where another network than that of the labels is to be trained."""
        hops = self.hops if hops is None else hops
        batches = WindowBatches(self.train, self.sampling, self.seed, rank, world, hops=hops)
        return DataLoader(batches, batch_size=None, sampler=EpochSampler(len(batches)))

    def val_dataloader(self) -> DataLoader | list:
        return DataLoader(WholeBags(self.val), batch_size=None) if self.val else []
