"""Hydra configs -> metaniche's objects. A config may name only what the table below allows; an unknown key is an error."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from metaniche.data.cohort import Cohort, CohortConfig
from metaniche.data.features import FeatureConfig
from metaniche.data.gene_sets import read_gene_sets
from metaniche.data.organs import OrganProfiles, check_organs, read_organs
from metaniche.data.prepare import PreparedCohort, prepare
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig
from metaniche.io.settings import build
from metaniche.io.wording import nearest
from metaniche.models import ARCHITECTURES
from metaniche.models.encoder import Encoder
from metaniche.signaling import Resource, SignalConfig, open_resource

if TYPE_CHECKING:  # Lightning takes longer to load than all else: verbs that do not train start without it
    from metaniche.training.fit import FitConfig
    from metaniche.training.pretrain import PretrainConfig

log = logging.getLogger(__name__)

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
    """One file of a config group, resolved against `config` (for recipes that name several models).

    What `config` itself says in that group, such as +model.width=64 of metaniche-evaluate, replaces the file's values
    where the file has the key.
    """
    folder = Path(str(resources.files("metaniche.configs"))) / group
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(f"Expected {group} to be one of {names}, found {name!r}. {nearest(name, names)}".rstrip())
    base = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    base[group] = OmegaConf.merge(OmegaConf.load(folder / f"{name}.yaml"), _own_changes(config, group, folder, name))
    part = OmegaConf.create(OmegaConf.to_container(base[group], resolve=True))
    check_targets(OmegaConf.create({group: part}))
    return part


def _own_changes(config: DictConfig, group: str, folder: Path, name: str) -> dict:
    """The keys of the group that `config` sets and the file `name` has. Raises ConfigError for one that no file has."""
    own = config.get(group) or {}
    if not isinstance(own, Mapping):
        raise ConfigError(f"Expected settings in `{group}`, found {own!r}. To choose networks: networks=[{own}].")
    if "_target_" in own:
        raise ConfigError(
            f"Expected settings in `{group}`, found all of {own.get('name')!r}. To choose networks: "
            f"networks=[{own.get('name')}]."
        )
    known = {path.stem: set(OmegaConf.load(path)) for path in folder.glob("*.yaml")}
    searched = OmegaConf.select(config, "hparams_search.space.network.choices", default=None) or ()
    chosen = sorted({name, config.get("network"), *config.get("networks", ()), *searched} & set(known))
    every = sorted(set().union(*(known[n] for n in chosen)) - {"name", "_target_"})
    for key in own:
        if key not in every:
            raise ConfigError(
                f"Unknown key `{group}.{key}` of {', '.join(chosen)}. {nearest(key, every)}Known: {', '.join(every)}."
            )
    return {key: value for key, value in own.items() if key in known[name]}


# Settings of a Trainer that a run may change and go on; any other makes other weights.
BESIDE_THE_WEIGHTS = (
    "_target_", "max_epochs", "barebones", "log_every_n_steps", "num_sanity_val_steps", "use_distributed_sampler",
    "inference_mode", "plugins", "profiler", "default_root_dir",
)  # fmt: skip
# What a search may set: nothing that decides how samples are read, connected, labelled or parted.
SEARCHABLE = (
    "network", "model", "optim", "pool", "members", "use_clinical", "trainer.max_epochs", "data.features", "data.sampling",
    "pretrain.epochs", "pretrain.hidden", "pretrain.alone", "pretrain.freeze",
)  # fmt: skip


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """The config with these values at these keys."""
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=False))
    for key, value in values.items():
        OmegaConf.update(changed, key, value, force_add=True)
    return changed


def default_values(config: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    """What the config itself says at the keys of a search. Raises ConfigError for one that cannot be searched."""
    model = load_group("model", config.network, config)
    found = {}
    for key in keys:
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in SEARCHABLE):
            raise ConfigError(
                f"Expected keys of hparams_search.space among {SEARCHABLE} (or below them), found {key!r}. It decides how "
                "samples are read or parted: compare runs of metaniche-evaluate instead."
            )
        group, _, rest = key.partition(".")
        value = OmegaConf.select(model if group == "model" else config, rest if group == "model" else key)
        if value is None:
            known = set(model) - {"name", "_target_"} if group == "model" else set(plain(config.get(group)) or ())
            where = f"of {config.network}" if group == "model" else "of the config"
            raise ConfigError(
                f"Expected a key {where} in hparams_search.space, found {key!r}. {nearest(rest or key, known)}"
            )
        found[key] = value
    return found


def number(config: DictConfig, key: str, kind: type = int, least: float = 0) -> int | float:
    """A number of the config. Raises ConfigError, with what was found, for anything else or below `least`."""
    value = OmegaConf.select(config, key)
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or value < least:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"Expected {key} to be {what} of at least {least}, found {value!r}.")
    return value


def plain(config: DictConfig | Mapping | None) -> dict:
    """Plain dictionaries and lists with every reference resolved."""
    return OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else dict(config or {})


def open_cohort(config: DictConfig) -> PreparedCohort:
    """Read and prepare the cohort of `config.data` with the graph of `config.graph`; what is prepared already is reused."""
    return prepare(read_cohort(config), read_graph(config), Path(config.paths.cache))


def read_graph(config: DictConfig) -> GraphConfig:
    """The graph of `config.graph`."""
    return build(GraphConfig, plain(config.graph), "graph")


def read_cohort(config: DictConfig) -> Cohort:
    """The cohort of `config.data`, not yet prepared."""
    values = plain(config.data)
    source = values.pop("source", None)
    values.pop("features", None), values.pop("sampling", None)
    if not isinstance(source, dict) or len(source) == 0:
        forms = "{dataset: NAME}, {samples: TABLE, patients: TABLE} or {synthetic: {...}}"
        raise ConfigError(f"Expected `data.source` to be {forms}, found {source!r}.")
    if "synthetic" in source:
        from metaniche.data.synthetic import SyntheticConfig, generate

        unused = sorted(set(values) - {"name"})
        if unused:
            raise ConfigError(
                f"Unknown key `data.{unused[0]}` of a synthetic cohort. {nearest(unused[0], source['synthetic'])}"
                "Its settings are data.source.synthetic.*."
            )
        return generate(build(SyntheticConfig, source["synthetic"], "data.source.synthetic")).cohort()
    cohort = build(CohortConfig, values, "data")
    if "dataset" in source:
        return Cohort.from_dataset(source["dataset"], cohort)
    if {"samples", "patients"} <= set(source):
        return Cohort.from_manifest(Path(source["samples"]), Path(source["patients"]), cohort)
    raise ConfigError(f"Unknown `data.source` {sorted(source)}: expected dataset, samples + patients, or synthetic.")


def read_signaling(config: DictConfig) -> SignalConfig:
    """The signals of `config.signaling`."""
    return build(SignalConfig, plain(config.signaling), "signaling")


def read_pairs(config: DictConfig) -> Resource:
    """The resource of `config.resource`; without one, a synthetic cohort's own pairs, or LIANA's consensus."""
    if config.resource is None and "synthetic" in (plain(config.data).get("source") or {}):
        from metaniche.data.synthetic import resource

        return resource()
    return open_resource(config.resource or "consensus")


def read_task(config: DictConfig) -> Task:
    """The task of `config.task`."""
    return build(Task, plain(config.task), "task")


def fit_config(config: DictConfig, model: DictConfig | None = None) -> FitConfig:
    """Everything a network's training needs, for `config.model` or another model of the same group."""
    from metaniche.training.fit import FitConfig

    check_targets(config)
    read_graph(config)  # networks take its radius: what is wrong with it is said of the graph
    values = plain(model if model is not None else config.model)
    values.pop("name", None)
    architecture = values.pop("_target_").rsplit(".", 1)[-1]
    hears = ARCHITECTURES[architecture].reads_pairs
    return FitConfig(
        architecture=architecture,
        parameters=values,
        features=read_features(config),
        sampling=build(SamplingConfig, plain(config.data).get("sampling"), "data.sampling"),
        epochs=number(config, "trainer.max_epochs", least=1),
        members=number(config, "members", least=1),
        pool=config.pool,
        use_clinical=bool(config.use_clinical),
        resource=_pairs_to_hear(config) if hears else None,
        organs=_organs_of_sites(config) if config.organs else None,
        pretrain=read_pretraining(config),
        optimizer=_optimizer(config),
    )


