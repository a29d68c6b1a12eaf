import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from metaniche.errors import InputError
from metaniche.io import download
from metaniche.io.download import cache_folder, check_sha256, fetch

CONTENT = b"cells"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "owner/name/commit/some folder/a+b.txt"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source" / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return tmp_path / "source"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(source, tmp_path, monkeypatch):
    """The source folder behind http on this machine, in place of the real address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=source)) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(download, "BASE_URL", f"http://127.0.0.1:{httpd.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("METANICHE_MIRROR", raising=False)
        monkeypatch.setenv("METANICHE_CACHE", str(tmp_path / "cache"))
        yield source
        httpd.shutdown()


def test_a_mirror_is_read_in_place(source, tmp_path, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(source))
    monkeypatch.setenv("METANICHE_CACHE", str(tmp_path / "cache"))
    assert fetch(PATH, SHA256) == source / PATH
    assert not (tmp_path / "cache").exists()


def test_an_altered_mirror_is_refused(source, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(source))
    (source / PATH).write_bytes(b"other")
    with pytest.raises(InputError, match=f"content with sha256 {SHA256}"):
        fetch(PATH, SHA256)


def test_an_incomplete_mirror_is_named(source, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(source))
    with pytest.raises(InputError, match=r"METANICHE_MIRROR.*holds owner/gone.*unset METANICHE_MIRROR"):
        fetch("owner/gone", SHA256)


def test_a_download_is_kept_and_not_repeated(server, tmp_path):
    path = fetch(PATH, SHA256)
    assert path == tmp_path / "cache" / PATH
    assert path.read_bytes() == CONTENT
    (server / PATH).unlink()
    assert fetch(PATH, SHA256) == path


def test_a_damaged_cache_is_downloaded_again(server):
    fetch(PATH, SHA256).write_bytes(b"half")
    assert fetch(PATH, SHA256).read_bytes() == CONTENT


def test_an_altered_download_is_refused_and_not_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    (server / PATH).write_bytes(b"other")
    with pytest.raises(InputError, match=f"a download with sha256 {SHA256}.*METANICHE_MIRROR"):
        fetch(PATH, SHA256)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_an_unreachable_source_is_an_input_error(server, monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    with pytest.raises(InputError, match=r"owner/gone.*404.*Check the network"):
        fetch("owner/gone", SHA256)


@pytest.mark.parametrize("path", ["../secret", "a/../../b", "/etc/passwd", "a\\..\\b", ""])
def test_a_path_cannot_leave_its_folder(path):
    with pytest.raises(InputError, match="relative path OWNER/NAME/COMMIT/PATH"):
        fetch(path, SHA256)


def test_the_cache_is_the_users_unless_set(monkeypatch, tmp_path):
    monkeypatch.delenv("METANICHE_CACHE", raising=False)
    assert cache_folder().name == "metaniche"
    monkeypatch.setenv("METANICHE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_sha256_in_capitals(source):
    assert check_sha256(source / PATH, SHA256.upper()) == source / PATH


def test_a_folder_has_no_sha256(tmp_path):
    with pytest.raises(InputError, match=r"found a folder\. Leave its sha256 empty"):
        check_sha256(tmp_path, SHA256)
