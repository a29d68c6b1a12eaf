import os
import socket
import threading
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from metaniche.evaluation import heartbeat
from metaniche.evaluation.heartbeat import beating, counts, retry_killed

SPACE = {"lr": FloatDistribution(0.1, 0.2)}


@pytest.fixture
def study():
    return optuna.create_study()


def said_at(study, number=0):
    return study.trials[number].user_attrs["alive"]["at"]


def test_a_trial_goes_on_saying_that_it_lives(study):
    trial = study.ask(SPACE)
    with beating(trial, 0.001):
        first = said_at(study)
        until = time.monotonic() + 30
        while said_at(study) == first and time.monotonic() < until:
            pass
        assert said_at(study) > first
    assert study.trials[0].user_attrs["alive"]["pid"] == os.getpid()


def test_a_trial_that_others_closed_falls_silent(study, monkeypatch):
    lost = []
    monkeypatch.setattr(threading, "excepthook", lost.append)
    trial, before = study.ask(SPACE), threading.active_count()
    with beating(trial, 0.001):
        study.tell(trial.number, state=TrialState.FAIL)
        until = time.monotonic() + 30
        while threading.active_count() > before and time.monotonic() < until:
            pass
        assert threading.active_count() == before
    assert study.trials[0].state == TrialState.FAIL
    assert not lost


def test_a_beat_that_fails_is_not_the_last(study, monkeypatch, caplog):
    trial, say = study.ask(SPACE), heartbeat._beat
    fails = iter([False, True, False])

    def shaky(trial):
        if next(fails, False):
            raise OSError("stale file handle")
        say(trial)

    monkeypatch.setattr(heartbeat, "_beat", shaky)
    with beating(trial, 0.001):
        first, until = said_at(study), time.monotonic() + 30
        while said_at(study) == first and time.monotonic() < until:
            pass
        assert said_at(study) > first
    assert "could not say that it lives: stale file handle" in caplog.text


def test_a_trial_that_another_process_closed_first_is_left_alone(study, monkeypatch):
    trial = study.ask(SPACE)
    trial.set_user_attr("alive", {"host": "another", "pid": 1, "at": 0})
    running = study.get_trials(deepcopy=True)
    study.tell(trial.number, 0.5)
    with monkeypatch.context() as before:
        before.setattr(study, "get_trials", lambda **_: running)
        retry_killed(study, retries=1, stale_minutes=60)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE]
    assert counts(study.trials[0])


@pytest.mark.parametrize(
    ("alive", "dead"),
    [
        ({"host": socket.gethostname(), "pid": os.getpid(), "at": 0}, False),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "at": 0}, True),
        ({"host": "another", "pid": 1, "at": time.time()}, False),
        ({"host": "another", "pid": 1, "at": 0}, True),
    ],
)
def test_what_has_fallen_silent_is_closed_and_put_in_line_again(study, alive, dead):
    study.ask(SPACE).set_user_attr("alive", alive)
    retry_killed(study, retries=1, stale_minutes=60)
    states = [t.state for t in study.trials]
    assert states == ([TrialState.FAIL, TrialState.WAITING] if dead else [TrialState.RUNNING])
    assert any(counts(t) for t in study.trials) != dead
    retry_killed(study, retries=1, stale_minutes=60)
    assert len(study.trials) == len(states)
