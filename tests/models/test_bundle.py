import json

import numpy as np
import pytest
import torch

from metaniche.errors import CheckpointError
from metaniche.models import AttentionMIL
from metaniche.models.bundle import MODEL, WEIGHTS, Bundle


@pytest.fixture
def bundle():
    torch.manual_seed(0)
    parameters = {"n_features": 4, "n_outputs": 1, "width": 8}
    states = [AttentionMIL(**parameters).state_dict() for _ in range(2)]
    return Bundle(
        architecture="AttentionMIL",
        parameters=parameters,
        states=states,
        task={"name": "t"},
        features={"kind": "none"},
        arrays={"mean": np.arange(3, dtype=np.float32)},
        graph={},
        cohort={},
        calibration={"temperature": 1.5},
    )


def test_round_trip_keeps_every_bit(bundle, tmp_path):
    read = Bundle.load(bundle.save(tmp_path / "b"))
    for own, other in zip(bundle.states, read.states):
        assert all(torch.equal(own[k], other[k]) for k in own)
    assert np.array_equal(read.arrays["mean"], bundle.arrays["mean"])
    assert read.calibration == bundle.calibration
    assert read.hash == bundle.hash


def test_the_folder_holds_two_plain_files(bundle, tmp_path):
    bundle.save(tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [MODEL, WEIGHTS]
    model = json.loads((tmp_path / "b" / MODEL).read_text())
    assert "Research use only" in model["intended_use"]
    assert "_target_" not in json.dumps(model)


def damage(folder, how):
    weights, model = folder / WEIGHTS, folder / MODEL
    if how == "no weights":
        weights.unlink()
    elif how == "flipped bit":
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(bytes(content))
    elif how == "no json":
        model.write_text("{")
    else:
        table = json.loads(model.read_text())
        table |= {"unknown architecture": {"architecture": "os.system"}, "format": {"format": 99}}.get(how, {})
        if how == "other width":
            table["parameters"]["width"] = 16
        if how == "member missing":
            table["n_members"] = 3
        model.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no weights", "weights.safetensors"),
        ("flipped bit", "sha256"),
        ("no json", "no JSON"),
        ("unknown architecture", "os.system"),
        ("format", "format 1"),
        ("other width", "belong together"),
        ("member missing", "belong together"),
    ],
)
def test_a_damaged_bundle_is_refused_by_name(bundle, tmp_path, how, words):
    folder = bundle.save(tmp_path / "b")
    damage(folder, how)
    with pytest.raises(CheckpointError, match=words):
        Bundle.load(folder)
