"""Which trials of a search are alive: they say so every so often, and what has fallen silent is closed and made again."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import pandas as pd
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

log = logging.getLogger(__name__)

BEAT_S = 60.0


def retry_killed(study: optuna.Study, retries: int, stale_minutes: float) -> None:
    """Close trials whose process is gone, and put their values in line again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _is_dead(trial, stale_minutes):
            continue
        gone = Trial(study, trial._trial_id)
        try:
            gone.set_user_attr("killed", True)
            gone.set_user_attr("why", "killed")
            study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):  # another process was quicker, or the trial came to its end
            continue
        tries = trial.user_attrs.get("tries", 0)
        if tries < retries and trial.params:
            study.enqueue_trial(trial.params, user_attrs={"tries": tries + 1})


@contextmanager
def beating(trial: Trial, seconds: float = BEAT_S) -> Iterator[None]:
    """The trial says that it is alive now and every so often, however long one fit takes."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            try:
                _beat(trial)
            except UpdateFinishedTrialError:  # taken for killed: the trial's end says so
                return
            except Exception as error:  # of a file system, say: the next beat may come through
                log.warning("Trial %d could not say that it lives: %s", trial.number, error)

    _beat(trial)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _beat(trial: Trial) -> None:
    """Say that the trial is alive, and where."""
    trial.set_user_attr("alive", {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time()})


def _is_dead(trial: FrozenTrial, stale_minutes: float) -> bool:
    alive = trial.user_attrs.get("alive")
    if alive is None:  # was killed between its first breath and its first beat, unless that was a moment ago
        return (pd.Timestamp.now() - pd.Timestamp(trial.datetime_start)).total_seconds() > 60
    if alive["host"] == socket.gethostname() and os.name != "nt":  # on Windows a signal of 0 would end the process
        return not _runs(alive["pid"])
    return time.time() - alive["at"] > 60 * stale_minutes


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def counts(trial: FrozenTrial) -> bool:
    """Whether it is one of the trials asked for: not one that was killed, nor one that still stands in line."""
    killed = trial.user_attrs.get("killed") and trial.state != TrialState.COMPLETE
    return not killed and trial.state != TrialState.WAITING