def _organs_of_sites(config: DictConfig) -> OrganProfiles:
    organs = read_organs(config.organs)
    check_organs(organs, read_task(config))  # before anything is fitted
    return organs


def read_features(config: DictConfig) -> FeatureConfig:
    """The features of `config.data`; its gene sets are read where they are named."""
    values = plain(config.data).get("features") or {}
    if isinstance(values.get("gene_sets"), str):
        values["gene_sets"] = read_gene_sets(values["gene_sets"])
    return build(FeatureConfig, {k: v for k, v in values.items() if k != "gene_sets" or v}, "data.features")


def _pairs_to_hear(config: DictConfig) -> Resource | None:
    """The pairs for a network that hears them; none where nothing is asked for and LIANA, the default, is not installed."""
    if config.resource == "none" or plain(config.data).get("feature_kind") == "none":
        return None
    synthetic = "synthetic" in (plain(config.data).get("source") or {})
    if config.resource is None and not synthetic and find_spec("liana") is None:
        log.warning(
            "No ligand-receptor pairs are heard: resource names none, and the package liana, which brings its consensus, is "
            "not installed (pip install 'metaniche[liana]')."
        )
        return None
    return read_pairs(config)


def read_pretraining(config: DictConfig) -> PretrainConfig:
    """The pretraining of `config.pretrain`, its encoder read."""
    from metaniche.training.pretrain import PretrainConfig

    values = plain(config.pretrain)
    values.pop("only", None)
    encoder = values.pop("encoder", None)
    return build(PretrainConfig, values | {"encoder": encoder and Encoder.load(Path(encoder))}, "pretrain")


