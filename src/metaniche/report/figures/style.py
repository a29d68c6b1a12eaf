"""One look for every figure: colour-blind-safe colours, sizes for a page 940 px wide, and the research-use line."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from metaniche.io.keys import RESEARCH_USE_ONLY

INK, SOFT, FAINT, HAIR = "#1F2933", "#5F6B7A", "#B8C0CA", "#E4E8ED"
# Okabe-Ito, told apart with the common colour-vision deficiencies; in grey print markers and dashes tell apart.
KIND_COLOR = {"network": "#0072B2", "fused": "#009E73", "clinical": "#D55E00", "baseline": "#4A5560"}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4A5560")
# From white towards the colour, and from it towards black.
_SHADES = ((1.0, 0.0), (0.55, 0.45), (0.62, 0.0), (0.3, 0.7))
DASHES = ("-", (0, (3, 2)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

_RC = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    # A sample called "a$b$" is a name, not a formula.
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "butt",
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "metaniche",
}
# Of a text beside the row of a plot of intervals.
BESIDE = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "fontsize": 8}
_Arguments = ParamSpec("_Arguments")


class ReportFigure(Figure):
    """A Figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return to_bytes(self, "png")


def styled(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, Figure]:
    """Run a drawing function in the house style and sign its Figure with the research-use line."""

    @wraps(draw)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Figure:
        with rc_context(_RC):
            figure = draw(*args, **kwargs)
            figure.supxlabel(RESEARCH_USE_ONLY, x=0.995, ha="right", fontsize=6.5, color=SOFT)
            figure.draw_without_rendering()  # axes of equal aspect take their room at the second draw only
        return figure

    return wrapped


def new_figure(width_in: float, height_in: float) -> Figure:
    return ReportFigure(figsize=(width_in, height_in), layout="constrained")


def as_rows(axes: Axes) -> None:
    """The look of axes whose rows hold an interval each."""
    axes.grid(axis="x", color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def said(text: str, width_in: float = 4.7, height_in: float = 2.0) -> Figure:
    """A Figure that says why there is nothing to draw."""
    figure = new_figure(width_in, height_in)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, wrap=True, transform=axes.transAxes)
    return figure


def plain(text: object, limit: int = 36) -> str:
    """A name from a file as a label: printable, of limited length, never hidden by a leading underscore."""
    label = "".join(c for c in str(text) if c.isprintable())
    label = label if len(label) <= limit else label[: limit - 1] + "…"
    return f" {label}" if label.startswith("_") else label


def colors_of(names: Sequence[str], kinds: Mapping[str, str] | None) -> dict[str, tuple[str, object]]:
    """Colour and dash of each name: by kind where kinds are given, the dash telling apart two of one kind."""
    looks, seen = {}, {}
    for i, name in enumerate(names):
        color = KIND_COLOR.get((kinds or {}).get(name, ""), CYCLE[i % len(CYCLE)])
        # A fused model often equals its network: dashed above it, both are seen.
        seen.setdefault(color, int((kinds or {}).get(name) == "fused"))
        looks[name] = (color, DASHES[seen[color] % len(DASHES)])
        seen[color] += 1
    return looks


def shades_of(n: int) -> list[str]:
    """A colour for each of n names; neighbours in the list differ in hue, and 28 in some way."""
    looks = []
    for i in range(n):
        share, white = _SHADES[(i // len(CYCLE)) % len(_SHADES)]
        looks.append(to_hex(share * np.array(to_rgb(CYCLE[i % len(CYCLE)])) + white))
    return looks


def to_bytes(figure: Figure, kind: str, dpi: int = 170) -> bytes:
    """The figure as svg or png bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context(_RC):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def data_uri(figure: Figure, kind: str = "svg") -> str:
    """The figure as a data URI, so that a page needs no second file."""
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(to_bytes(figure, kind)).decode('ascii')}"
