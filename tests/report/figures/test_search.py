import pandas as pd

from metaniche.report.figures import search_history


def table():
    return pd.DataFrame(
        {
            "repeat": 0, "fold": [0, 0, 0, 1, 1], "number": [0, 1, 2, 0, 1],
            "state": ["complete", "complete", "fail", "complete", "complete"], "value": [0.6, 0.5, None, 0.4, 0.7],
        }
    )  # fmt: skip


def test_the_best_so_far_never_falls_and_a_failed_trial_is_not_drawn():
    (axes,) = search_history(table()).axes
    steps = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_label().startswith("fold")}
    assert steps == {"fold 1": [0.6, 0.6], "fold 2": [0.4, 0.7]}


def test_a_search_without_a_score_says_so():
    figure = search_history(table().assign(state="fail", value=None))
    assert "No trial has a score yet" in "".join(
        text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))
    )
