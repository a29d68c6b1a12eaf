import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tissue import COHORT, GRAPH

from metaniche.data.features import FeatureConfig
from metaniche.data.task import Task
from metaniche.errors import CheckpointError
from metaniche.models import AttentionMIL
from metaniche.models.bundle import MODEL, WEIGHTS, Bundle, _digest


@pytest.fixture
def bundle():
    torch.manual_seed(0)
    parameters = {"n_features": 4, "n_outputs": 1, "width": 8}
    states = [AttentionMIL(**parameters).state_dict() for _ in range(2)]
    return Bundle(
        architecture="AttentionMIL",
        parameters=parameters,
        states=states,
        task=asdict(Task("t", "a task", label="metastasis", positive=(1,))),
        features={
            "config": asdict(FeatureConfig()),
            "kind": "none",
            "types": ["a"],
            "genes": [],
            "states": [],
            "state_genes": [],
        },
        arrays={"mean": np.arange(3, dtype=np.float32)},
        graph=asdict(GRAPH),
        cohort=asdict(COHORT),
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
        if how == "edited graph":
            table["graph"] = {"radius_um": 60.0}
        if how == "edited cohort":
            table["cohort"] = {"malignant_types": ["B"]}
        if how in FOREIGN:
            table[how] = FOREIGN[how]
        if how in ("other width", "member missing", *FOREIGN):
            table["sha256"][MODEL] = _digest(table)  # a consistent file about other weights, or of another version
        if how == "earlier format":
            table["format"] = 1
            del table["sha256"][MODEL]
        model.write_text(json.dumps(table))


# States that another version may have written: an unknown key, a value that is none, too little.
FOREIGN = {
    "task": {"name": "t", "title": "t", "colour": "red"},
    "features": {"kind": "none"},
    "clinical": {"medians": {}},
    "graph": {"builder": "voronoi"},
    "cohort": {},
}
WORDS = {"task": "colour", "features": "config", "clinical": "medians", "graph": "voronoi", "cohort": "name"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no weights", "weights.safetensors"),
        ("flipped bit", "sha256"),
        ("no json", "no JSON"),
        ("unknown architecture", "'AttentionMIL'.*found 'os.system'"),
        ("format", "expected format 4, found 99"),
        ("earlier format", "found 1.*train it again"),
        ("edited graph", "model.json does not match its own sha256"),
        ("edited cohort", "model.json does not match its own sha256"),
        *((how, rf"model\.json: expected a task, features.*{words}.*train it again") for how, words in WORDS.items()),
        ("other width", "belong together"),
        ("member missing", "belong together"),
    ],
)
def test_a_damaged_bundle_is_refused_by_name(bundle, tmp_path, how, words):
    folder = bundle.save(tmp_path / "b")
    damage(folder, how)
    with pytest.raises(CheckpointError, match=words):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "change", [{"graph": {"radius_um": 60.0}}, {"cohort": {"malignant_types": ["B"]}}, {"pool": "malignant"}]
)
def test_the_hash_names_all_that_a_score_depends_on(bundle, change):
    assert replace(bundle, **change).hash != bundle.hash
    assert replace(bundle, states=bundle.states[:1]).hash != bundle.hash


def test_white_space_and_order_of_keys_do_no_damage(bundle, tmp_path):
    folder = bundle.save(tmp_path / "b")
    table = json.loads((folder / MODEL).read_text())
    (folder / MODEL).write_text(json.dumps(dict(reversed(table.items()))))
    assert Bundle.load(folder).hash == bundle.hash
