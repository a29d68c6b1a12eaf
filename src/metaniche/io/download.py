"""Public files by path and sha256: from a local mirror, the cache folder, or the network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

import pooch

from metaniche.errors import InputError
from metaniche.io.wording import reason, refusal

BASE_URL = "https://raw.githubusercontent.com/"
MIRROR = "METANICHE_MIRROR"
CACHE = "METANICHE_CACHE"


def fetch(repo_path: str, sha256: str) -> Path:
    """The local path of a public file whose content has this sha256.

    Parameters
    ----------
    repo_path
        "OWNER/NAME/COMMIT/PATH" below `BASE_URL`.
    sha256
        Checksum, 64 hexadecimal digits.

    With METANICHE_MIRROR set, the file is read from that folder, in place. Otherwise it is downloaded once to
    METANICHE_CACHE (by default the user's cache folder). Raises InputError when it is absent, unreachable or altered.
    """
    parts = PurePosixPath(repo_path).parts
    if not parts or ".." in parts or PurePosixPath(repo_path).is_absolute() or "\\" in repo_path:
        raise InputError(f"Expected a relative path OWNER/NAME/COMMIT/PATH, found {repo_path!r}.")
    mirror = os.environ.get(MIRROR)
    if mirror:
        return check_sha256(_mirrored(Path(mirror), repo_path), sha256)
    return _downloaded(cache_folder(), repo_path, sha256)


def cache_folder() -> Path:
    """Where downloads are kept: METANICHE_CACHE, or the user's cache folder of this platform."""
    return Path(os.environ.get(CACHE) or pooch.os_cache("metaniche"))


def check_sha256(path: Path, sha256: str) -> Path:
    """`path`, once its content is known to have this sha256. Raises InputError otherwise, and for a folder."""
    if path.is_dir():
        fix = "Leave its sha256 empty: a .zarr folder has none."
        raise refusal(path, expected=f"a file with sha256 {sha256}", found="a folder", fix=fix)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise refusal(
            path,
            expected=f"content with sha256 {sha256}",
            found=f"{found}",
            fix="The file is damaged or another version; fetch it again.",
        )
    return path


def _mirrored(mirror: Path, repo_path: str) -> Path:
    path = mirror / repo_path
    if not path.is_file():
        raise refusal(
            mirror,
            expected=f"a mirror ({MIRROR}) that holds {repo_path}",
            found="no such file",
            fix=f"Complete the mirror, or unset {MIRROR} to download from {BASE_URL}.",
        )
    return path


def _downloaded(cache: Path, repo_path: str, sha256: str) -> Path:
    store = pooch.create(cache, BASE_URL, registry={repo_path: f"sha256:{sha256}"}, retry_if_failed=2)
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(store.fetch(repo_path, downloader=pooch.HTTPDownloader(timeout=60, chunk_size=1 << 16)))
    except (OSError, ValueError) as error:
        raise refusal(
            f"{BASE_URL}{repo_path}",
            expected=f"a download with sha256 {sha256} into {cache}",
            found=reason(error),
            fix=f"Check the network and the disk and try again, or set {MIRROR} to a folder with a copy.",
        ) from error
