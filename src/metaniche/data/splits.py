"""Splits by patient: repeated, stratified and grouped; a patient, slide or matched pair never stands on two sides."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from metaniche.data.task import Targets
from metaniche.errors import SplitError
from metaniche.io.wording import listed

SCHEMES = ("kfold", "leave_one_out", "leave_group_out")


@dataclass(frozen=True)
class Fold:
    """One split: ids of the patients on each side, sorted; `repeat` and `fold` count from 0."""

    repeat: int
    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]


def patient_folds(
    targets: Targets,
    scheme: str = "kfold",
    n_folds: int = 5,
    n_repeats: int = 3,
    seed: int = 0,
) -> list[Fold]:
    """Folds in which every labelled patient is tested once per repeat.

    Parameters
    ----------
    targets
        Labelled units of any level; patients are split, and all units follow their patient. kfold and leave_one_out
        keep patients that share a value of `targets.groups` (slide, block, matched pair) together, directly or through
        others; leave_group_out leaves one value (centre, site, batch) out at a time.
    scheme
        kfold: stratified by label (by event for survival); leave_one_out: each patient is a test set; leave_group_out:
        each group is. The last two are the same in every repeat; only the models' seeds differ.

    Raises
    ------
    SplitError for too few patients or groups, or a patient in two groups that should be left out apart.
    """
    if scheme not in SCHEMES:
        raise SplitError(f"Expected a split scheme in {SCHEMES}, found {scheme!r}.")
    if n_repeats < 1:
        raise SplitError(f"Expected n_repeats >= 1, found {n_repeats}.")
    patients, strata = _patients_and_strata(targets)
    groups = targets.groups
    bound = _one_group_each(patients, groups) if scheme == "leave_group_out" else _bound_groups(patients, groups)
    if np.unique(bound).size < 2:
        raise SplitError(
            f"Expected at least 2 patients (or groups of patients) to split, found {np.unique(bound).size} "
            f"among {patients.size} labelled patients. Use more patients or another grouping."
        )
    folds = []
    for repeat in range(n_repeats):
        if scheme == "kfold":
            state = int(np.random.SeedSequence((seed, repeat)).generate_state(1)[0])
            parts = _stratified(patients, strata, bound, n_folds, state)
        else:
            parts = LeaveOneGroupOut().split(patients, groups=bound)
        for index, (train, test) in enumerate(parts):
            fold = Fold(repeat, index, tuple(patients[train].tolist()), tuple(patients[test].tolist()))
            check_split(fold.train, fold.test, groups=None if groups is None else {"group": groups})
            folds.append(fold)
    return folds


def inner_folds(targets: Targets, n_folds: int = 5, seed: int = 0) -> list[Fold]:
    """Folds within a training set, for nested cross-validation: `patient_folds`, fewer where classes are small.

    Empty where the training patients cannot be split (fewer than two of a class).
    """
    patients, strata = _patients_and_strata(targets)
    smallest = np.unique(strata, return_counts=True)[1].min()
    if targets.task.level != "patient" and smallest < 2:
        smallest = np.unique(patients).size
    n_folds = int(min(n_folds, smallest, np.unique(_bound_groups(patients, targets.groups)).size))
    if n_folds < 2:
        return []
    return patient_folds(targets, n_folds=n_folds, n_repeats=1, seed=seed)


def check_split(train: Sequence[str], test: Sequence[str], *, groups: Mapping[str, pd.Series] | None = None) -> None:
    """Refuse a split in which a patient, or any declared group, stands on both sides.

    Parameters
    ----------
    train, test
        Patient ids.
    groups
        What must stay together, by name ("slide", "block", "matched pair"): Series indexed by patient id, repeated
        where a patient has several; missing values bind nothing.

    Raises
    ------
    SplitError naming the patients or groups, or an empty side.
    """
    train, test = {str(p) for p in train}, {str(p) for p in test}
    if not train or not test:
        raise SplitError(
            f"Expected patients on both sides of the split, found {len(train)} to train on and {len(test)} to test."
        )
    _refuse("patient", train & test)
    for name, series in (groups or {}).items():
        owner = series.index.astype(str)
        _refuse(name, set(series[owner.isin(train)].dropna()) & set(series[owner.isin(test)].dropna()))


def _refuse(what: str, shared: set) -> None:
    if shared:
        raise SplitError(
            f"Expected every {what} on one side of the split, found {len(shared)} on both sides: "
            f"{listed(sorted(map(str, shared)))}. Keep them together (group=COLUMN), or leave one side out."
        )


def _patients_and_strata(targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Labelled patients, sorted, and the class each is stratified by (by majority where its units disagree)."""
    task, table = targets.task, targets.table
    if task.kind == "binary":
        label = table["y"]
    elif task.kind == "sites":
        label = (table[list(task.sites)] == 1).any(axis=1).astype(float)
    else:
        label = table["event"]
    share = label.groupby(table["patient_id"].astype(str)).mean().sort_index()
    return share.index.to_numpy(str), (share > 0.5).to_numpy(np.int64)


