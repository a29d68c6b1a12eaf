from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from metaniche import config as cfg
from metaniche.data.cohort import CohortConfig
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig

CONFIGS = Path(__file__).parents[1] / "configs"


def names(group):
    return sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra_context():
    GlobalHydra.instance().clear()
    with initialize_config_module("metaniche.configs", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("verb", ["train", "evaluate", "prepare"])
@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_recipe_composes_with_every_verb(verb, experiment):
    config = compose(verb, [f"experiment={experiment}"])
    cfg.check_targets(config)
    cfg.read_task(config)
    assert OmegaConf.missing_keys(config) <= {"callbacks.checkpoint.dirpath", "callbacks.history.folder"}


@pytest.mark.parametrize("trainer", sorted(set(names("trainer")) - {"gpu", "ddp", "slurm"}))
def test_evaluate_can_use_every_trainer_of_this_machine(trainer):
    config = compose("evaluate", [f"trainer={trainer}", "trainer.max_epochs=3"])
    made = cfg.trainer_factory(config)(None)
    assert made.max_epochs == 3
    assert not made.checkpoint_callbacks


@pytest.mark.parametrize(
    "override",
    [f"{g}={n}" for g in ("model", "task", "graph", "trainer", "logger", "debug", "optim") for n in names(g)],
)
def test_every_file_of_a_group_composes(override):
    config = compose("train", [override])
    cfg.check_targets(config)
    assert cfg.read_task(config).name == config.task.name
    assert cfg.fit_config(config).epochs == config.trainer.max_epochs


def test_a_task_on_the_command_line_wins_over_the_recipe():
    assert compose("train", ["experiment=crc_codex", "task=stage_iv"]).task.name == "stage_iv"


def test_recipes_name_no_targets():
    for group in ("experiment", "debug", "task", "data", "graph", "paths"):
        for path in (CONFIGS / group).glob("*.yaml"):
            assert "_target_" not in path.read_text(), path


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=torch.load",
        "model._target_=metaniche.training.checkpoint.torch.load",
        "optim._target_=os.system",
        "trainer._target_=builtins.eval",
        "+data._target_=pathlib.Path.write_text",
        "+trainer.plugins=[{_target_: shutil.rmtree, path: /tmp/x}]",
        "+callbacks.extra={_target_: subprocess.run, args: [true]}",
        "+logger.deep={inner: {_target_: pandas.eval, expr: '1'}}",
    ],
)
def test_a_hostile_target_is_refused_before_anything_is_imported(override):
    with pytest.raises(ConfigError, match="not allowed"):
        cfg.check_targets(compose("train", [override]))


def test_an_unknown_key_is_an_error_that_names_the_nearest():
    config = compose("train", ["+task.positiv=[1]"])
    with pytest.raises(ConfigError, match="Did you mean 'positive'"):
        cfg.read_task(config)
    with pytest.raises(ConfigError, match=r"graph\.radius.*Did you mean 'radius_um'"):
        cfg.build(GraphConfig, {"radius": 3}, "graph")
    with pytest.raises(ConfigError, match="`task` is incomplete"):
        cfg.build(Task, {"title": "t"}, "task")


def test_another_model_of_the_group_is_resolved_against_the_config():
    config = compose("evaluate", ["graph.radius_um=99"])
    model = cfg.load_group("model", "gatv2_mil", config)
    fit = cfg.fit_config(config, model)
    assert fit.architecture == "GATv2MIL"
    assert fit.parameters["radius_um"] == 99
    with pytest.raises(ConfigError, match="Did you mean 'niche_gin'"):
        cfg.load_group("model", "niche_gim", config)


@pytest.mark.parametrize("source", ["{folder: x}", "{manifest: x}", "{dataset: crc_codex, samples: x}", "null"])
def test_a_source_of_another_form_is_told_the_forms_there_are(source):
    config = compose("train", ["experiment=crc_codex", "~data.source", f"+data.source={source}"])
    words = r"\{samples: TABLE, patients: TABLE\} or \{synthetic: .*found (\{'(folder|manifest|dataset)'|None)"
    with pytest.raises(ConfigError, match=words):
        cfg.read_cohort(config)


