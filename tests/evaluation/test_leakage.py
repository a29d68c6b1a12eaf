"""The label is written into the cells of held-out patients: no fit, no transform and no other prediction may notice."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import patient_folds
from metaniche.evaluation.baselines import SummaryModel, standard_baselines
from metaniche.evaluation.cell_summaries import CellSummary
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.fusion import Fused
from metaniche.evaluation.scores import score_model
from metaniche.evaluation.summaries import Composition, Density, Neighbourhoods, Pseudobulk


def fitted_state(thing):
    """Every number that a fitted block or model holds, as one array per name."""
    found = {}

    def walk(name, value):
        if isinstance(value, np.ndarray):
            found[name] = value
        elif isinstance(value, pd.Series | pd.DataFrame):
            found[name] = value.to_numpy()
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{name}.{key}", item)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                walk(f"{name}.{index}", item)
        elif isinstance(value, str | int | float | type(None)):
            found[name] = np.array(value)
        elif hasattr(value, "__dict__") and not callable(value):
            walk(name, {k: v for k, v in vars(value).items() if k not in ("task", "estimators_", "tree_")})

    walk("", thing)
    return found


def branded(cohort, patients, task):
    """The label of these patients written into their cells: as a type, as a known marker and as one of its own."""
    label = cohort.patients["spread"]

    def brand(sample):
        if sample.patient_id not in patients:
            return replace(sample)  # another object: what was fitted on the first one must be fitted again
        y = int(label[sample.patient_id])
        types = sample.cells["cell_type"].cat.set_categories(["caf", "malignant", "t_cell", "label0", "label1"])
        types = types.where(np.arange(sample.n_cells) % 2 == 0, f"label{y}")
        x = np.concatenate([sample.x, np.full((sample.n_cells, 1), 100.0 * y, np.float32)], axis=1)
        x[:, 1] = 100.0 * y
        return replace(sample, cells=sample.cells.assign(cell_type=types), x=x, features=(*sample.features, "LABEL"))

    return cohort.with_samples(brand)


def differs(one, two):
    return one.keys() != two.keys() or any(not np.array_equal(one[name], two[name]) for name in one)


def blocks():
    return [
        Composition(),
        Composition(clr=True),
        Density(),
        Pseudobulk(n_top=1),
        Neighbourhoods(4),
        Neighbourhoods(4, use_types=False),
        CellSummary(True, True),
    ]


@pytest.mark.parametrize("block", blocks(), ids=repr)
@pytest.mark.parametrize("kind", ["intensity", "counts"])
def test_fitted_transforms_are_identical_whatever_test_patients_hold(block, kind, cohort_of, tasks):
    clean = cohort_of(8, kind=kind)
    train, test = [f"p{i:02d}" for i in range(5)], [f"p{i:02d}" for i in range(5, 8)]
    dirty = branded(clean, test, tasks["binary"])
    level = "cell" if isinstance(block, CellSummary) else "patient"
    units = train if level == "patient" else [f"s0_0:c{i}" for i in range(5)]
    states, tables = [], []
    for cohort in (clean, dirty):
        block.fit(cohort.of(train), 0)
        asked = test if level == "patient" else [f"s6_0:c{i}" for i in range(5)]
        block.transform(cohort.of(test), level, asked)
        states.append(fitted_state(block))
        tables.append(block.transform(cohort.of(train), level, units))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)
    pd.testing.assert_frame_equal(*tables)
    block.fit(branded(clean, train[:1], tasks["binary"]).of(train), 0)
    assert differs(states[0], fitted_state(block)), "a brand on a training patient must show, or this test is blind"


def light(models):
    """Fewer trees and penalties: what is asked here does not depend on them."""
    for model in models:
        learner = getattr(model, "learner", None)
        for name, value in {"n_trees": 20, "penalizer_grid": (0.1,), "c_grid": (0.1, 1.0)}.items():
            if hasattr(learner, name):
                setattr(learner, name, value)
    return models


@pytest.mark.parametrize("kind", ["binary", "cox"])
def test_a_label_in_held_out_cells_moves_no_other_prediction(kind, cohort_of, tasks):
    """Fold 0's test patients carry their label; models of fold 0 never saw it, so they are the same models."""
    clean, task = cohort_of(12, effect=0.0), tasks[kind]
    fold = patient_folds(clean.targets(task), n_folds=3, n_repeats=1)[0]
    dirty = branded(clean, fold.test, task)
    states = []
    for cohort in (clean, dirty):
        models = light(standard_baselines(task, "intensity", True, True))
        cross_validate(models, cohort, task, [fold], seed=1)
        states.append({m.name: fitted_state(m) for m in models if not isinstance(m, Fused)})
    for name in states[0]:
        assert states[0][name].keys() == states[1][name].keys(), name
        for part, value in states[0][name].items():
            np.testing.assert_array_equal(value, states[1][name][part], err_msg=f"{name}: {part}")
    models = light(standard_baselines(task, "intensity", True, False))
    cross_validate(models, branded(clean, fold.train, task), task, [fold], seed=1)
    blind = [m.name for m in models if not differs(states[0][m.name], fitted_state(m))]
    assert blind == [], "a brand on training patients must show in these models, or this test sees nothing"


def test_the_order_of_folds_leaves_no_trace(cohort, tasks):
    """A fold predicted after others equals the same fold predicted alone."""
    task = tasks["binary"]
    folds = patient_folds(cohort.targets(task), n_folds=3, n_repeats=1)
    models = light([m for m in standard_baselines(task, "intensity", True, True) if "neighbourhoods" not in m.name])
    together = cross_validate(models, cohort, task, folds).predictions
    alone = cross_validate(models, cohort, task, folds[2:]).predictions
    last = together[together["fold"] == folds[2].fold].reset_index(drop=True)
    pd.testing.assert_frame_equal(last, alone)


def test_a_label_that_only_held_out_patients_show_is_worth_nothing(cohort_of, tasks):
    """Every patient shows the label only in the fold that tests it: the harness must score chance, not 1."""
    clean, task = cohort_of(40, effect=0.0, seed=3), tasks["binary"]
    clean = clean.with_samples(
        lambda s: replace(s, x=s.x - 0.5 * (np.arange(4) == 0) * clean.patients["spread"][s.patient_id])
    )
    folds = patient_folds(clean.targets(task), n_folds=4, n_repeats=1)
    model = SummaryModel("composition", Composition(), light(standard_baselines(task, "none", True, False))[0].learner)
    parts = [cross_validate([model], branded(clean, f.test, task), task, [f]) for f in folds]
    cv = replace(parts[0], predictions=pd.concat([p.predictions for p in parts]), folds=tuple(folds))
    patients = np.unique(cv.predictions["patient_id"])
    found = score_model(cv, "composition", patients, np.ones((1, patients.size))).estimate["auroc"]
    assert 0.2 < found < 0.8
    everywhere = branded(clean, list(clean.patients.index), task)
    cv = cross_validate([model], everywhere, task, folds)
    found = score_model(cv, "composition", patients, np.ones((1, patients.size))).estimate["auroc"]
    assert found == 1.0
