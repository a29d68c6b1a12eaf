import hashlib
import re
from pathlib import PurePosixPath

import pytest

from metaniche.errors import ConfigError, InputError
from metaniche.io.datasets import DATASETS, load
from metaniche.io.datasets.registry import checksums, digest, local


def test_the_table_is_well_formed():
    assert len(checksums()) == 403
    for path, sha256 in checksums().items():
        assert re.fullmatch(r"[0-9a-f]{64}", sha256)
        assert re.fullmatch(r"[0-9a-f]{40}", PurePosixPath(path).parts[2]), "pinned to a commit"


def test_every_file_of_the_table_is_in_the_mirror_unaltered(mirror):
    for path, sha256 in checksums().items():
        assert hashlib.sha256((mirror / path).read_bytes()).hexdigest() == sha256, path


def test_every_file_belongs_to_one_dataset():
    prefixes = [prefix for name in DATASETS for prefix in load(name).FILES]
    assert all(sum(path.startswith(prefix) for prefix in prefixes) == 1 for path in checksums())


def test_the_version_of_a_dataset_follows_its_files(monkeypatch):
    versions = {name: digest(*load(name).FILES) for name in DATASETS}
    assert len(set(versions.values())) == 3
    path = next(p for p in checksums() if p.startswith(load("her2st").FILES))
    monkeypatch.setitem(checksums(), path, "0" * 64)
    changed = {name: digest(*load(name).FILES) for name in DATASETS}
    assert changed["her2st"] != versions["her2st"]
    assert changed["crc_codex"] == versions["crc_codex"]


def test_unlisted_files_and_unknown_names_are_refused():
    with pytest.raises(InputError, match="no known checksum"):
        local("owner/name/commit/file")
    with pytest.raises(ConfigError, match=r"among \['crc_codex', 'her2st', 'tnbc_mibi'\], found 'crc'"):
        load("crc")
