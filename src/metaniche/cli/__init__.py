"""The verbs, a file each: a Hydra config in, files in a run folder out. May import every room."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import resources

# Large tensors on large pages, a few times faster to come by. torch reads it once, when it is loaded.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from metaniche.config import check_targets
from metaniche.errors import ConfigError, MetanicheError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.io.wording import nearest

log = logging.getLogger(__name__)

# What to type instead of an override that one verb knows and another does not.
INSTEAD = {
    (
        "evaluate",
        "model",
    ): "metaniche-evaluate compares networks: networks=[niche_gin]; +model.width=64 changes their width.",
}
# What to do after an interruption.
AGAIN = {
    "": "The same command goes on from there.",
    "predict": "The same command with overwrite=true makes all of it again.",
}
FILLED_LATER = ("callbacks",)  # by the run that uses them


def verb(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a command out of a function of a config: compose, check targets, run; a mistake ends with one line."""

    def decorate(function: Callable[[DictConfig], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path="pkg://metaniche.configs", config_name=name)
        def command(config: DictConfig) -> None:
            _calm_warnings()
            of_many = HydraConfig.get().mode == RunMode.MULTIRUN
            if of_many and "run_dir" in config.get("paths", {}):  # -m: every job has its own folder
                config.paths.run_dir = HydraConfig.get().runtime.output_dir
            OmegaConf.set_readonly(config, True)
            try:
                check_targets(config)
                check_complete(config, name)
                log.info("metaniche-%s. %s", name, RESEARCH_USE_ONLY)
                function(config)
            except MetanicheError as error:
                log.error("%s: %s", type(error).__name__, error)
                sys.exit(2)

        @functools.wraps(command)
        def worded() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hand errors on instead of printing them
            try:
                command()
            except HydraException as error:
                sys.stderr.write(f"ConfigError: {explain(error, name, sys.argv[1:])}\n")
                sys.exit(2)
            except KeyboardInterrupt:
                sys.stderr.write(f"Stopped. What is written stays. {AGAIN.get(name, AGAIN[''])}\n")
                sys.exit(130)
            except BrokenPipeError:
                if not {"--help", "-h", "--cfg", "-c", "--info", "-i"} & set(sys.argv):
                    raise
                # Of `--help | head`; the last flush at exit would meet it again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)

        return worded

    return decorate


def about(name: str) -> str:
    """What a command does and its own keys, as its config file words them; $ doubled for Hydra's template of --help."""
    text = (resources.files("metaniche.configs") / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if line != "defaults:" and not line.startswith("  - ")]
    return "\n".join(lines).removeprefix(f"# metaniche-{name}: ").replace("$", "$$")


OmegaConf.register_new_resolver("metaniche.about", about, replace=True)


def check_complete(config: DictConfig, name: str) -> None:
    """Raise ConfigError, with the command to type, where a value that only the user can give is missing."""
    missing = sorted(k for k in OmegaConf.missing_keys(config) if k.split(".")[0] not in FILLED_LATER)
    if missing:
        command = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"Give a value to {', '.join(missing)}: metaniche-{name} {command}")


def explain(error: HydraException, name: str, overrides: Sequence[str]) -> str:
    """What is wrong with the command line; an unknown key comes with the nearest one that there is."""
    if isinstance(error, OverrideParseException):
        if re.fullmatch(r"[\w./-]+", error.override):
            groups = [
                f"{group}={error.override}" for group in ("experiment", "task", "data") if _has(group, error.override)
            ]
            hint = f"Did you mean {' or '.join(groups)}? " if groups else ""
            return (
                f"Cannot read `{error.override}`: settings are key=value. {hint}metaniche-{name} --help lists the keys."
            )
        return (
            f"Cannot read `{error.override}`. A value that holds a space, =, a comma, a bracket or a quote needs quotes of its "
            f"own inside those of the shell: 'key=\"a b=c.h5ad\"'."
        )
    found = re.search(r"Could not override '([^']+)'", str(error))
    if found is None:
        return str(error).split("Config search path")[0].strip()
    key = found[1].split("@")[0].replace("/", ".")
    instead = INSTEAD.get((name, key.split(".")[0]))
    if instead:
        return f"`{key}` cannot be set so. {instead}"
    others = [o for o in overrides if "=" in o and o.lstrip("+~").split("=")[0].replace("/", ".") != key]
    known = _known_keys(name, others) or _known_keys(name, [])
    return f"Unknown key `{key}`. {nearest(key, known)}metaniche-{name} --help lists the keys."


def _has(group: str, choice: str) -> bool:
    return (resources.files("metaniche.configs") / group / f"{choice}.yaml").is_file()


def _known_keys(name: str, overrides: list[str]) -> list[str]:
    """Every key of the config that these overrides make; none where they make none."""
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_module("metaniche.configs", version_base="1.3"):
            config = hydra.compose(name, overrides)
    except HydraException:
        return []
    return _keys(OmegaConf.to_container(config, resolve=False))


def _keys(node: object, path: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    return [k for key, value in node.items() for k in (f"{path}{key}", *_keys(value, f"{path}{key}."))]


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