def test_a_synthetic_cohort_refuses_keys_that_it_would_not_read():
    config = compose("train", ["data.name=mine", "+data.um_per_unit=9", "+data.nonsense=1"])
    with pytest.raises(ConfigError, match=r"found data\.nonsense, data\.um_per_unit\. Leave out"):
        cfg.read_cohort(config)
    assert len(cfg.read_cohort(compose("train", ["data.name=mine"])).patients) == 80


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("graph.k=foo", r"`graph\.k` to be a whole number, found 'foo'"),
        ("graph.k=true", r"`graph\.k` to be a whole number, found True"),
        ("graph.contact_um=null", r"`graph\.contact_um` to be a number, found None"),
        ("graph.max_paracrine=x", r"`graph\.max_paracrine` to be a whole number or null, found 'x'"),
        ("graph.builder=3", r"`graph\.builder` to be a text, found 3"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(override, words):
    with pytest.raises(ConfigError, match=words):
        cfg.build(GraphConfig, cfg.plain(compose("train", [override]).graph), "graph")


def test_whole_numbers_are_numbers_and_lists_are_lists():
    assert cfg.build(GraphConfig, {"contact_um": 30, "max_paracrine": None}, "graph").contact_um == 30
    with pytest.raises(ConfigError, match=r"`task\.positive` to be a list, found 'yes'"):
        cfg.build(Task, {"name": "t", "title": "t", "label": "y", "positive": "yes"}, "task")
    aliases = {"name": "c", "um_per_unit": 1.0, "feature_kind": "none", "type_aliases": [1]}
    with pytest.raises(ConfigError, match=r"`data\.type_aliases` to be a table or null, found \[1\]"):
        cfg.build(CohortConfig, aliases, "data")


@pytest.mark.parametrize("override", ["members=foo", "trainer.max_epochs=1.5", "use_clinical=5", "num_workers=many"])
def test_numbers_of_a_fit_are_numbers(override):
    key, value = override.split("=")
    with pytest.raises(ConfigError, match=f"Expected `{key}` to be .*found '?{value}"):
        cfg.fit_config(compose("train", [override]))


def test_what_is_asked_of_the_model_reaches_every_network_that_has_it():
    config = compose("evaluate", ["model.width=64", "model.heads=2"])
    fits = {name: cfg.network_config(config, name).parameters for name in config.networks}
    assert {name: fit["width"] for name, fit in fits.items()} == dict.fromkeys(config.networks, 64)
    assert {name: fit.get("heads") for name, fit in fits.items()} == {
        "relational_mil": 2, "gatv2_mil": 2, "attention_mil": None, "niche_gin": None,
    }  # fmt: skip
    assert fits["niche_gin"]["layers"] == 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.heads=2", "networks=[attention_mil]"], r"`model\.heads`, which none of them has.* dropout, width"),
        (["+model.widht=2"], r"`model\.widht`.*Did you mean 'width'"),
        (
            ["+model=gatv2_mil"],
            r"found 'gatv2_mil'\. metaniche-evaluate compares several networks.*networks=\[\.\.\.\]",
        ),
    ],
)
def test_what_no_network_can_use_is_refused(overrides, words):
    config = compose("evaluate", overrides)
    with pytest.raises(ConfigError, match=words):
        cfg.network_config(config, "attention_mil")


def test_evaluate_offers_every_key_of_the_networks():
    keys = {k for name in names("model") for k in OmegaConf.load(CONFIGS / "model" / f"{name}.yaml")}
    assert set(compose("evaluate").model) == keys - {"name", "_target_", "radius_um"}  # the radius is the graph's


def test_the_configuration_of_a_fit_has_no_addresses():
    config = compose("train")
    assert " at 0x" not in repr(cfg.fit_config(config))
