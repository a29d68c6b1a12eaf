"""Signals at their place in the tissue: the strongest edges between cells, and where signals come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.report.figures.spatial import mark_area, scale_bar, tinted_types, type_tints
from metaniche.report.figures.style import INK, new_figure, plain, said, styled

# Without its palest end, so that no arrow vanishes among grey cells.
_SIGNAL = ListedColormap(colormaps["viridis_r"](np.linspace(0.15, 1, 256)))
_WIDTH_IN = 7.2
_ARROW = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "units": "inches", "cmap": _SIGNAL, "zorder": 3}


@styled
def edge_map(
    positions_um: np.ndarray,
    edges: np.ndarray,
    signal: np.ndarray,
    types: Sequence[str] | None = None,
    n_edges: int = 2000,
    of: str = "",
) -> Figure:
    """Cells, and the strongest edges as arrows from sender to receiver, coloured by their signal, the strongest on top.

    Parameters
    ----------
    positions_um
        (N, 2) in micrometres; y points down, as in `spatial_map`.
    edges
        (2, E) int, sender over receiver, rows of `positions_um`.
    signal
        (E,) of any unit; edges without one, or with 0 or less, are not drawn.
    types
        (N,) cell types; the five most frequent have a tint of their own. None: all cells are grey.
    n_edges
        How many edges at most.
    of
        Whose signal it is, for the title.

    Raises InputError when shapes do not fit or an edge names a cell that is not there.
    """
    positions = _places(positions_um)
    edges, signal = np.asarray(edges), np.asarray(signal, dtype=float)
    if edges.ndim != 2 or edges.shape[0] != 2 or signal.shape != edges.shape[1:]:
        raise InputError(
            f"Expected edges of shape (2, E) and signal of shape (E,), found {edges.shape} and {signal.shape}."
        )
    if edges.size and not 0 <= edges.min() <= edges.max() < len(positions):
        raise InputError(
            f"Expected edges between cells 0 to {len(positions) - 1}, found {edges.min()} to {edges.max()}."
        )
    if types is not None and len(types) != len(positions):
        raise InputError(f"Expected a type for each of {len(positions)} cells, found {len(types)}.")
    carrying = np.flatnonzero(signal > 0)
    if not carrying.size:
        return said("No map: no edge carries a signal.", _WIDTH_IN)
    chosen = carrying[np.argsort(signal[carrying], kind="stable")][-n_edges:]
    figure, axes = _tissue(positions, types)
    start, end = positions[edges[0, chosen]], positions[edges[1, chosen]]
    arrows = axes.quiver(
        *start.T, *(end - start).T, signal[chosen], norm=_norm(signal[chosen]), width=0.014, headwidth=4, headlength=4.5,
        headaxislength=4, minlength=0.5, gid="edges", **_ARROW,
    )  # fmt: skip
    _color_bar(figure, axes, arrows, "Signal, from sender to receiver")
    axes.set_title(_titled(of, f"the strongest edges: {len(chosen)} of {carrying.size} with a signal"))
    return figure


@styled
def vector_field(
    positions_um: np.ndarray, direction: np.ndarray, strength: np.ndarray | None = None, bins: int = 25, of: str = ""
) -> Figure:
    """Mean direction of the cells in every square of a grid, as arrows over the cells; the longest spans nearly a square.

    Where few squares stand out, all above twice the 90th percentile have that length, and their colour tells them apart;
    arrows of less than a twenty-fifth of it are not drawn.

    Parameters
    ----------
    positions_um
        (N, 2) in micrometres; y points down, as in `spatial_map`.
    direction
        (N, 2) in the same axes, of any length; cells with NaN are left out. Directions that cancel leave a short arrow.
    strength
        (N,) at least 0: weight of each cell in the mean, and colour of the arrow (mean over the square). None: all
        cells weigh the same, and the colour is the length of the mean.
    bins
        Squares along the longer side of the tissue.
    of
        Whose direction it is, for the title.

    Raises InputError when shapes do not fit, or a strength is negative.
    """
    positions, direction = _places(positions_um), np.asarray(direction, dtype=float)
    weight = np.ones(len(positions)) if strength is None else np.asarray(strength, dtype=float)
    if direction.shape != positions.shape or weight.shape != positions.shape[:1] or (weight < 0).any() or bins < 1:
        raise InputError(
            f"Expected direction of shape {positions.shape}, strength of {positions.shape[:1]} and at least 0, and bins of at "
            f"least 1, found {direction.shape}, {weight.shape} with {np.nanmin(weight, initial=np.inf):g}, and {bins}."
        )
    if not len(positions):
        return said("No map: there is no cell.", _WIDTH_IN)
    field = _on_grid(positions, direction, weight, bins)
    length = np.hypot(field["u"], field["v"])
    if not (length > 0).any():
        return said("No map: no cell has a direction.", _WIDTH_IN)
    side = _square_um(positions, bins)
    figure, axes = _tissue(positions, None)
    color = length if strength is None else field["weight"]
    full = min(length.max(), 2 * np.percentile(length[length > 0], 90))
    drawn = length > 0.04 * full
    field, color, stretch = field[drawn], color[drawn], 0.95 * side / np.maximum(length, full)[drawn]
    arrows = axes.quiver(
        field["x"], field["y"], field["u"] * stretch, field["v"] * stretch, color, norm=_norm(color), width=0.016,
        pivot="middle", headwidth=3.8, headlength=4, headaxislength=3.6, minlength=0.2, gid="field", **_ARROW,
    )  # fmt: skip
    _color_bar(figure, axes, arrows, "Length of the mean direction" if strength is None else "Mean strength")
    axes.set_title(_titled(of, f"direction of the signal in squares of {side:.3g} µm (longest: {length.max():.3g})"))
    return figure


def _titled(of: str, text: str) -> str:
    return f"{plain(of, 40)}: {text}" if of else text[0].upper() + text[1:]


def _places(positions_um: np.ndarray) -> np.ndarray:
    positions = np.asarray(positions_um, dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
        raise InputError(f"Expected finite positions_um of shape (N, 2), found {positions.shape}.")
    return positions


def _square_um(positions: np.ndarray, bins: int) -> float:
    return float(np.ptp(positions, axis=0).max()) / bins or 1.0


def _on_grid(positions: np.ndarray, direction: np.ndarray, weight: np.ndarray, bins: int) -> pd.DataFrame:
    """A row per square that holds a direction: its centre x, y, the weighted mean u, v, and the mean weight."""
    known = np.isfinite(direction).all(axis=1) & np.isfinite(weight)
    side = _square_um(positions, bins)
    low, high = positions.min(axis=0), positions.max(axis=0)
    n_squares = np.maximum(np.ceil((high - low) / side - 1e-9), 1)
    corner = (low + high - n_squares * side) / 2
    # The outermost cells may stand on a border, which belongs to the square inside.
    at = np.clip((positions[known] - corner) // side, 0, n_squares - 1)
    parts = {"ix": at[:, 0], "iy": at[:, 1], "n": 1.0, "weight": weight[known]}
    parts |= dict(zip("uv", (direction[known] * weight[known, None]).T))
    sums = pd.DataFrame(parts).groupby(["ix", "iy"], as_index=False).sum()
    sums = sums[sums["weight"] > 0]
    u, v = (sums[c] / sums["weight"] for c in "uv")
    x, y = (corner[k] + (sums[c] + 0.5) * side for k, c in enumerate(("ix", "iy")))
    return pd.DataFrame({"x": x, "y": y, "u": u, "v": v, "weight": sums["weight"] / sums["n"]})


def _tissue(positions: np.ndarray, types: Sequence[str] | None) -> tuple[Figure, Axes]:
    """The cells in quiet tints, with a scale bar and, where there are types, their legend."""
    cells = pd.DataFrame(positions, columns=["x_um", "y_um"])
    if types is not None:
        cells[keys.CELL_TYPE] = np.asarray(types, dtype=object)
    tints = type_tints(cells)
    width, height = np.ptp(positions, axis=0)
    figure = new_figure(_WIDTH_IN, 0.9 + 6.0 * float(np.clip(height / max(width, 1e-9), 0.3, 1.5)))
    axes = figure.add_subplot()
    colors = [tints[t] for t in tinted_types(cells, tints)]
    axes.scatter(*positions.T, s=1.5 * mark_area(*positions.T), c=colors, lw=0, rasterized=True, gid="cells")
    axes.set_aspect("equal", anchor="NW")
    axes.margins(0.02)
    axes.invert_yaxis()
    axes.set_axis_off()
    scale_bar(axes, width or 1.0)
    if types is not None:
        marks = [Line2D([], [], ls="", marker="o", ms=5, color=c, label=plain(t, 24)) for t, c in tints.items()]
        figure.legend(handles=marks, loc="outside lower left", ncols=3, fontsize=8, handletextpad=0.2)
    return figure, axes


def _norm(values: np.ndarray) -> Normalize:
    low, high = np.percentile(values, (1, 99))
    return Normalize(low, high) if high > low else Normalize(0.0, float(np.max(values)))


def _color_bar(figure: Figure, axes: Axes, arrows, label: str) -> None:
    bar = figure.colorbar(arrows, ax=axes, shrink=0.6, aspect=30, pad=0.02, extend="both", panchor=False)
    bar.set_label(label, color=INK)
    bar.outline.set_visible(False)
