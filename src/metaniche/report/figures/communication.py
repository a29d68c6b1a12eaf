"""Signals between cell types: how many and which of them stand out, who sends them to whom, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Rectangle, Wedge
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.wording import listed
from metaniche.report.figures.style import (
    FAINT,
    HAIR,
    INK,
    SOFT,
    colors_of,
    new_figure,
    plain,
    said,
    shades_of,
    styled,
)
from metaniche.report.vocabulary import number

_COUNTS, _SIGNED = colormaps["BuPu"], colormaps["RdBu_r"].with_extremes(bad=FAINT)
_NOT_TESTED = {"facecolor": "white", "edgecolor": FAINT, "hatch": "////", "lw": 0}
_CAP = 6.0  # of -log10 q: beyond it a tail in closed form is finer than what it stands on
_SMALLEST, _LARGEST = 10.0, 110.0  # areas of dots in points^2
_HEATMAP = {
    "n_significant": "Pairs with q < {alpha:g}",
    "z": "Mean z of the tested pairs",
}
_DOTS = {"z": "z", "enrichment": "log2(score / expected)"}
_RIM, _HEAD = 1.0, (0.03, 0.2)  # radius where ribbons end, and how long their heads may be
_STEPS = 33  # points along the ends of a ribbon; odd, so that one is the tip


@styled
def sender_receiver_heatmap(table: pd.DataFrame, value: str = "n_significant", alpha: float = 0.05) -> Figure:
    """Sender types (rows) by receiver types (columns), with the number in every cell.

    Parameters
    ----------
    table
        A row per tested signal: sender, receiver, q, and z where it is drawn; as `Communication.table`, or with sample_id
        and patient_id a cohort's: then samples are averaged within their patient, and patients count once, where the two
        types were tested.
    value
        n_significant: how many pairs have q < alpha; z: the mean z of all tested pairs.

    Two types between which nothing was tested are hatched and have no number: that is not zero. Where no z of theirs is
    defined, because nothing varies under the null, a dash stands. Raises InputError for any other `value`.
    """
    if value not in _HEATMAP:
        raise InputError(f"Expected value in {tuple(_HEATMAP)}, found {value!r}.")
    rows = _tested(table)
    if rows.empty or value not in rows.assign(n_significant=0):
        return said("No heatmap: the table holds no tested signal.", 9.4)
    shown, tested = _between_types(rows, value, alpha)
    numbers, n = shown.to_numpy(), len(shown)
    limit = np.nanmax(np.abs(numbers), initial=1.0 if value == "n_significant" else 1e-6)
    cmap, low = (_COUNTS, 0.0) if value == "n_significant" else (_SIGNED, -limit)
    size = float(np.clip(6.4 / n, 0.22, 0.7))
    room = 0.07 * max(len(plain(t, 24)) for t in shown.index)
    figure = new_figure(max(4.7, n * size + room + 1.5), max(3.2, n * size + room + 1.5))
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(numbers), cmap=cmap, norm=Normalize(low, limit))
    for i, j in zip(*np.nonzero(~tested.to_numpy())):
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, gid="not tested", **_NOT_TESTED))
    for i, j in zip(*np.nonzero(tested.to_numpy())):
        color = "white" if _dark(image.to_rgba(numbers[i, j])) else INK
        text = _number(numbers[i, j], signed=value == "z")
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=5.5 if n > 20 else 7 if n > 10 else 8.5)
    _type_ticks(axes, list(shown.index))
    axes.set(xlabel="Receiver", ylabel="Sender")
    _title(figure, _heading(rows, alpha, "Signals between cell types"))
    ticks = MaxNLocator(6, integer=value == "n_significant")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=24, pad=0.02, panchor=False, ticks=ticks)
    bar.set_label(_HEATMAP[value].format(alpha=alpha) + _averaged(rows))
    bar.outline.set_visible(False)
    if not tested.to_numpy().all():
        figure.legend(handles=[Patch(label="not tested", **_NOT_TESTED)], loc="outside lower left")
    return figure


@styled
def pair_dotplot(
    table: pd.DataFrame, n_pairs: int = 20, color: str = "z", alpha: float = 0.05, n_columns: int = 30
) -> Figure:
    """Pairs (rows, smallest q first) by sender -> receiver (columns, by name); no dot where nothing was tested.

    Parameters
    ----------
    table
        A row per tested signal: sender, receiver, ligand, receptor, q, and what `color` needs. In a cohort's, with
        sample_id and patient_id, q is the median over patients of the median over their samples, and the colour a mean.
    n_pairs, n_columns
        Pairs, and columns, with the smallest q; the best column of every pair is among them. The figure says how many
        columns there were.
    color
        z; or enrichment: log2 of the column `enrichment` where there is one, else of score over expected. Grey where it
        is not defined.
    alpha
        Dots with q below it have a dark rim.

    The area of a dot grows with -log10 q, up to q = 1e-6. Raises InputError for any other `color`.
    """
    if color not in _DOTS:
        raise InputError(f"Expected color in {tuple(_DOTS)}, found {color!r}.")
    rows = _tested(table)
    needed = {"score", "expected"} if color == "enrichment" and color not in rows else {color}
    if rows.empty or not needed | {"ligand", "receptor"} <= set(rows):
        return said(f"No dot plot: the table holds no tested signal with its {color}.", 9.4)
    signals = _signals(rows, color)
    pairs = list(dict.fromkeys(signals["pair"]))[:n_pairs]
    signals = signals[signals["pair"].isin(pairs)]
    # The best column of every pair comes first, so that no row is left without a dot.
    best = list(dict.fromkeys(signals.drop_duplicates("pair")["column"]))
    found = list(dict.fromkeys([*best, *signals["column"]]))
    columns = sorted(found[: max(n_columns, len(best))])
    signals = signals[signals["column"].isin(columns)]
    labels = [f"{plain(a, 20)} → {plain(b, 20)}" for a, b in columns]
    widest = 0.07 * max(len(plain(p)) for p in pairs)
    figure = new_figure(
        max(6.4, 0.22 * len(columns) + widest + 1.4), max(3.4, 0.24 * len(pairs) + 0.066 * max(map(len, labels)) + 1.1)
    )
    axes = figure.add_subplot()
    dots = _dots(axes, signals, pairs, columns, alpha)
    axes.set(xticks=range(len(columns)), yticks=range(len(pairs)))
    axes.set(xlim=(-0.7, len(columns) - 0.3), ylim=(len(pairs) - 0.3, -0.7))
    axes.set_xticklabels(labels, rotation=90, fontsize=8, color=INK)
    axes.set_yticklabels([plain(p) for p in pairs], fontsize=8, color=INK)
    if len(columns) < len(found):
        axes.set_xlabel(f"{len(columns)} of {len(found)} sender → receiver", loc="left", color=SOFT)
    _title(figure, _heading(signals, alpha, f"Pairs with the smallest q{_averaged(rows, 'median')}"))
    bar = figure.colorbar(dots, ax=axes, shrink=0.7, aspect=24, pad=0.02, extend="both")
    bar.set_label(_DOTS[color])
    bar.outline.set_visible(False)
    _dot_legend(figure, alpha)
    return figure


@styled
def chord(table: pd.DataFrame, alpha: float = 0.05) -> Figure:
    """Chord diagram of how many pairs have q < alpha between every two cell types.

    The arc of a type is as long as what it sends and receives; a ribbon has the colour of its sender, leaves it over its
    full width and ends in a head at the receiver. Types without any such pair are named below.

    Parameters
    ----------
    table
        As in `sender_receiver_heatmap`; in a cohort's table ribbons are means over patients.
    """
    rows = _tested(table)
    if rows.empty:
        return said("No chord diagram: the table holds no tested signal.", 9.4)
    counts = _between_types(rows, "n_significant", alpha)[0].fillna(0.0)
    if not counts.to_numpy().any():
        return said(f"No chord diagram: no pair has q < {alpha:g}.", 9.4)
    part = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    silent, counts = [plain(t, 24) for t in counts.index[~part]], counts.loc[part, part]
    figure = new_figure(7.4, 7.4)
    axes = figure.add_subplot()
    arcs, ribbons = _layout(counts.to_numpy())
    names, shades = list(counts.index), shades_of(len(counts))
    for name, shade, (start, end) in zip(names, shades, arcs):
        wedge = Wedge((0, 0), 1.09, *np.degrees((end, start)), width=0.06, color=shade, lw=0, gid=f"arc {name}")
        axes.add_patch(wedge)
        _arc_label(axes, plain(name, 24), (start + end) / 2, radial=len(names) > 8)
    for i, j in sorted(ribbons, key=lambda key: -counts.iat[key]):
        look = {"facecolor": shades[i], "edgecolor": "white", "lw": 0.3 if len(names) <= 10 else 0, "alpha": 0.75}
        axes.add_patch(PathPatch(_ribbon(*ribbons[i, j]), gid=f"{names[i]} -> {names[j]}", **look))
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    _title(figure, f"Pairs with q < {alpha:g}, from sender to receiver{_averaged(rows)}")
    note = f"{_number(counts.to_numpy().sum())} in all. A ribbon has its sender's colour and points at the receiver."
    note += f"\nNone from or to {listed(silent, 4)}." if silent else ""
    figure.legend(
        handles=[Line2D([], [], ls="", label=note)], loc="outside lower left", handlelength=0, labelcolor=SOFT
    )
    return figure


@styled
def length_scale(profile: pd.DataFrame) -> Figure:
    """Signal of pairs by the distance between sender and receiver, relative to what is expected (1, the dotted line).

    Parameters
    ----------
    profile
        A row per pair and distance: pair, distance_um (centre of the bin, micrometres), enrichment (observed over
        expected), low and high (NaN, or not there: no band).
    """
    profile = profile.assign(pair=profile["pair"].astype(str)) if "pair" in profile else profile.iloc[:0]
    rows = profile.dropna(subset=["enrichment", "distance_um"]) if len(profile) else profile
    if rows.empty:
        return said("No length scale: the profile holds no enrichment.", 9.4)
    looks = colors_of(list(dict.fromkeys(rows["pair"])), None)
    figure = new_figure(9.4, 3.4 + 0.2 * np.ceil(len(looks) / 3))
    axes = figure.add_subplot()
    axes.axhline(1.0, color=SOFT, lw=0.8, ls=":", gid="expected")
    for pair, (color, dash) in looks.items():
        own = profile[profile["pair"] == pair].sort_values("distance_um")
        mark = "o" if len(own) < 30 else None
        axes.plot(
            own["distance_um"], own["enrichment"], color=color, ls=dash, marker=mark, ms=4, label=plain(pair), gid=pair
        )
        if {"low", "high"} <= set(own) and own[["low", "high"]].notna().all(axis=1).any():
            axes.fill_between(own["distance_um"], own["low"], own["high"], color=color, alpha=0.15, lw=0, gid=pair)
    axes.set(xlabel="Distance between sender and receiver (µm)", ylabel="Signal, observed / expected")
    axes.set_title("How far signals reach")
    axes.grid(color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=3, handlelength=2.4)
    return figure


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a q, types as text."""
    if not {"sender", "receiver", "q"} <= set(table):
        return table.iloc[:0]
    rows = table[table["q"].notna()]
    return rows.assign(sender=rows["sender"].astype(str), receiver=rows["receiver"].astype(str))


