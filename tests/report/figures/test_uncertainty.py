import numpy as np
import pandas as pd

from metaniche.report.figures import conformal


def table():
    nominal = np.linspace(0.5, 0.95, 10)
    return pd.DataFrame(
        {
            "alpha": (1 - nominal).round(2), "nominal": nominal, "coverage": nominal + 0.01, "coverage_0": nominal,
            "coverage_1": nominal + 0.02, "certain": nominal[::-1], "accuracy": np.linspace(0.7, 0.95, 10),
        }
    )  # fmt: skip


def test_lines_are_those_of_the_table():
    held, decided = conformal(table()).axes
    lines = {line.get_gid(): line for line in held.lines}
    for column in ("coverage", "coverage_0", "coverage_1"):
        np.testing.assert_allclose(lines[column].get_ydata(), table()[column])
    (accuracy,) = decided.lines
    assert (np.diff(accuracy.get_xdata()) > 0).all()


def test_without_units_it_says_so():
    figure = conformal(table().iloc[:0])
    assert "No conformal sets" in figure.axes[0].texts[0].get_text()
