"""Task: what is predicted, for which unit, from which columns; and the targets it makes out of a cohort's tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, InputError
from metaniche.io.digest import table_digest
from metaniche.io.wording import listed, nearest

LEVELS = ("patient", "sample", "cell")
SURVIVAL = ("cox", "discrete_time")
KINDS = ("binary", *SURVIVAL, "sites")


@dataclass(frozen=True)
class Task:
    """One question to a cohort.

    Parameters
    ----------
    name, title
        Short name and one line for people (tables, reports).
    level
        Unit that carries the label: patient, sample, or (binary tasks only) cell.
    kind
        binary; cox or discrete_time (time to event); sites (several binary labels, missing ones masked).
    label, positive, negative
        Column of a binary label and the values that mean 1 and 0; any other value is missing. An empty `negative`
        takes every value that is present and not positive.
    time, event
        Columns of a time-to-event label; `event` is 1 for an event and 0 for censored.
    competing
        Column that is 1 where follow-up ended by another event after which this one cannot come, such as death before
        recurrence (kind discrete_time). Risks are then cumulative incidences: who died cannot recur.
    sites
        Columns of 0/1/missing, one per organ site.
    clinical
        Patient columns used as clinical variables, numeric or categorical.
    n_bins
        Number of intervals of the discrete-time head, 2 or more; the last is open.
    """

    name: str
    title: str
    level: str = "patient"
    kind: str = "binary"
    label: str | None = None
    positive: Sequence = ()
    negative: Sequence = ()
    time: str | None = None
    event: str | None = None
    competing: str | None = None
    sites: Sequence[str] = ()
    clinical: Sequence[str] = ()
    n_bins: int = 8
    note: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS or self.kind not in KINDS:
            raise ConfigError(
                f"Task {self.name!r}: expected level in {LEVELS} and kind in {KINDS}, "
                f"found level={self.level!r}, kind={self.kind!r}. Set task.level and task.kind."
            )
        if self.level == "cell" and self.kind != "binary":
            raise ConfigError(
                f"Task {self.name!r}: expected kind 'binary' at level 'cell', found {self.kind!r}. "
                "Times and sites belong to patients or samples."
            )
        needed = {"binary": ("label", "positive"), "sites": ("sites",)} | dict.fromkeys(SURVIVAL, ("time", "event"))
        names = needed[self.kind]
        for name in names:
            if not getattr(self, name):
                raise ConfigError(
                    f"Task {self.name!r} of kind {self.kind!r}: expected task.{name}, found {getattr(self, name)!r}. "
                    f"Needed are {', '.join(f'task.{n}' for n in names)}."
                )

        if self.kind == "discrete_time" and self.n_bins < 2:
            raise ConfigError(f"Task {self.name!r}: expected task.n_bins of at least 2, found {self.n_bins}.")
        if self.competing and self.kind != "discrete_time":
            raise ConfigError(
                f"Task {self.name!r}: expected kind 'discrete_time' for task.competing, found {self.kind!r}. Set task.kind, "
                "or leave competing events out: they are then censored."
            )

    @property
    def is_survival(self) -> bool:
        return self.kind in SURVIVAL


@dataclass(frozen=True)
class Targets:
    """Labels of the units that have one.

    Attributes
    ----------
    task
        The Task they belong to.
    table
        One row per labelled unit, indexed by `unit_id` (patient id, sample id, or `sample_id:cell_id`), with `patient_id`,
        `sample_id` where the unit has one, and the label columns: `y` (0/1) for binary, `time` and `event` (and
        `competing`) for survival, one column per site (0/1/NaN) for sites.
    left_out
        unit_id -> why it has no label.
    groups
        What binds patients together (slide, block, matched pair), indexed by patient id; every split keeps it whole.
    """

    task: Task
    table: pd.DataFrame
    left_out: dict[str, str] = field(default_factory=dict)
    groups: pd.Series | None = None

    @property
    def patients(self) -> np.ndarray:
        """Unique patient ids, sorted."""
        return np.unique(self.table["patient_id"].to_numpy(str))

    @cached_property
    def digest(self) -> str:
        """sha256 over the labels, whatever the order of the units."""
        return table_digest(self.table.sort_index())

    def of(self, patients: Sequence[str]) -> Targets:
        """The targets of these patients only."""
        keep = self.table["patient_id"].isin(list(patients))
        return replace(self, table=self.table[keep])

    def gaps(self) -> list[str]:
        """What these labels cannot teach, a sentence each: one class alone, no event, a site without labels."""
        n, table = len(self.table), self.table
        if self.task.is_survival:
            events = int(table["event"].sum())
            return (
                [] if events > 1 else [f"{events or 'no'} event among {n} units: survival cannot be learned from them"]
            )
        columns = {site: f"site {site}: " for site in self.task.sites} if self.task.kind == "sites" else {"y": ""}
        found = []
        for column, where in columns.items():
            known = table[column].dropna()
            if known.empty:
                found.append(f"{where}no label among {n} units: its probability means nothing")
            elif known.nunique() == 1:
                found.append(f"{where}all {len(known)} labels are {known.iloc[0]:g}: only the base rate can be learned")
        return found

    def check_learnable(self) -> None:
        """Raise InputError where the labels teach nothing: one class alone, fewer than two events, no site with both."""
        gaps = self.gaps()
        if gaps and len(gaps) >= len(self.task.sites or ("y",)):
            raise InputError(
                f"Task {self.task.name!r}: expected units of both outcomes, found {'; '.join(gaps)}. Check "
                f"{_wanted_values(self.task)}, or take another cohort."
            )

    def described(self) -> str:
        """How many units have a label, and which ones were left out."""
        units = f"{len(self.table)} {self.task.level}s with a label"
        if not self.left_out:
            return units
        why = "; ".join(dict.fromkeys(self.left_out.values()))
        return f"{units}, {len(self.left_out)} left out ({why}): {listed(self.left_out)}"


def event_kind(table: pd.DataFrame) -> np.ndarray:
    """(n,) 0 censored, 1 the event, 2 a competing one: of a table with `event`, and `competing` where there are any."""
    event = table["event"].to_numpy(float)
    return np.where(table["competing"] == 1, 2.0, event) if "competing" in table else event


def make_targets(
    task: Task,
    patients: pd.DataFrame,
    samples: pd.DataFrame,
    prepared: Sequence[PreparedSample] | None = None,
    group: str | None = None,
) -> Targets:
    """Read a task's labels out of the patient table, the sample table, or the cells of prepared samples.

    `group` names the patient column whose equal values bind patients together. Units without a usable label are left
    out and listed. Raises InputError when a column is missing or no unit is left.
    """
    for column in (*task.clinical, *([group] if group else [])):
        if column not in patients:
            what = "as group" if column == group else f"as clinical variable of task {task.name!r}"
            raise InputError(
                f"Expected a column {column!r} in the patient table ({what}), found {listed(patients.columns, 20)}. "
                f"{nearest(column, patients.columns)}Name columns that are there (task.clinical, group)."
            )
    if task.level == "patient":
        source = patients.assign(patient_id=patients.index.astype(str))
        source = source[source.index.isin(samples["patient_id"])]
    elif task.level == "sample":
        new = patients.columns.difference(samples.columns)
        source = samples.join(patients[new], on="patient_id").assign(sample_id=samples.index)
    else:
        source = _cell_table(task, prepared or ())
    source.index = source.index.astype(str).rename("unit_id")
    wanted = [c for c in (task.label, task.time, task.event, task.competing, *task.sites) if c]
    absent = [c for c in wanted if c not in source]
    if absent:
        raise InputError(
            f"Task {task.name!r} needs column(s) {absent} at {task.level} level; found {sorted(map(str, source.columns))}. "
            "Name the right columns in the task's config."
        )
    labels = _labels(task, source)
    usable = labels.notna().any(axis=1) if task.kind == "sites" else labels.notna().all(axis=1)
    if task.is_survival:
        usable &= labels["time"] > 0
    left_out = dict.fromkeys(source.index[~usable], f"no usable {' / '.join(wanted)}")
    units = source[[c for c in ("patient_id", "sample_id") if c in source]]
    table = pd.concat([units, labels], axis=1)[usable]
    if table.empty:
        raise InputError(
            f"Task {task.name!r}: no {task.level} has a usable label. Expected {_wanted_values(task)}, "
            f"found {_found_values(source[wanted])}. {_HOW_TO_SAY[task.is_survival]}"
        )
    return Targets(task, table, left_out, patients[group] if group else None)


# Of a label, and of a time with its event.
_HOW_TO_SAY = (
    "Set the task's values, e.g. task.positive=[...] and task.negative=[...].",
    "Correct the table, or name other columns: task.time=..., task.event=....",
)


def _wanted_values(task: Task) -> str:
    if task.kind == "sites":
        return "0, 1 or nothing for each site"
    if task.is_survival:
        return f"{task.time} above 0 and {task.event} 0 or 1"
    other = f"{list(task.negative)} (0)" if task.negative else "anything else (0)"
    return f"{task.label} in {list(task.positive)} (1) or {other}"


def _found_values(columns: pd.DataFrame) -> str:
    return "; ".join(f"{name}: {listed(columns[name].astype('object').unique())}" for name in columns)


def _labels(task: Task, source: pd.DataFrame) -> pd.DataFrame:
    if task.kind == "sites":
        return source[list(task.sites)].apply(_zero_or_one)
    if task.is_survival:
        time = pd.to_numeric(source[task.time], errors="coerce").astype(float)
        labels = pd.DataFrame({"time": time, "event": _zero_or_one(source[task.event])})
        if task.competing:
            labels["competing"] = _zero_or_one(source[task.competing]).mask(labels["event"] == 1, 0.0)
        return labels
    values = source[task.label]
    text = values.astype("object").map(_canonical)
    positive = text.isin([_canonical(v) for v in task.positive])
    negative = text.isin([_canonical(v) for v in task.negative]) if task.negative else values.notna() & ~positive
    return pd.DataFrame({"y": np.select([positive, negative], [1.0, 0.0], np.nan)}, index=source.index)


def _zero_or_one(column: pd.Series) -> pd.Series:
    """float64, NaN for whatever else it says, such as 9 for unknown."""
    values = pd.to_numeric(column, errors="coerce").astype(float)
    return values.where(values.isin((0, 1)))


def _canonical(value: object) -> str:
    """One spelling per value, so that 1, 1.0 and "1" in a table and in a config are the same label."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _cell_table(task: Task, prepared: Sequence[PreparedSample]) -> pd.DataFrame:
    rows = [
        s.cells.assign(patient_id=s.patient_id, sample_id=s.sample_id).set_axis(
            [f"{s.sample_id}:{c}" for c in s.cells.index], axis=0
        )
        for s in prepared
        if task.label in s.cells
    ]
    if not rows:
        found = {column for s in prepared for column in s.cells}
        raise InputError(
            f"Task {task.name!r}: expected a cell annotation {task.label!r}, found {listed(sorted(found), 20)} in "
            f"{len(prepared)} samples. {nearest(task.label, found)}Name one of them as task.label, or add the column of obs "
            "to data.annotations."
        )
    return pd.concat(rows)
