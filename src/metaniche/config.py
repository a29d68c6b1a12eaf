"""Hydra configs -> metaniche's objects. A config may name only what the table below allows; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.data.features import FeatureConfig
from metaniche.data.prepare import PreparedCohort, prepare
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig
from metaniche.models import ARCHITECTURES
from metaniche.training.fit import FitConfig

# Config group -> the classes its files may name in `_target_`. Groups that are not here may name none.
ALLOWED = {
    "model": {f"metaniche.models.{name}" for name in ARCHITECTURES},
    "optim": {"torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD"},
    "trainer": {
        "lightning.pytorch.Trainer",
        "lightning.pytorch.plugins.environments.SLURMEnvironment",
        "lightning.pytorch.strategies.DDPStrategy",
    },
    "callbacks": {
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.callbacks.LearningRateMonitor",
        "metaniche.training.history.EpochHistory",
        "metaniche.training.progress.EpochProgress",
    },
    "logger": {
        "lightning.pytorch.loggers.WandbLogger",
    },
}

# metaniche-evaluate has no one model.
SEVERAL_NETWORKS = (
    "metaniche-evaluate compares several networks: choose them by networks=[...]; model.KEY=VALUE sets KEY in every one of "
    "them that has it."
)

T = TypeVar("T")


def check_targets(config: DictConfig) -> None:
    """Refuse any `_target_` outside ALLOWED, before anything is imported. Raises ConfigError."""
    for path, target in _targets(OmegaConf.to_container(config, resolve=False)):
        group = path.split(".")[0]
        if target not in ALLOWED.get(group, ()):
            raise ConfigError(
                f"`{path}` names {target!r}, which is not allowed in the group {group!r}. "
                f"Allowed there: {sorted(ALLOWED.get(group, ())) or 'nothing'}."
            )


def load_group(group: str, name: str, config: DictConfig) -> DictConfig:
    """One file of a config group, resolved against `config` (for recipes that name several models)."""
    folder = Path(str(resources.files("metaniche.configs"))) / group
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(f"Expected {group} to be one of {names}, found {name!r}.{nearest(name, names)}")
    base = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    base[group] = OmegaConf.load(folder / f"{name}.yaml")
    part = OmegaConf.create(OmegaConf.to_container(base[group], resolve=True))
    check_targets(OmegaConf.create({group: part}))
    return part


def build(cls: type[T], values: Mapping[str, Any] | None, where: str) -> T:
    """A dataclass out of plain values. Raises ConfigError for an unknown key, with the nearest name, for a value of another
    type than the field's, and for a key that is missing."""
    values = dict(values or {})
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in values:
        if key not in fields:
            raise ConfigError(f"Unknown key `{where}.{key}`.{nearest(key, list(fields))} Known: {', '.join(fields)}.")
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [f"{where}.{name}" for name in required if name not in values]
    if missing:
        raise ConfigError(f"`{where}` is incomplete: expected {', '.join(missing)}, found {sorted(values)}. Add it.")
    hints = get_type_hints(cls)
    for key, value in values.items():
        check_type(f"{where}.{key}", value, hints[key])
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def check_type(where: str, value: Any, hint: Any) -> Any:
    """`value`, if it is of the type that a field's annotation asks for. Raises ConfigError with key and value if not.

    Only what a config can hold is told apart: numbers, texts, truth values, lists, tables, and nothing.
    """
    wanted = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if not any(_is_a(value, get_origin(kind) or kind) for kind in wanted):
        words = " or ".join(_WORDS[get_origin(kind) or kind] for kind in wanted)
        raise ConfigError(f"Expected `{where}` to be {words}, found {value!r}. Give {where}=... another value.")
    return value


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Sequence: "a list",
    dict: "a table",
    Mapping: "a table",
    NoneType: "null",
}


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind is Sequence:
        return isinstance(value, list | tuple)
    return kind not in _WORDS or isinstance(value, kind)


