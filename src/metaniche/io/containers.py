"""Is this h5ad or zarr store safe to open? Looked at before anything in it is read.

A spatial file comes from other people. HDF5 lets a file point to any other file on the reader's disk, and both
formats let a few kilobytes claim to be gigabytes; zarr can name a codec that runs code. None of that is needed to
store an AnnData.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from metaniche.errors import InputError
from metaniche.io.wording import listed, reason, refusal

MAX_BYTES = 64 * 2**30
# deflate, the most common filter, cannot shrink more than 1032-fold.
MAX_COMPRESSION = 1100
SMALL_BYTES = 256 * 2**20

_SHORTENING = {"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"}
_REARRANGING = {"bytes", "delta", "endian", "packbits", "sharding_indexed", "shuffle", "transpose"}
_ROUNDING = {"astype", "bitround", "fixedscaleoffset", "quantize"}
_CHECKING = {"adler32", "crc32", "crc32c", "fletcher32"}
_TEXT = {"vlen-array", "vlen-bytes", "vlen-utf8"}
_CODECS = _SHORTENING | _REARRANGING | _ROUNDING | _CHECKING | _TEXT
_METADATA = frozenset({".zarray", ".zattrs", ".zmetadata", "zarr.json"})
_NEVER_READ_WHOLE = (("images",), ("labels",))
_REWRITE = "Open it where it was made and save it again with adata.write_h5ad() or adata.write_zarr()."


def check_h5(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Walk an HDF5 file without reading its arrays.

    Raises InputError for a file that is not HDF5 or cut short, links or storage outside the file, virtual datasets,
    link cycles, filters that are not installed, and arrays that claim more bytes than are plausible.
    """
    try:
        with h5py.File(path, "r") as file:
            total = sum(_checked_bytes(path, dataset) for dataset in _datasets(path, file, ()))
    except InputError:
        raise
    except Exception as error:
        raise refusal(
            path,
            expected="a complete HDF5 file (h5ad)",
            found=reason(error),
            fix="The file is truncated or damaged; copy or download it again and compare its size or sha256.",
        ) from error
    _check_total(path, total, max_bytes)


def _datasets(path: Path, group: h5py.Group, above: tuple[int, ...]) -> Iterator[h5py.Dataset]:
    """Every dataset below a group; each link is looked at before it is followed."""
    address = h5py.h5o.get_info(group.id).addr
    if address in above:
        raise refusal(path, expected="a tree of groups", found=f"a link back from {group.name!r}", fix=_REWRITE)
    for name in group:
        key = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            outside = f"an external link to {link.filename!r}"
            raise refusal(path, expected=f"{key!r} to be inside the file", found=outside, fix=_REWRITE)
        if isinstance(link, h5py.SoftLink):
            raise refusal(
                path,
                expected=f"{key!r} to be stored in place",
                found=f"a link to {link.path!r}",
                fix=_REWRITE,
            )
        child = group[name]
        if isinstance(child, h5py.Group):
            yield from _datasets(path, child, (*above, address))
        elif isinstance(child, h5py.Dataset):
            yield child


def _checked_bytes(path: Path, dataset: h5py.Dataset) -> int:
    """Bytes that the dataset claims, once nothing about its storage is out of order."""
    plist = dataset.id.get_create_plist()
    key = repr(dataset.name)
    if plist.get_external_count():
        outside = f"external storage in {plist.get_external(0)[0].decode(errors='replace')!r}"
        raise refusal(path, expected=f"{key} to be inside the file", found=outside, fix=_REWRITE)
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise refusal(path, expected=f"{key} to be stored", found="a virtual dataset over other files", fix=_REWRITE)
    for code, *_, name in (plist.get_filter(i) for i in range(plist.get_nfilters())):
        if not h5py.h5z.filter_avail(code):
            raise refusal(
                path,
                expected=f"{key} to be compressed with an installed filter",
                found=f"filter {code} ({name.decode(errors='replace')})",
                fix="Install hdf5plugin, or save the file again with compression='gzip'.",
            )
    claimed = (dataset.size or 0) * dataset.dtype.itemsize
    _check_claim(path, dataset.name, claimed, dataset.id.get_storage_size())
    return claimed


