"""The verbs: prepare, train, evaluate, predict. A Hydra config in, files in a run folder out. May import every room."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

import hydra
from omegaconf import DictConfig, OmegaConf

from metaniche.config import check_targets
from metaniche.errors import MetanicheError
from metaniche.io.keys import RESEARCH_USE_ONLY

log = logging.getLogger(__name__)


def verb(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a command out of a function of a config: compose, check targets, run; a MetanicheError ends with one line."""

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path="pkg://metaniche.configs", config_name=name)
        def command(config: DictConfig) -> None:
            _calm_warnings()
            OmegaConf.set_readonly(config, True)
            try:
                check_targets(config)
                log.info("metaniche-%s. %s", name, RESEARCH_USE_ONLY)
                function(config)
            except MetanicheError as error:
                log.error("%s: %s", type(error).__name__, error)
                sys.exit(2)

        return command

    return decorate


def _calm_warnings() -> None:
    """Hints of the libraries below that a user of metaniche can do nothing about."""
    logging.captureWarnings(True)
    hints = (
        "does not have many workers",
        "barebones",
        "LeafSpec",
        "treespec",
        "Total length of",
        "exists and is not empty",
    )
    for message in (f".*{hint}.*" for hint in hints):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning")
