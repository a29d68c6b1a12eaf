import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from metaniche.data.splits import patient_folds
from metaniche.errors import ConfigError, InputError
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.search import Search, SearchConfig, Tuned, compared

SPACE = {"model": {"sign": {"choices": [-1, 1]}}, "optim": {"lr": {"low": 0.1, "high": 0.2}}}
DEFAULT = {"model.sign": -1, "optim.lr": 0.15}
FITS = []


@dataclass
class Aged:
    """Says that the old, or with sign -1 the young, fall ill; remembers whom it was shown."""

    sign: int
    name: str = "aged"
    role: str = "model"
    fails: bool = False
    _age: pd.Series = field(default=None, init=False, repr=False)

    def fit(self, samples, targets, clinical, seed):
        if self.fails:
            raise InputError("no such thing")
        FITS.append(frozenset(targets.patients))
        return self

    def predict(self, samples, clinical, unit_ids):
        return Prediction((0.5 + self.sign * (clinical["age"] - 60) / 200).reindex(unit_ids))


def make(values):
    return Aged(values["model.sign"])


@pytest.fixture
def search_in(cohort, tasks, tmp_path):
    FITS.clear()

    def made(make=make, n_trials=6, made_with="all else", **more):
        config = SearchConfig(**{"space": SPACE, "n_trials": n_trials, "n_inner_folds": 2} | more)
        return Search(config, make, DEFAULT, made_with, cohort, cohort.targets(tasks["binary"]), tmp_path)

    return made


@pytest.fixture
def folds(cohort, tasks):
    return patient_folds(cohort.targets(tasks["binary"]), n_folds=3, n_repeats=1)


def test_inner_folds_choose_and_see_training_patients_only(search_in, folds):
    search = search_in()
    assert search.run(folds[0])
    assert search.best(folds[0])["model.sign"] == 1
    assert len(FITS) >= 2
    assert all(seen < set(folds[0].train) for seen in FITS)


def test_the_first_trial_is_the_config_itself(search_in, folds):
    search = search_in(n_trials=1)
    search.run(folds[0])
    (row,) = search.trials(folds[:1]).to_dict("records")
    assert (row["model.sign"], row["optim.lr"], row["state"]) == (-1, 0.15, "complete")


def test_each_change_is_tried_by_itself_and_once(search_in, folds):
    changes = [{"model.sign": 1}, {"optim.lr": 0.2}]
    for _ in range(2):  # a second call finds them made
        search = search_in(n_trials=3, changes=changes)
        assert search.run(folds[0])
    tried = search.trials(folds[:1])
    assert list(zip(tried["model.sign"], tried["optim.lr"])) == [(-1, 0.15), (1, 0.15), (-1, 0.2)]
    more = search_in(n_trials=4, changes=[*changes, {"optim.lr": 0.1}])
    assert more.run(folds[0])
    assert more.trials(folds[:1])["optim.lr"].iloc[3] == 0.1


def test_what_every_fold_tried_is_compared(search_in, folds):
    search = search_in(n_trials=3, changes=[{"model.sign": 1}])
    for fold in folds:
        search.run(fold)
    trials = search.trials(folds)
    found = compared(trials, DEFAULT).set_index("change")
    assert list(found.index) == ["model.sign=1", "the config itself"]  # the third trial was drawn, another in each fold
    best = trials[trials["number"] == 1]
    assert found.loc["model.sign=1", "inner"] == pytest.approx(best["value"].mean())
    assert found.loc["the config itself", "chosen"] == 0


def test_values_tried_twice_in_a_fold_count_once_and_a_fold_that_failed_counts():
    def trial(fold, a, value):
        return {"repeat": 0, "fold": fold, "a": a, "value": value}

    trials = pd.DataFrame(
        [
            *(trial(0, 2, 0.5), trial(0, 2, 0.7), trial(1, 2, 0.2), trial(0, 1, 0.9), trial(1, 1, 0.1)),
            *(trial(0, 3, 0.4), trial(0, 3, 0.4)),  # never tried in the other fold
            trial(1, np.nan, np.nan),  # in line, without values yet
        ]
    )
    found = compared(trials, {"a": 1})
    assert found.to_dict("list") == {
        "change": ["the config itself", "a=2"], "inner": [0.5, pytest.approx(0.4)], "chosen": [1, 1]
    }  # fmt: skip
    failed = pd.concat([trials, pd.DataFrame([trial(2, 1, np.nan)])], ignore_index=True)
    assert compared(failed, {"a": 1}).empty
    assert compared(failed.assign(value=np.nan), {"a": 1}).empty


