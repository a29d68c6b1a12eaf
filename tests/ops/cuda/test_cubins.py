import multiprocessing
import os

import pytest

from metaniche.errors import KernelError
from metaniche.ops.cuda import compile, cubins

DEFINES = {"DIM": 2, "THREADS": 256}


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A compiler that counts, a cache of its own and no pack."""
    calls = []
    monkeypatch.setenv(cubins.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cubins, "PACK", tmp_path / "pack")
    monkeypatch.setattr(compile, "nvrtc_version", lambda: (13, 0))
    monkeypatch.setattr(compile, "prefer", lambda major: None)
    monkeypatch.setattr(compile, "compile_cubin", lambda *args: calls.append(args) or (b"\x7fELF code", "log"))
    return calls


def test_nvrtc_runs_once_and_the_cache_after_it(compiler):
    assert cubins.cubin("hilbert", DEFINES, "sm_90") == (b"\x7fELF code", "nvrtc")
    assert cubins.cubin("hilbert", DEFINES, "sm_90") == (b"\x7fELF code", "cache")
    assert cubins.cubin("hilbert", DEFINES, "sm_80")[1] == "nvrtc"
    assert len(compiler) == 2


def test_the_pack_comes_first(compiler):
    key = compile.fingerprint("hilbert", DEFINES, "sm_90")
    cubins.write_pack(cubins.pack_path("sm_90", 13), [("other", b"\n\x00"), (key, b"packed\n")])
    assert cubins.cubin("hilbert", DEFINES, "sm_90", driver=(13, 0)) == (b"packed\n", "pack")
    assert compiler == []


def test_machine_code_for_newer_drivers_is_not_taken(compiler):
    key = compile.fingerprint("hilbert", DEFINES, "sm_90")
    cubins.write_pack(cubins.pack_path("sm_90", 13), [(key, b"for 13")])
    with pytest.raises(KernelError, match=r"NVRTC 13.0 .*CUDA 12.8"):
        cubins.cubin("hilbert", DEFINES, "sm_90", driver=(12, 8))
    cubins.write_pack(cubins.pack_path("sm_90", 12), [(key, b"for 12")])
    assert cubins.cubin("hilbert", DEFINES, "sm_90", driver=(12, 8))[0] == b"for 12"
    assert cubins.cubin("hilbert", DEFINES, "sm_90", driver=(13, 1))[0] == b"for 13"


def test_the_nvrtc_of_an_older_driver_is_taken_where_it_is_installed(compiler, monkeypatch):
    found = [13]
    monkeypatch.setattr(compile, "nvrtc_version", lambda: (found[-1], 0))
    monkeypatch.setattr(compile, "prefer", found.append)
    assert cubins.cubin("hilbert", DEFINES, "sm_90", driver=(12, 8))[1] == "nvrtc"


def test_a_damaged_cache_is_compiled_again(compiler):
    cubins.cubin("hilbert", DEFINES, "sm_90")
    (file,) = cubins.cache_folder().glob("*.cubin")
    file.write_bytes(file.read_bytes()[:-3])
    assert cubins.cubin("hilbert", DEFINES, "sm_90")[1] == "nvrtc"
    assert cubins.cubin("hilbert", DEFINES, "sm_90")[1] == "cache"


def test_a_cache_that_cannot_be_written_is_no_error(compiler, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cubins.VARIABLE, str(tmp_path / "file"))
    assert cubins.cubin("hilbert", DEFINES, "sm_90")[1] == "nvrtc"
    assert "compiled again" in caplog.text


def test_a_damaged_pack_is_named(compiler):
    path = cubins.pack_path("sm_90", 13)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no xz")
    with pytest.raises(KernelError, match=r"sm_90-cuda13\.xz"):
        cubins.cubin("hilbert", DEFINES, "sm_90")


def test_the_cache_stands_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv(cubins.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cubins.cache_folder() == tmp_path / "metaniche"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cubins.cache_folder().parts[-2:] == (".cache", "metaniche")


def write_often(path, letter):
    for _ in range(200):
        cubins._write_cached(path, letter * 5000)


def test_many_processes_may_write_one_file(tmp_path):
    path = tmp_path / "x.cubin"
    writers = [multiprocessing.get_context("fork").Process(target=write_often, args=(path, c)) for c in (b"a", b"b")]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        code = cubins._read_cached(path)
        assert code is None or code in (b"a" * 5000, b"b" * 5000)
        assert code is not None or not seen, "a file that was whole is no longer"
        seen |= {code} - {None}
    for writer in writers:
        writer.join()
    assert seen
    assert os.listdir(tmp_path) == ["x.cubin"]