def check_zarr(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Walk a zarr folder without reading its arrays.

    Raises InputError for symbolic links, metadata that is not JSON, codecs outside the known list, names that lead
    out of the store, and arrays that claim more bytes than are plausible. Images and label masks of a SpatialData
    store may be of any size: they are never read whole.
    """
    claims: dict[Path, int] = {}
    for folder, folders, names in os.walk(path):
        links = [name for name in (*folders, *names) if (Path(folder) / name).is_symlink()]
        if links:
            raise refusal(
                folder,
                expected="files inside the store",
                found=f"symbolic links {listed(links)}",
                fix=_REWRITE,
            )
        for name in _METADATA.intersection(names):
            file = Path(folder) / name
            for key, array in _arrays(_json(file)):
                _check_codecs(file, array)
                place = Path(folder) / _inside(file, key)
                claims[place] = max(claims.get(place, 0), _claimed_bytes(file, array))
    read = {place: n for place, n in claims.items() if place.relative_to(path).parts[:1] not in _NEVER_READ_WHOLE}
    for place, claimed in read.items():
        _check_claim(path, str(place.relative_to(path)), claimed, _stored_bytes(place))
    _check_total(path, sum(read.values()), max_bytes)


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise refusal(file, expected="zarr metadata in JSON", found=str(error), fix=_REWRITE) from error


def _arrays(node: object, key: str = "") -> Iterator[tuple[str, dict]]:
    """Every array description in a metadata file, with its name; consolidated metadata holds many."""
    if not isinstance(node, dict):
        return
    if "shape" in node and not node.keys().isdisjoint({"codecs", "compressor", "filters"}):
        yield key, node
    for name, child in node.items():
        if name != "attributes":
            yield from _arrays(child, name)


def _inside(file: Path, key: str) -> PurePosixPath:
    """Folder of a consolidated array, relative to its metadata file."""
    place = PurePosixPath(key.removesuffix(".zarray"))
    if place.is_absolute() or ".." in place.parts:
        raise refusal(file, expected="arrays inside the store", found=f"{key!r}", fix=_REWRITE)
    return place


def _check_codecs(file: Path, array: dict) -> None:
    named = [*(array.get("codecs") or ()), array.get("compressor"), *(array.get("filters") or ())]
    for codec in named:
        name = str(codec.get("name", codec.get("id"))) if isinstance(codec, dict) else codec
        if name is not None and str(name).removeprefix("numcodecs.") not in _CODECS:
            raise refusal(file, expected="a codec that only stores numbers or text", found=f"{name!r}", fix=_REWRITE)
        if isinstance(codec, dict) and isinstance(codec.get("configuration"), dict):
            _check_codecs(file, codec["configuration"])


def _claimed_bytes(file: Path, array: dict) -> int:
    shape = array["shape"]
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise refusal(file, expected="a shape of whole numbers", found=repr(shape), fix=_REWRITE)
    try:
        item = np.dtype(array.get("dtype", array.get("data_type"))).itemsize
    except (TypeError, ValueError):
        item = 1  # text and other types of variable length
    return prod(shape) * max(item, 1)


def _stored_bytes(folder: Path) -> int:
    return sum((Path(parent) / name).stat().st_size for parent, _, names in os.walk(folder) for name in names)


def _check_claim(path: Path, key: str, claimed: int, stored: int) -> None:
    if claimed > SMALL_BYTES and claimed > MAX_COMPRESSION * stored:
        raise refusal(
            path,
            expected=f"{key!r} to store what it claims",
            found=f"{claimed:,} bytes claimed and {stored:,} stored",
            fix="The file is truncated, empty or hostile; save it again from its source.",
        )


def _check_total(path: Path, total: int, max_bytes: int) -> None:
    if total > max_bytes:
        raise refusal(
            path,
            expected=f"at most {max_bytes:,} bytes of arrays",
            found=f"{total:,}",
            fix="Split it into one file per sample, or pass a larger max_bytes.",
        )