def nearest(name: str, known: Sequence[str]) -> str:
    """' Did you mean ...?', or nothing."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def plain(config: DictConfig | Mapping | None) -> dict:
    """Plain dictionaries and lists with every reference resolved."""
    return OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else dict(config or {})


def open_cohort(config: DictConfig) -> PreparedCohort:
    """Read and prepare the cohort of `config.data` with the graph of `config.graph`; what is prepared already is reused."""
    graph = build(GraphConfig, plain(config.graph), "graph")
    return prepare(read_cohort(config), graph, Path(config.paths.cache))


def read_cohort(config: DictConfig) -> Cohort:
    """The cohort of `config.data`, not yet prepared."""
    values = {k: v for k, v in plain(config.data).items() if k not in ("source", "features", "sampling")}
    source = plain(config.data).get("source")
    kind = set(source) if isinstance(source, dict) else None
    if kind == {"synthetic"}:
        from metaniche.data.synthetic import SyntheticConfig, generate

        others = sorted(values.keys() - {"name"})
        if others:
            raise ConfigError(
                "Expected only data.name, data.features and data.sampling beside data.source.synthetic, found "
                f"{', '.join(f'data.{key}' for key in others)}. Leave out what synthetic tumours bring along."
            )
        return generate(build(SyntheticConfig, source["synthetic"], "data.source.synthetic")).cohort()
    cohort = build(CohortConfig, values, "data")
    if kind == {"dataset"}:
        return Cohort.from_dataset(source["dataset"], cohort)
    if kind == {"samples", "patients"}:
        return Cohort.from_manifest(Path(source["samples"]), Path(source["patients"]), cohort)
    raise ConfigError(
        "Expected `data.source` to be {dataset: NAME}, {samples: TABLE, patients: TABLE} or {synthetic: {...}}, found "
        f"{source!r}. data=manifest is the form for a cohort of your own."
    )


def read_task(config: DictConfig) -> Task:
    """The task of `config.task`."""
    return build(Task, plain(config.task), "task")


def network_config(config: DictConfig, name: str) -> FitConfig:
    """The fit of one of `config.networks`: its file, with the keys of `config.model` that it has.

    Raises ConfigError for a key that none of the networks has, so that no wish is passed over in silence.
    """
    files = {n: plain(load_group("model", n, config)) for n in {name, *config.networks}}
    wishes = {k: v for k, v in plain(config.model).items() if v is not None}
    if wishes.keys() & {"name", "_target_"}:
        raise ConfigError(f"Expected no model= beside networks=, found {wishes.get('name')!r}. {SEVERAL_NETWORKS}")
    for key in wishes:
        if not any(key in values for values in files.values()):
            known = sorted({k for values in files.values() for k in values} - {"name", "_target_"})
            raise ConfigError(
                f"Expected a key of networks={list(config.networks)}, found `model.{key}`, which none of them has."
                f"{nearest(key, known)} They have: {', '.join(known)}."
            )
    return fit_config(config, files[name] | {k: v for k, v in wishes.items() if k in files[name]})


def fit_config(config: DictConfig, model: Mapping | None = None) -> FitConfig:
    """Everything a network's training needs, for `config.model` or another model of the same group."""
    check_targets(config)
    values = plain(model if model is not None else config.model)
    values.pop("name", None)
    architecture = values.pop("_target_").rsplit(".", 1)[-1]
    return FitConfig(
        architecture=architecture,
        parameters=values,
        features=build(FeatureConfig, plain(config.data).get("features"), "data.features"),
        sampling=build(SamplingConfig, plain(config.data).get("sampling"), "data.sampling"),
        epochs=check_type("trainer.max_epochs", config.trainer.max_epochs, int),
        members=check_type("members", config.members, int),
        pool=config.pool,
        use_clinical=check_type("use_clinical", config.use_clinical, bool),
        optimizer=instantiate(config.optim),
        num_workers=check_type("num_workers", config.num_workers, int),
    )


def trainer_factory(config: DictConfig):
    """folder -> a Trainer of `config.trainer` with the config's callbacks and loggers writing into that folder."""
    check_targets(config)
    return partial(_trainer, config)


def _trainer(config: DictConfig, folder: Path | None):
    from metaniche.training.checkpoint import AtomicCheckpointIO

    trainer = plain(config.trainer)
    if trainer.get("barebones"):
        return instantiate(trainer)
    plugins = [instantiate(plugin) for plugin in trainer.pop("plugins", [])]
    if folder is None:  # a fold of a cross-validation keeps nothing
        kept = dict.fromkeys(("enable_checkpointing", "logger", "enable_progress_bar"), False)
    else:
        plugins.insert(0, AtomicCheckpointIO())
        kept = {
            "callbacks": _callbacks(config, folder),
            "logger": [instantiate(logger) for logger in plain(config.logger).values()] or False,
            "default_root_dir": str(folder),
        }
    return instantiate(trainer, **kept, plugins=plugins or None, _convert_="all")


def _callbacks(config: DictConfig, folder: Path) -> list:
    callbacks = OmegaConf.create(OmegaConf.to_container(config.callbacks, resolve=False))
    for callback, key in (("checkpoint", "dirpath"), ("history", "folder")):
        if callback in callbacks:
            callbacks[callback][key] = str(folder)
    return [instantiate(callback) for callback in callbacks.values()]


def _targets(node: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(node, dict):
        own = [(path, str(node["_target_"]))] if "_target_" in node else []
        return own + [hit for k, v in node.items() for hit in _targets(v, f"{path}.{k}".lstrip("."))]
    if isinstance(node, list):
        return [hit for i, v in enumerate(node) for hit in _targets(v, f"{path}.{i}")]
    return []
