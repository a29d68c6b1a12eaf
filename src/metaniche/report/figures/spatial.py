"""Maps of samples: cells at their place in the tissue, coloured by a value, the others in grey by type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import cKDTree

from metaniche.io import keys
from metaniche.report.figures.style import INK, SOFT, new_figure, plain, said, styled

_GREYS = ("#CFCFCF", "#9DB6CE", "#D2BA98", "#A8C49A", "#CBA8C2", "#E0E0E0")
_WORDS = {keys.POTENTIAL: "Metastatic potential (malignant cells)", keys.ATTENTION: "Attention (1 = equal share)"}
_COLORS = {keys.POTENTIAL: colormaps["viridis"]}
# Without its palest end, so that no cell vanishes on white.
_OTHER = ListedColormap(colormaps["BuPu"](np.linspace(0.2, 1, 256)))
# A scale that spans less would show what is practically equal in all its colours.
_LEAST_SPAN = {keys.POTENTIAL: 0.1, keys.ATTENTION: 0.5}
_PANEL_IN = 4.1


@styled
def spatial_map(
    cells: pd.DataFrame,
    samples: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    value: str = keys.POTENTIAL,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
) -> Figure:
    """One panel per sample, one colour scale for all, a scale bar in micrometres.

    Parameters
    ----------
    cells
        Rows of cells: sample_id, x_um, y_um, the value column; optional cell_type and is_malignant. Cells without a
        value (and, for the metastatic potential, cells that are not malignant) are grey.
    samples
        Which samples, in order; None: the first four.
    titles
        sample_id -> panel title.
    limits
        Ends of the colour scale; None: the 1st and 99th percentile of what is drawn, and apart by 0.1 at least for the
        metastatic potential, by 0.5 for attention.
    label
        Of the colour scale; None: the words for `value`.
    """
    if value not in cells or cells.empty:
        return said(f"No map: no cell has `{value}`.", 9.4)
    ids = cells[keys.SAMPLE].astype(str)
    samples = list(dict.fromkeys(ids))[:4] if samples is None else list(samples)
    shown = cells[ids.isin(samples)].assign(sample_id=ids)
    valued = shown[value].notna()
    if value == keys.POTENTIAL and keys.MALIGNANT in shown:
        valued &= shown[keys.MALIGNANT].fillna(False).astype(bool)
    if not valued.any():
        return said(f"No map: no cell of the chosen samples has `{value}`.", 9.4)
    norm = Normalize(*(limits or _ends(shown.loc[valued, value].to_numpy(float), _LEAST_SPAN.get(value, 1e-6))))
    tints = type_tints(shown[~valued])
    columns = min(2, len(samples))
    heights = _row_heights(shown, samples, columns)
    figure = new_figure(_PANEL_IN * columns + 1.2, sum(heights) + 0.45 * len(heights) + 0.5)
    panels = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, sample in zip(panels, samples):
        here = shown["sample_id"] == sample
        _panel(axes, shown[here], valued[here], value, norm, tints, (titles or {}).get(sample, sample))
    bar = figure.colorbar(
        panels[0].collections[-1], ax=list(panels), shrink=0.7, aspect=30, pad=0.02, extend="both", panchor=False
    )
    bar.set_label(label or _WORDS.get(value, plain(value)))
    bar.outline.set_visible(False)
    marks = [Line2D([], [], ls="", marker="o", ms=5, color=c, label=plain(t, 24)) for t, c in tints.items()]
    if marks:
        figure.legend(handles=marks, loc="outside lower left", ncols=3, fontsize=8, handletextpad=0.2)
    return figure


def _panel(
    axes: Axes, cells: pd.DataFrame, valued: pd.Series, value: str, norm: Normalize, tints: dict, title: str
) -> None:
    x, y = cells["x_um"].to_numpy(float), cells["y_um"].to_numpy(float)
    size = mark_area(x, y)
    greys = np.array([tints.get(t, _GREYS[-1]) for t in tinted_types(cells[~valued], tints)])
    on = valued.to_numpy()
    axes.scatter(x[~on], y[~on], s=size, c=greys if greys.size else None, lw=0, rasterized=True)
    axes.scatter(
        x[on],
        y[on],
        s=size,
        c=cells.loc[valued, value],
        norm=norm,
        cmap=_COLORS.get(value, _OTHER),
        lw=0,
        rasterized=True,
    )
    axes.set_aspect("equal", anchor="NW")
    axes.margins(0.02)
    axes.invert_yaxis()
    axes.set_title(plain(title, 52), fontsize=9)
    scale_bar(axes, np.ptp(x) if len(x) else 1.0)


def _ends(values: np.ndarray, least: float) -> tuple[float, float]:
    """The 1st and 99th percentile, moved apart to `least` and, where all values are shares, kept within 0 and 1."""
    low, high = np.percentile(values, (1, 99))
    missing = max(least - (high - low), 0.0)
    low, high = low - missing / 2, high + missing / 2
    if values.min() >= 0 and low < 0:
        low, high = 0.0, high - low
    if values.max() <= 1 < high:
        low, high = low - (high - 1), 1.0
    return float(low), float(high)


def _row_heights(cells: pd.DataFrame, samples: list[str], columns: int) -> list[float]:
    """Inches that each row of panels needs at the width of a panel; long tissues are kept within a page."""
    groups = cells.groupby("sample_id")[["x_um", "y_um"]]
    extent = (groups.max() - groups.min()).reindex(samples)
    shape = (extent["y_um"] / extent["x_um"].replace(0, np.nan)).fillna(1.0).clip(0.3, 1.6).to_numpy()
    return [_PANEL_IN * float(shape[i : i + columns].max()) for i in range(0, len(samples), columns)]


def mark_area(x: np.ndarray, y: np.ndarray) -> float:
    """Marker area in points^2: as wide as the usual distance to the nearest cell, so that marks touch, not cover."""
    if len(x) < 2:
        return 30.0
    nearest, _ = cKDTree(np.column_stack((x, y))).query(np.column_stack((x, y))[:: max(1, len(x) // 2000)], k=2)
    extent = max(np.ptp(x), np.ptp(y), 1e-9)
    return float(np.clip(np.median(nearest[:, 1]) / extent * _PANEL_IN * 72, 1.5, 9.0) ** 2)


def type_tints(cells: pd.DataFrame) -> dict[str, str]:
    """A quiet tint for each of the five most frequent types, one for the rest."""
    if keys.CELL_TYPE not in cells:
        return {"other cells": _GREYS[0]} if len(cells) else {}
    counts = cells[keys.CELL_TYPE].astype("object").fillna("type not known").astype(str).value_counts()
    tints = dict(zip(counts.index[:5], _GREYS))
    return tints | ({"other types": _GREYS[-1]} if len(counts) > 5 else {})


def tinted_types(cells: pd.DataFrame, tints: dict[str, str]) -> pd.Series:
    if keys.CELL_TYPE not in cells:
        return pd.Series("other cells", index=cells.index)
    names = cells[keys.CELL_TYPE].astype("object").fillna("type not known").astype(str)
    return names.where(names.isin(list(tints)), "other types")


def scale_bar(axes: Axes, width_um: float) -> None:
    """A bar of a round length near a fifth of the panel, below the tissue at the left."""
    wanted = max(width_um / 5, 1e-9)
    step = 10 ** np.floor(np.log10(wanted))
    length = step * max(m for m in (1, 2, 5) if m * step <= wanted)
    left = axes.get_xlim()[0] + 0.02 * width_um
    transform = axes.get_xaxis_transform()
    axes.plot([left, left + length], [-0.025, -0.025], color=INK, lw=2.5, transform=transform, clip_on=False)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    axes.text(left + length, -0.025, f"  {label}", va="center", fontsize=8, color=SOFT, transform=transform)
