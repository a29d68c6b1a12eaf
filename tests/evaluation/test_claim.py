import json

import pytest

from metaniche.errors import ConfigError
from metaniche.evaluation.claim import claim


def test_a_folder_belongs_to_one_configuration(tmp_path):
    run = tmp_path / "run"
    claim(run, {"model": {"width": 32}}, resume=True)
    (run / "member0").mkdir()
    claim(run, {"model": {"width": 32}}, resume=True)
    for resume in (True, False):
        with pytest.raises(ConfigError, match=r"model\.width \(32 there, 16 now\)"):
            claim(run, {"model": {"width": 16}}, resume=resume)


def test_an_encoder_is_not_replaced_by_one_of_another_configuration(tmp_path):
    claim(tmp_path, {"pretrain": {"epochs": 2}}, resume=True)
    (tmp_path / "encoder.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"pretrain\.epochs \(2 there, 3 now\)"):
        claim(tmp_path, {"pretrain": {"epochs": 3}}, resume=True)


def test_a_mistake_that_never_trained_does_not_block_the_corrected_run(tmp_path):
    claim(tmp_path, {"data": "???"}, resume=True)
    claim(tmp_path, {"data": "mine"}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == {"data": "mine"}


def test_without_resume_a_finished_run_is_not_touched(tmp_path):
    claim(tmp_path, {"a": 1}, resume=False)
    (tmp_path / "member0").mkdir()
    with pytest.raises(ConfigError, match="resume=true"):
        claim(tmp_path, {"a": 1}, resume=False)
