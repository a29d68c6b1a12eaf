import pytest

from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig
from metaniche.io.settings import build


def test_values_become_fields_and_lists_tuples():
    assert build(GraphConfig, {"radius_um": 99.0}, "graph").radius_um == 99.0
    assert build(
        Task, {"name": "m", "title": "M", "kind": "binary", "label": "y", "positive": [1]}, "task"
    ).positive == (1,)
    assert build(GraphConfig, None, "graph") == GraphConfig()


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match=r"graph\.radius.*Did you mean 'radius_um'.*Known: builder"):
        build(GraphConfig, {"radius": 3}, "graph")


def test_another_kind_is_refused_with_what_was_found():
    with pytest.raises(ConfigError, match=r"`graph\.radius_um` to be a number, found 'far'"):
        build(GraphConfig, {"radius_um": "far"}, "graph")


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="`task` is incomplete"):
        build(Task, {"title": "t"}, "task")
