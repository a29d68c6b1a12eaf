from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from metaniche import config as cfg
from metaniche.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


def names(group):
    return sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def hydra_context():
    GlobalHydra.instance().clear()
    with initialize_config_module("metaniche.configs", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("verb", ["train", "evaluate", "sweep", "prepare", "communicate"])
@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_recipe_composes_with_every_verb(verb, experiment):
    config = compose(verb, [f"experiment={experiment}"])
    cfg.check_targets(config)
    cfg.read_task(config)
    assert OmegaConf.missing_keys(config) <= {"callbacks.checkpoint.dirpath", "callbacks.history.folder"}


@pytest.mark.parametrize("trainer", sorted(set(names("trainer")) - {"gpu", "ddp", "slurm"}))
def test_evaluate_can_use_every_trainer_of_this_machine(trainer):
    config = compose("evaluate", [f"trainer={trainer}", "trainer.max_epochs=3"])
    made = cfg.trainer_factory(config)(None, 5)
    assert made.max_epochs == 5
    assert not made.checkpoint_callbacks


@pytest.mark.parametrize(
    ("override", "decides"),
    [
        ("+trainer.accumulate_grad_batches=4", True),
        ("+trainer.limit_train_batches=0.5", True),
        ("trainer.precision=bf16-mixed", True),
        ("trainer=ddp", True),
        ("trainer=quiet", False),
        ("trainer.log_every_n_steps=9", False),
        ("+trainer.enable_checkpointing=false", False),
    ],
)
def test_a_run_goes_on_only_with_what_decides_its_weights(override, decides):
    plain, changed = (cfg.deciding_trainer(compose("train", given)) for given in ([], [override]))
    assert (plain != changed) == decides


@pytest.mark.parametrize(
    ("precision", "fine"), [("32-true", True), (32, True), ("bf16-mixed", True), ("bf16-true", False), (64, False)]
)
def test_a_precision_that_weights_are_not_kept_in_is_refused(precision, fine):
    config = compose("train", [f"trainer.precision={precision}"])
    if fine:
        cfg.trainer_factory(config)
        return
    with pytest.raises(ConfigError, match=r"32-true, bf16-mixed or 16-mixed, found '(bf16-true|64)'"):
        cfg.trainer_factory(config)


@pytest.mark.parametrize(
    "override",
    [f"{g}={n}" for g in ("model", "task", "graph", "trainer", "logger", "debug", "optim") for n in names(g)],
)
def test_every_file_of_a_group_composes(override):
    config = compose("train", [override])
    cfg.check_targets(config)
    assert cfg.read_task(config).name == config.task.name
    assert cfg.fit_config(config).epochs == config.trainer.max_epochs


@pytest.mark.parametrize("name", names("hparams_search"))
def test_every_search_starts_from_the_config_and_can_set_what_it_searches(name):
    from metaniche.evaluation.search import SearchConfig

    config = compose("sweep", [f"hparams_search={name}"])
    space = SearchConfig(**OmegaConf.to_container(config.hparams_search)).distributions()
    default = cfg.default_values(config, space)
    assert set(default) == set(space)
    assert all(space[key]._contains(space[key].to_internal_repr(value)) for key, value in default.items())
    drawn = {key: d.choices[-1] if hasattr(d, "choices") else d.high for key, d in space.items()}
    changed = cfg.with_values(config, drawn)
    fit = cfg.fit_config(changed, cfg.load_group("model", changed.network, changed))
    assert fit.epochs == drawn.get("trainer.max_epochs", config.trainer.max_epochs)
    assert fit.pool == drawn.get("pool", config.pool)


@pytest.mark.parametrize("experiment", names("experiment"))
@pytest.mark.parametrize("name", names("hparams_search"))
def test_every_search_can_start_from_every_experiment(name, experiment, tmp_path):
    from metaniche.evaluation.search import Search, SearchConfig

    config = compose("sweep", [f"hparams_search={name}", f"experiment={experiment}"])
    asked = SearchConfig(**OmegaConf.to_container(config.hparams_search))
    default = cfg.default_values(config, asked.distributions())
    space = Search(asked, None, default, "", None, None, tmp_path)._space
    assert all(space[key]._contains(space[key].to_internal_repr(value)) for key, value in default.items())


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


def test_another_model_of_the_group_is_resolved_against_the_config():
    config = compose("evaluate", ["graph.radius_um=99"])
    model = cfg.load_group("model", "gatv2_mil", config)
    fit = cfg.fit_config(config, model)
    assert fit.architecture == "GATv2MIL"
    assert fit.parameters["radius_um"] == 99
    changed = cfg.fit_config(config, cfg.load_group("model", "gatv2_mil", compose("evaluate", ["+model.width=64"])))
    assert (fit.parameters["width"], changed.parameters["width"]) == (32, 64)
    with pytest.raises(ConfigError, match="Did you mean 'niche_gin'"):
        cfg.load_group("model", "niche_gim", config)


def test_a_setting_of_one_searched_network_does_not_end_the_trials_of_another():
    space = "+hparams_search.space.network.choices=[seed_soil,niche_gin]"
    config = compose("sweep", ["network=seed_soil", "+model.orthogonality=0.5", space])
    assert cfg.load_group("model", "seed_soil", config).orthogonality == 0.5
    trial = cfg.with_values(config, {"network": "niche_gin"})
    assert "orthogonality" not in cfg.load_group("model", "niche_gin", trial)


def test_without_liana_and_without_a_table_no_pairs_are_heard_and_it_is_said(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(cfg, "find_spec", lambda name: None)
    config = compose("train", ["experiment=tnbc_mibi", "model=seed_soil"])
    assert cfg.fit_config(config).resource is None
    assert "the package liana, which brings its consensus, is not installed" in caplog.text
    (tmp_path / "pairs.csv").write_text("ligand,receptor\nA,B\n")
    named = compose("train", ["experiment=tnbc_mibi", "model=seed_soil", f"resource={tmp_path / 'pairs.csv'}"])
    assert len(cfg.fit_config(named).resource.pairs) == 1
    caplog.clear()
    assert cfg.fit_config(compose("train", ["experiment=crc_codex", "model=seed_soil"])).resource is None
    assert not caplog.text  # cell types alone: there is nothing to hear


def test_an_unknown_source_is_named():
    config = compose("train", ["experiment=crc_codex", "~data.source", "+data.source={folder: x}"])
    with pytest.raises(ConfigError, match="folder"):
        cfg.read_cohort(config)
    config = compose("train", ["experiment=crc_codex", "data.source=nothing"])
    with pytest.raises(ConfigError, match=r"\{samples: TABLE, patients: TABLE\}.*found 'nothing'"):
        cfg.read_cohort(config)


def test_the_configuration_of_a_fit_has_no_addresses():
    config = compose("train")
    assert " at 0x" not in repr(cfg.fit_config(config))
