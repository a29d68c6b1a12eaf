from verbs import TINY, run


def test_a_second_call_does_nothing(tmp_path):
    first, said = run("prepare", tmp_path, *TINY[:3])
    assert first == 0, said
    assert "12 patients, 12 samples" in said
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "prepared").rglob("*") if p.is_file()}
    second, said = run("prepare", tmp_path, *TINY[:3])
    assert second == 0
    assert "Preparing" not in said
    assert {p: p.stat().st_mtime_ns for p in files} == files
