import pytest
from verbs import TINY, run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder in which a tiny network was trained, and what the command said."""
    folder = tmp_path_factory.mktemp("trained")
    status, said = run("train", folder, "run_name=tiny", "keep_held_out=true", *TINY)
    assert status == 0, said
    return folder, said
