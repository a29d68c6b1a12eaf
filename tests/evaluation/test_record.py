import json

import numpy as np
import pandas as pd
import pytest

from metaniche.errors import ConfigError
from metaniche.evaluation.record import claim, collect_cells, write_json


def test_a_folder_belongs_to_one_configuration(tmp_path):
    run = tmp_path / "run"
    claim(run, {"model": {"width": 32}}, resume=True)
    (run / "member0").mkdir()
    claim(run, {"model": {"width": 32}}, resume=True)
    for resume in (True, False):
        with pytest.raises(ConfigError, match=r"model\.width \(32 there, 16 now\)"):
            claim(run, {"model": {"width": 16}}, resume=resume)


def test_a_mistake_that_never_trained_does_not_block_the_corrected_run(tmp_path):
    claim(tmp_path, {"data": "???"}, resume=True)
    claim(tmp_path, {"data": "mine"}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == {"data": "mine"}


def test_without_resume_a_finished_run_is_not_touched(tmp_path):
    claim(tmp_path, {"a": 1}, resume=False)
    (tmp_path / "member0").mkdir()
    with pytest.raises(ConfigError, match="resume=true"):
        claim(tmp_path, {"a": 1}, resume=False)


def test_maps_show_the_patients_of_highest_and_lowest_risk(tmp_path):
    cells = pd.DataFrame(
        [(f"s{p}{k}", f"p{p}", 0.5) for p in range(6) for k in range(2) for _ in range(2 + k)],
        columns=["sample_id", "patient_id", "metaniche_potential"],
    )
    collect_cells(cells, tmp_path, 4, pd.Series({f"p{p}": p / 10 for p in range(6)}))
    kept = pd.read_parquet(tmp_path / "cells.parquet")
    assert sorted(kept["sample_id"].unique()) == ["s01", "s11", "s41", "s51"]  # of each, the sample with more cells


def test_json_is_plain(tmp_path):
    write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": tmp_path})
    assert json.loads((tmp_path / "x.json").read_text())["a"] == 0.5