def _over_patients(rows: pd.DataFrame, by: list[str], first: dict[str, str], then: dict[str, str]) -> pd.DataFrame:
    """`first` joins the rows of a sample (all rows, where none is named), `then` samples of a patient, and patients."""
    levels = [c for c in (keys.PATIENT, keys.SAMPLE) if c in rows]
    joined = rows.groupby([*by, *levels], observed=True, dropna=False).agg(first)
    while levels:
        levels.pop()
        joined = joined.groupby([*by, *levels], observed=True, dropna=False).agg(then)
    return joined


def _between_types(rows: pd.DataFrame, value: str, alpha: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Senders by receivers: the value (NaN where there is none), and whether any signal was tested."""
    rows = rows.assign(n_significant=(rows["q"] < alpha).astype(float))
    first = {value: "sum" if value == "n_significant" else "mean"}
    found = _over_patients(rows, ["sender", "receiver"], first, {value: "mean"})[value]
    types = sorted({*rows["sender"], *rows["receiver"]})
    square = {"index": types, "columns": types}
    tested = pd.Series(True, index=found.index).unstack(fill_value=False).reindex(**square, fill_value=False)
    return found.unstack().reindex(**square), tested


def _signals(rows: pd.DataFrame, color: str) -> pd.DataFrame:
    """A row per column (sender, receiver) and pair: q and the number that colours it; smallest q, then largest number."""
    shown = rows[color] if color in rows else rows["score"] / rows["expected"].where(rows["expected"] > 0)
    rows = rows.assign(pair=rows["ligand"].astype(str) + " – " + rows["receptor"].astype(str), shown=shown)
    first, then = {"q": "min", "shown": "mean"}, {"q": "median", "shown": "mean"}
    signals = _over_patients(rows, ["sender", "receiver", "pair"], first, then).reset_index()
    if color == "enrichment":
        with np.errstate(divide="ignore"):
            signals["shown"] = np.log2(signals["shown"])
    signals["column"] = list(zip(signals["sender"], signals["receiver"]))
    return signals.sort_values(["q", "shown"], ascending=[True, False], kind="stable")


def _dots(axes: Axes, signals: pd.DataFrame, pairs: list[str], columns: list[tuple], alpha: float):
    x = [columns.index(column) for column in signals["column"]]
    y = [pairs.index(pair) for pair in signals["pair"]]
    finite = np.abs(signals["shown"][np.isfinite(signals["shown"])])
    limit = max(float(finite.quantile(0.98)) if len(finite) else 0.0, 1e-6)
    rim = np.where(signals["q"] < alpha, 0.9, 0.4)
    axes.grid(color=HAIR, lw=0.6)
    axes.set_axisbelow(True)
    return axes.scatter(
        x,
        y,
        s=_area(signals["q"]),
        c=signals["shown"].clip(-limit, limit),
        cmap=_SIGNED,
        norm=Normalize(-limit, limit),
        plotnonfinite=True,
        edgecolors=np.where(signals["q"] < alpha, INK, SOFT),
        linewidths=rim,
    )


def _area(q: Sequence[float]) -> np.ndarray:
    tail = -np.log10(np.clip(np.asarray(q, dtype=float), 10**-_CAP, 1.0))
    return _SMALLEST + (_LARGEST - _SMALLEST) * tail / _CAP


def _dot_legend(figure: Figure, alpha: float) -> None:
    marks = []
    for q, label in ((1.0, "q = 1"), (0.05, "0.05"), (1e-3, "0.001"), (10**-_CAP, "≤ 1e-6")):
        rim = {"mec": INK, "mew": 0.9} if q < alpha else {"mec": SOFT, "mew": 0.4}
        marks.append(Line2D([], [], ls="", marker="o", ms=float(_area([q])[0] ** 0.5), mfc=HAIR, label=label, **rim))
    marks += [
        Line2D([], [], ls="", marker="o", ms=7, mfc="white", mec=INK, mew=0.9, label=f"dark rim: q < {alpha:g}"),
        Line2D([], [], ls="", label="no dot: not tested"),
    ]
    figure.legend(
        handles=marks, loc="outside lower left", ncols=6 if figure.get_figwidth() > 9 else 3, handletextpad=0.3
    )


def _layout(counts: np.ndarray) -> tuple[list[tuple[float, float]], dict]:
    """Angles of the arcs, and (sender, receiver) -> (angles at the sender, angles at the receiver); clockwise from the top.

    A type's ends stand in the order of their partners around the circle, so that ribbons of neighbours do not cross.
    """
    n = len(counts)
    gap = min(0.07, 0.2 * 2 * np.pi / n)
    unit = (2 * np.pi - n * gap) / (2 * counts.sum())
    arcs, out, into, at = [], {}, {}, np.pi / 2 - gap / 2
    for i in range(n):
        begin = at
        for j in ((i - k) % n for k in range(1, n + 1)):
            for ends, key in ((out, (i, j)), (into, (j, i))):
                if counts[key]:
                    ends[key] = (at, at - counts[key] * unit)
                    at = ends[key][1]
        arcs.append((begin, at))
        at -= gap
    return arcs, {key: (out[key], into[key]) for key in out}


def _ribbon(sender: tuple[float, float], receiver: tuple[float, float]) -> Path:
    """From the whole of the sender's end through the middle to a head whose tip touches the receiver's arc."""
    tail = [_on_circle(a, _RIM) for a in np.linspace(*sender, _STEPS)]
    depth = np.clip(0.3 * abs(receiver[1] - receiver[0]), *_HEAD) * np.abs(np.linspace(-1, 1, _STEPS))
    head = [_on_circle(a, _RIM - d) for a, d in zip(np.linspace(*receiver, _STEPS), depth)]
    centre = (0.0, 0.0)
    points = [*tail, centre, *head, centre, tail[0], tail[0]]
    along, curve = [Path.LINETO] * (_STEPS - 1), [Path.CURVE3] * 2
    return Path(points, [Path.MOVETO, *along, *curve, *along, *curve, Path.CLOSEPOLY])


def _on_circle(angle: float, radius: float) -> tuple[float, float]:
    return radius * np.cos(angle), radius * np.sin(angle)


def _arc_label(axes: Axes, text: str, angle: float, radial: bool) -> None:
    side = np.cos(angle)
    rotation = np.degrees(angle) + (180 if side < 0 else 0) if radial else 0
    ha = "center" if not radial and abs(side) < 0.15 else "left" if side > 0 else "right"
    va = "center" if radial or ha != "center" else "bottom" if np.sin(angle) > 0 else "top"
    x, y = _on_circle(angle, 1.13)
    axes.text(x, y, text, rotation=rotation, rotation_mode="anchor", ha=ha, va=va, fontsize=8.5)


def _type_ticks(axes: Axes, types: list[str]) -> None:
    labels, size = [plain(t, 24) for t in types], 7.5 if len(types) > 20 else 8.5
    axes.set(xticks=range(len(types)), yticks=range(len(types)))
    axes.set_xticklabels(labels, rotation=90, fontsize=size, color=INK)
    axes.set_yticklabels(labels, fontsize=size, color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _title(figure: Figure, text: str) -> None:
    """Above the whole figure: labels of types leave an axes' title too little width."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold")


def _heading(rows: pd.DataFrame, alpha: float, title: str) -> str:
    return title if (rows["q"] < alpha).any() else f"{title}: none has q < {alpha:g}"


def _averaged(rows: pd.DataFrame, how: str = "mean") -> str:
    """Words for the title where several patients, or several samples of one, are joined."""
    for column, word in ((keys.PATIENT, "patients"), (keys.SAMPLE, "samples")):
        if column in rows and (n := rows[column].nunique()) > 1:
            return f" ({how} of {n} {word})"
    return ""


def _number(value: float, signed: bool = False) -> str:
    if signed or not np.isfinite(value):
        return number(value, 1)
    if 0 < value < 0.05:
        return "<.1"
    return f"{value:.0f}" if value == round(value) or value >= 9.95 else f"{value:.1f}"


def _dark(rgba: Sequence[float]) -> bool:
    return float(np.dot(rgba[:3], (0.299, 0.587, 0.114))) < 0.55
