import pickle
from pathlib import Path

import pytest
import torch

from metaniche.errors import CheckpointError
from metaniche.training.checkpoint import AtomicCheckpointIO


def test_round_trip_leaves_nothing_but_the_checkpoint(tmp_path):
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 3, "w": torch.arange(4)}, tmp_path / "last.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(io.load_checkpoint(tmp_path / "last.ckpt")["w"], torch.arange(4))
    io.remove_checkpoint(tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)

    def half_a_file(content, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", half_a_file)
    with pytest.raises(OSError, match="No space"):
        io.save_checkpoint({"step": 2}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert io.load_checkpoint(path)["step"] == 1


class Payload:
    def __reduce__(self):
        return Path.write_text, (Path(self.canary), "executed")


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    payload = Payload()
    payload.canary = str(tmp_path / "canary")
    for write in (lambda p: torch.save(payload, p), lambda p: p.write_bytes(pickle.dumps(payload))):
        write(tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match=r"x\.ckpt"):
            AtomicCheckpointIO().load_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "canary").exists()