def test_processes_that_start_together_put_the_first_trials_in_line_once(search_in, folds):
    changes = [{"model.sign": 1}, {"optim.lr": 0.2}]
    searches = [search_in(n_trials=3, changes=changes) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda search: search.study(folds[0]), searches))
    assert len(searches[0].study(folds[0]).get_trials()) == 3


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ({"whole": 3}, True), ({"whole": 2.5}, False), ({"whole": True}, False), ({"whole": 4}, False), ({"whole": 7}, False),
        ({"stepped": 0.75}, True), ({"stepped": 0.3}, False), ({"chosen": 1}, True), ({"chosen": True}, False),
    ],
)  # fmt: skip
def test_changes_are_values_of_the_space(value, accepted):
    space = {
        "whole": {"low": 1, "high": 5, "step": 2}, "stepped": {"low": 0.25, "high": 1.0, "step": 0.25},
        "chosen": {"choices": [1, 2]},
    }  # fmt: skip
    with nullcontext() if accepted else pytest.raises(ConfigError, match="It is searched in"):
        SearchConfig(space, changes=[value])


def test_a_search_starts_from_the_config_whatever_the_choices_are(search_in, folds):
    space = SPACE | {"model": {"sign": {"choices": [1, 2]}}}
    search = search_in(n_trials=1, space=space)
    assert search.run(folds[0])
    assert search.trials(folds[:1])["model.sign"].tolist() == [-1]
    with pytest.raises(ConfigError, match=r"own optim\.lr.*found 0\.15.*Widen the bounds"):
        search_in(space=SPACE | {"optim": {"lr": {"low": 0.2, "high": 0.3}}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model.sign=1"], "a list of changes"),
        (None, "a list of changes"),
        ([{"model.sing": 1}], "Did you mean 'model.sign'"),
        ([{"model.sign": 1}] * 6, "n_trials >= 7, .* found 6"),
    ],
)
def test_changes_that_could_not_be_tried_are_refused(search_in, changes, words):
    with pytest.raises(ConfigError, match=words):
        search_in(changes=changes)


def test_what_was_tried_is_not_tried_again_and_more_can_be_asked_for(search_in, folds):
    search_in().run(folds[0])
    before = len(FITS)
    assert search_in().run(folds[0])
    assert len(FITS) == before
    search_in(n_trials=9).run(folds[0])
    assert len(search_in().trials(folds[:1])) == 9
    search_in(made_with="something else").run(folds[0])
    assert len(search_in(made_with="something else").trials(folds[:1])) == 6


def test_a_killed_trial_is_closed_and_made_again(search_in, folds):
    search = search_in(n_trials=3)
    study = search.study(folds[0])
    trial = study.ask(search.config.distributions())
    trial.set_user_attr("alive", {"host": socket.gethostname(), "pid": 2**22 + 1, "at": 0})
    assert search.run(folds[0])
    table = search.trials(folds[:1]).set_index("number")
    assert table.loc[0, "why"] == "killed"
    again = table[(table["model.sign"] == DEFAULT["model.sign"]) & (table["optim.lr"] == DEFAULT["optim.lr"])]
    assert list(again["state"]) == ["fail", "complete"]
    assert (table["state"] == "complete").sum() == 3


def test_a_trial_that_runs_elsewhere_counts_and_is_waited_for(search_in, folds):
    search = search_in(n_trials=1)
    trial = search.study(folds[0]).ask(search.config.distributions())
    trial.set_user_attr("alive", {"host": "another", "pid": 1, "at": time.time()})
    assert not search.run(folds[0])
    assert FITS == []
    assert search_in(n_trials=1, stale_minutes=1e-9, retries=0).run(folds[0])
    assert search.trials(folds[:1])["state"].tolist().count("complete") == 1


def test_changes_asked_for_after_the_end_are_tried(search_in, folds):
    assert search_in(n_trials=4).run(folds[0])
    more = search_in(n_trials=4, changes=[{"optim.lr": 0.11}, {"optim.lr": 0.19}])
    assert more.run(folds[0])
    table = more.trials(folds[:1])
    assert (table["state"] == "complete").all()
    assert set(table["optim.lr"].iloc[-2:]) == {0.11, 0.19}
    running = more.study(folds[0]).ask(more.config.distributions())
    running.set_user_attr("alive", {"host": "another", "pid": 1, "at": time.time()})
    assert not more.run(folds[0])  # not yet judged


def test_a_trial_that_was_taken_for_killed_does_not_end_its_worker(search_in, folds, caplog):
    @dataclass
    class TakenForKilled(Aged):
        def fit(self, samples, targets, clinical, seed):
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if trial.number == 0:
                    study.tell(trial.number, state=TrialState.FAIL)
            return super().fit(samples, targets, clinical, seed)

    search = search_in(make=lambda values: TakenForKilled(values["model.sign"]), n_trials=2)
    study = search.study(folds[0])
    assert search.run(folds[0])
    assert "Trial 0 was silent for more than stale_minutes" in caplog.text
    assert search.trials(folds[:1])["state"].tolist() == ["fail", "complete"]


