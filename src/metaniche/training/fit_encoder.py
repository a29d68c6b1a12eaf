"""fit_encoder: prepared samples -> an encoder that was pretrained on their cells, labelled or not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from metaniche.data.features import Features
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.data.units import make_bags
from metaniche.errors import ConfigError
from metaniche.models import ARCHITECTURES
from metaniche.models.encoder import SEEN, Encoder, seen
from metaniche.training.datamodule import TumourDataModule
from metaniche.training.fit import FitConfig, TrainerFactory, fit_pairs, quiet_trainer
from metaniche.training.pretrain import pretrain

log = logging.getLogger(__name__)


def fit_encoder(
    samples: Sequence[PreparedSample],
    task: Task,
    config: FitConfig,
    *,
    make_trainer: TrainerFactory | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Encoder:
    """Pretrain on all cells of `samples`, for `FitConfig.pretrain.encoder` of other cohorts; `task` says what a unit is, no
    label is looked at. Raises ConfigError for pretrain.epochs=0.
    """
    if not config.pretrain.epochs:
        raise ConfigError("Expected pretrain.epochs of at least 1 to pretrain an encoder, found 0.")
    features = Features.fit(samples, config.features, seed)
    if features.basis is not None:
        raise ConfigError(
            "Expected features that other tissue has too, found principal components, which are of this fit alone: no other "
            "run could start from the encoder. Set data.features.n_components=0."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[config.architecture](n_features=len(features.names), n_outputs=1, **config.parameters)
    pairs = fit_pairs(config, samples, features.library) if config.pretrain.signals else None
    bags = make_bags(samples, features, task, pairs=pairs)
    data = TumourDataModule(
        bags, [], train_patients=[s.patient_id for s in samples], val_patients=[],
        sampling=config.sampling, seed=seed, hops=network.hops,
    )  # fmt: skip
    if config.pretrain.encoder is not None:
        config.pretrain.encoder.give_to(network, features.names, features.basis)
    before, after = pretrain(network, data, config.pretrain, make_trainer or quiet_trainer, seed)
    log.info("Pretrained %d epochs: error of hidden features %.2f, then %.2f", config.pretrain.epochs, before, after)
    made = {"seed": seed, "epochs": config.pretrain.epochs, "error_before": before, "error_after": after}
    made |= {SEEN: seen(samples, str((about or {}).get("cohort", "")))}
    made |= {"n_samples": len(samples), "n_cells": sum(s.n_cells for s in samples), **(about or {})}
    return Encoder(features.names, network.embed.state_dict(), made, features.basis)
