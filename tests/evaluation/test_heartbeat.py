import os
import socket
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from metaniche.evaluation.heartbeat import beating, retry_killed, was_killed

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


def test_a_trial_that_others_closed_falls_silent(study):
    trial = study.ask(SPACE)
    with beating(trial, 0.001):
        study.tell(trial.number, state=TrialState.FAIL)
    assert study.trials[0].state == TrialState.FAIL


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
    assert [was_killed(t) for t in study.trials] == ([True, True] if dead else [False])
    retry_killed(study, retries=1, stale_minutes=60)
    assert len(study.trials) == len(states)
