"""AnnData and tables -> files, all or nothing: a reader never sees half a file, and a failed write leaves the old one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from metaniche.io.wording import reason, refusal

SUFFIXES = (".h5ad", ".zarr")  # of the samples that are read and written


def write_sample(adata: AnnData, path: str | Path) -> Path:
    """Write h5ad or zarr, by suffix, atomically.

    gzip is used in h5ad because its checksum is the only integrity check that h5ad has.

    Raises InputError for another suffix, an absent folder, or content that anndata cannot store.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise refusal(
            path,
            expected="a path ending in .h5ad or .zarr",
            found=repr(path.suffix),
            fix="Rename the output.",
        )
    with replacing(path) as temporary:
        try:
            if path.suffix == ".h5ad":
                adata.write_h5ad(temporary, compression="gzip", convert_strings_to_categoricals=False)
            else:
                adata.write_zarr(temporary, convert_strings_to_categoricals=False)
        except OSError:
            raise
        except Exception as error:
            raise refusal(
                path,
                expected="content that anndata can store",
                found=reason(error),
                fix="Remove or convert the key named above.",
            ) from error
    return path


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a flat table without its index, atomically; its folder is made where it is absent."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_csv(table: pd.DataFrame, path: Path, *, index: bool = True) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=index)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, whole or not at all; numbers of numpy and paths become plain."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain))


@contextmanager
def replacing(path: Path, leave: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it when the block ends well and removed when it does not.

    A folder that is there by then stays where `leave()` says so: one that is replaced is gone for a moment, in which another
    process may look for it.

    The temporary stands in the same folder because a move across file systems is a copy, which can be cut short.
    Raises InputError if the folder does not exist.
    """
    if not path.parent.is_dir():
        raise refusal(path, expected="an existing folder", found=f"none at {path.parent}", fix="Create it first.")
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary = scratch / path.name
    try:
        yield temporary
        for each in (temporary, *temporary.rglob("*")):
            _sync(each)
        _move_onto(temporary, path, leave)
        _sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _move_onto(temporary: Path, path: Path, leave: Callable[[], bool]) -> None:
    """`os.replace`, also for a folder: the old one steps aside, and comes back if the new one cannot take its place."""
    try:
        os.replace(temporary, path)
        return
    except OSError:
        if not path.is_dir():
            raise
    if leave():
        return
    previous = temporary.parent / "previous"
    os.replace(path, previous)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(previous, path)
        raise


def _sync(path: Path) -> None:
    """Force a file, or the list of names in a folder, onto the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
