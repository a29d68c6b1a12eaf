import logging

from metaniche.io.once import log_once

log = logging.getLogger(__name__)


def test_a_text_is_said_once(caplog):
    for text in ("some gap", "some gap", "100 % of another"):
        log_once(log.warning, text)
    assert caplog.messages == ["some gap", "100 % of another"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