def _optimizer(config: DictConfig):
    """Parameters -> Optimizer, tried once so that a wrong setting is found before training."""
    optimizer = instantiate(config.optim)
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Expected `optim` to hold settings that {config.optim._target_} takes: {error}") from error
    return optimizer


def deciding_trainer(config: DictConfig) -> dict:
    """What of `config.trainer` decides the weights, beside the epochs: all but what is known not to."""
    trainer = plain(config.trainer)
    return {k: trainer[k] for k in sorted(trainer) if k not in BESIDE_THE_WEIGHTS and not k.startswith("enable_")}


def device_of_trainer(config: DictConfig) -> str:
    """Where trained networks are scored: not on a GPU that the trainer was told to leave alone."""
    return "cpu" if config.trainer.get("accelerator") == "cpu" else "auto"


def trainer_factory(config: DictConfig):
    """folder, epochs -> a Trainer of `config.trainer` with the config's callbacks and loggers writing into that folder."""
    check_targets(config)
    if config.trainer.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"Expected a GPU for trainer.accelerator={config.trainer.accelerator}, found none that torch {torch.__version__} "
            "can use. trainer=cpu trains without one; metaniche-doctor says what is missing."
        )
    precision = str(config.trainer.get("precision", "32-true"))
    if "mixed" not in precision and precision not in ("32-true", "32", "bf16", "16"):
        raise ConfigError(
            f"Expected trainer.precision of 32-true, bf16-mixed or 16-mixed, found {precision!r}: weights are kept in float32."
        )
    return partial(_trainer, config)


def _trainer(config: DictConfig, folder: Path | None, epochs: int):
    from metaniche.training.checkpoint import AtomicCheckpointIO

    trainer = plain(config.trainer) | {"max_epochs": epochs}
    if trainer.get("barebones"):
        return instantiate(trainer)
    plugins = [instantiate(plugin) for plugin in trainer.pop("plugins", [])]
    if folder is None:  # a fold of a cross-validation keeps nothing
        kept = dict.fromkeys(("enable_checkpointing", "logger", "enable_progress_bar"), False)
    else:
        plugins.insert(0, AtomicCheckpointIO())
        kept = {
            "callbacks": _callbacks(config, folder),
            "logger": _loggers(config, folder) or False,
            "default_root_dir": str(folder),
        }
    return instantiate(trainer, **kept, plugins=plugins or None, _convert_="all")


def _loggers(config: DictConfig, folder: Path) -> list:
    """The config's loggers; each member of an ensemble is a run of its own in wandb."""
    loggers = plain(config.logger)
    if "wandb" in loggers and config.members > 1:
        import wandb

        wandb.finish()  # else the second member would write on in the run of the first
        given = loggers["wandb"]
        whole = given.get("name") or config.run_name
        loggers["wandb"] |= {"name": f"{whole}/{folder.name}", "group": given.get("group") or whole}
    return [instantiate(logger) for logger in loggers.values()]


def _callbacks(config: DictConfig, folder: Path) -> list:
    callbacks = OmegaConf.create(OmegaConf.to_container(config.callbacks, resolve=False))
    for callback, key in (("checkpoint", "dirpath"), ("history", "folder")):
        if callback in callbacks:
            callbacks[callback][key] = str(folder)
    if "progress" in callbacks and config.members > 1:
        callbacks["progress"]["label"] = f"{folder.name} of {config.members}"
    return [instantiate(callback) for callback in callbacks.values()]


def _targets(node: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(node, dict):
        own = [(path, str(node["_target_"]))] if "_target_" in node else []
        return own + [hit for k, v in node.items() for hit in _targets(v, f"{path}.{k}".lstrip("."))]
    if isinstance(node, list):
        return [hit for i, v in enumerate(node) for hit in _targets(v, f"{path}.{i}")]
    return []