def _stratified(
    patients: np.ndarray, strata: np.ndarray, bound: np.ndarray, n_folds: int, state: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    n_groups = np.unique(bound).size
    if not 2 <= n_folds <= n_groups:
        raise SplitError(
            f"Expected 2 <= n_folds <= {n_groups} (patients, or groups of them kept together), found {n_folds}. "
            "Take fewer folds, or scheme='leave_one_out'."
        )
    if np.unique(strata, return_counts=True)[1].max() < n_folds:
        strata = np.zeros_like(strata)
    apart = n_groups == patients.size
    splitter = (StratifiedKFold if apart else StratifiedGroupKFold)(n_folds, shuffle=True, random_state=state)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(splitter.split(patients, strata, None if apart else bound))
    empty = [i for i, (_, test) in enumerate(parts) if test.size == 0]
    if empty:
        raise SplitError(
            f"Expected patients in all {n_folds} folds, found none in fold(s) {empty}: the groups kept together are "
            "too uneven. Take fewer folds."
        )
    return parts


def _bound_groups(patients: np.ndarray, groups: pd.Series | None) -> np.ndarray:
    """(patients,) label shared by patients that must stay together, directly or through others."""
    if groups is None:
        return np.arange(patients.size)
    pairs = pd.DataFrame({"patient": groups.index.astype(str), "group": groups.to_numpy()}).dropna()
    pairs = pairs[pairs["patient"].isin(patients)]
    row = np.searchsorted(patients, pairs["patient"].to_numpy(str))
    column, names = pd.factorize(pairs["group"])
    size = patients.size + len(names)
    link = sparse.coo_array((np.ones(row.size), (row, patients.size + column)), shape=(size, size))
    return sparse.csgraph.connected_components(link, directed=False)[1][: patients.size]


def _one_group_each(patients: np.ndarray, groups: pd.Series | None) -> np.ndarray:
    if groups is None:
        raise SplitError(
            "Expected a group (a patient column: centre, site or batch) for scheme='leave_group_out', found none."
        )
    named = groups.dropna()
    distinct = named.groupby(named.index.astype(str)).agg(["nunique", "first"]).reindex(patients)
    wrong = distinct.index[distinct["nunique"] != 1]
    if len(wrong):
        raise SplitError(
            f"Expected exactly one group per patient, found none or several for {len(wrong)} patients "
            f"({listed(wrong)}). Complete the group column, or leave these patients out."
        )
    return distinct["first"].astype(str).to_numpy()


def hold_out(targets: Targets, share: float, seed: int = 0) -> tuple[Targets, Targets | None]:
    """Training and held-out targets: about `share` of the patients, stratified; all of them train when `share` is 0.

    Raises SplitError for a share that is neither 0 nor about one part in k (0.5, 0.33, 0.25, 0.2, ...).
    """
    if share == 0:
        return targets, None
    if not 0 < share <= 0.5 or abs(share * round(1 / share) - 1) > 0.05:
        raise SplitError(
            f"Expected a held-out share of 0 or one part in k (0.5, 0.33, 0.25, 0.2, 0.1, ...), found {share}."
        )
    n_folds, n_bound = round(1 / share), np.unique(_bound_groups(_patients_and_strata(targets)[0], targets.groups)).size
    if n_bound < n_folds:
        raise SplitError(
            f"Expected at least {n_folds} patients (or groups of them kept together) to hold out {share:.2g} of them, "
            f"found {n_bound}. Use more patients, a larger share, or holdout=0."
        )
    fold = patient_folds(targets, n_folds=n_folds, n_repeats=1, seed=seed)[0]
    return targets.of(fold.train), targets.of(fold.test)