@pytest.mark.parametrize("ends", [True, False])
def test_of_several_processes_the_last_to_end_finds_all_done(search_in, folds, ends):
    search = search_in(n_trials=1)
    elsewhere = search.study(folds[0]).ask(search.config.distributions())
    elsewhere.set_user_attr("alive", {"host": "another", "pid": 1, "at": time.time()})

    def meanwhile(done, total, text):
        if ends and text.endswith("fold 2"):
            search.study(folds[0]).tell(elsewhere.number, 0.5)

    assert search.run_all(folds, meanwhile) == (0 if ends else 1)


def test_a_setting_that_cannot_be_trained_is_a_failed_trial_with_its_reason(search_in, folds):
    search = search_in(make=lambda values: Aged(values["model.sign"], fails=values["model.sign"] == -1))
    assert search.run(folds[0])
    table = search.trials(folds[:1])
    assert table.loc[table["model.sign"] == -1, "why"].str.contains("no such thing").all()
    assert search.best(folds[0])["model.sign"] == 1
    nothing = search_in(make=lambda values: Aged(1, fails=True), made_with="fails")
    nothing.run(folds[0])
    with pytest.raises(ConfigError, match=r"No trial of fold 1 could be scored.*no such thing"):
        nothing.best(folds[0])


def test_what_was_chosen_is_judged_on_the_outer_folds(search_in, folds, cohort, tasks):
    search = search_in()
    for fold in folds:
        search.run(fold)
    chosen = {fold.train: search.best(fold) for fold in folds}
    tuned = Tuned("tuned", chosen, "all else", make)
    assert "0x" not in repr(tuned)
    cv = cross_validate([tuned], cohort, tasks["binary"], folds)
    by_hand = cross_validate([Aged(1)], cohort, tasks["binary"], folds)
    assert cv.predictions["risk"].tolist() == by_hand.predictions["risk"].tolist()
    with pytest.raises(ConfigError, match="Expected a search on these"):
        Tuned("tuned", {}, "", make).fit([], search.targets, None, 0)


def test_a_resumed_search_proposes_what_was_not_proposed_yet(search_in, folds):
    search_in(n_trials=3).run(folds[0])
    search_in(n_trials=6).run(folds[0])
    drawn = search_in().trials(folds[:1])["optim.lr"]
    assert drawn.nunique() == 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"space": {}}, "at least one key"),
        ({"space": {"pool": ["all", "malignant"]}}, "space.pool to hold choices"),
        ({"space": {"optim": {"lr": {"low": 1.0}}}}, "space.optim.lr cannot be searched"),
        ({"space": {"optim": {"lr": {"low": 1.0, "high": 0.1}}}}, "space.optim.lr cannot be searched"),
        ({"space": {"optim": {"lr": {"low": 0.1, "choices": [1]}}}}, "choices, or low and high"),
        ({"space": {"pool": {"choices": ["all"], "hgih": 3}}}, "choices, or low and high"),
        ({"space": SPACE, "n_trials": 0}, "n_trials >= 1"),
        ({"space": SPACE, "changes": [{"optim.rl": 0.1}]}, "optim.rl.*Did you mean.*optim.lr"),
        ({"space": SPACE, "changes": [{"optim.lr": 0.3}]}, "optim.lr: 0.3"),
        ({"space": SPACE, "changes": [{"model.sign": 2}]}, "model.sign: 2"),
        ({"space": SPACE, "n_inner_folds": 1}, "n_inner_folds >= 2"),
    ],
)
def test_a_search_of_nothing_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        SearchConfig(**settings)


def test_bounds_of_whole_numbers_are_whole():
    space = SearchConfig({"a": {"low": 1, "high": 4}, "b": {"low": 1.0, "high": 4.0, "log": True}}).distributions()
    assert isinstance(space["a"], optuna.distributions.IntDistribution)
    assert space["b"].log


def test_a_study_can_be_read_by_optuna_itself(search_in, folds, tmp_path):
    search_in(n_trials=2).run(folds[0])
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "trials.journal"))
    )
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    assert json.loads(json.dumps(study.best_params)) == study.best_params


@pytest.mark.parametrize("what", ["samples", "clinical", "code", "nothing"])
def test_other_data_or_other_code_is_another_study(search_in, folds, monkeypatch, what):
    search = search_in()
    search.targets = replace(
        search.targets, task=replace(search.targets.task, clinical=(search.cohort.patients.columns[0],))
    )
    name = search.study(folds[0]).study_name
    one = search.cohort
    samples = one.samples.assign(n_cells=7) if what == "samples" else one.samples
    patients = one.patients.assign(**{search.targets.task.clinical[0]: 7.0}) if what == "clinical" else one.patients
    if what == "code":
        monkeypatch.setattr("metaniche.evaluation.search.code_digest", lambda package: "other")
    search.cohort = SimpleNamespace(name=one.name, folder=one.folder, samples=samples, patients=patients)
    assert (search.study(folds[0]).study_name == name) == (what == "nothing")
