import logging
import sys

import pytest

from metaniche.io.progress import Progress


def test_a_log_gets_a_line_about_every_ten_per_cent(caplog):
    caplog.set_level(logging.INFO)
    with Progress() as tell:
        for done in range(1, 101):
            tell(done, 100, "samples")
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "100/100  samples"


def test_silence_is_kept(caplog):
    caplog.set_level(logging.INFO)
    with Progress(shown=False) as tell:
        tell(1, 1, "samples")
    assert caplog.messages == []


def test_names_with_brackets_stand_beside_the_bar_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with Progress() as tell:
        tell(1, 2, "core [/B]")
        tell._bar.console.print(tell._bar.columns[-1].render(tell._bar.tasks[0]))
    assert "core [/B]" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_that_is_taken_down_after_an_error(monkeypatch, caplog):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    caplog.set_level(logging.INFO)
    tell = Progress()

    def fail():
        with tell:
            tell(1, 2, "samples")
            assert tell._bar.tasks[0].completed == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert tell._bar is None
    assert caplog.messages == []
