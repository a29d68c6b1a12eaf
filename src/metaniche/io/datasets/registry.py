"""The table of public files that the named cohorts read: path below the download address, and sha256."""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from metaniche.errors import InputError
from metaniche.io.download import fetch


@cache
def checksums() -> dict[str, str]:
    """repo_path -> sha256 of every file that a named cohort reads."""
    with (files(__package__) / "registry.csv").open(encoding="utf-8", newline="") as file:
        return {row["repo_path"]: row["sha256"] for row in csv.DictReader(file)}


def local(repo_path: str) -> Path:
    """A registered file on this machine, fetched when needed. Raises InputError if it is not in the table."""
    if repo_path not in checksums():
        raise InputError(f"Expected a file listed in registry.csv, found {repo_path!r}: it has no known checksum.")
    return fetch(repo_path, checksums()[repo_path])


def digest(*prefixes: str) -> str:
    """sha256 over the checksums of all files below these prefixes: the version of a cohort's data."""
    rows = sorted(f"{path} {sha}\n" for path, sha in checksums().items() if path.startswith(prefixes))
    return hashlib.sha256("".join(rows).encode()).hexdigest()
