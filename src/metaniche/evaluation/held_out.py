"""One split, told in the same tables as a cross-validation: what a trained model is worth on patients it has not seen."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from metaniche.data.splits import Fold, check_split
from metaniche.data.task import Targets
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.network import cell_risk
from metaniche.evaluation.predictions import CrossValidation, evaluation_grid, fold_rows
from metaniche.predict import Scores


def held_out_predictions(name: str, train: Targets, test: Targets, scores: Scores) -> CrossValidation:
    """The scores of `test` patients by a model trained on `train` patients, as a cross-validation of one fold.

    Raises SplitError when a patient stands on both sides.
    """
    check_split(train.patients, test.patients)
    task = test.task
    units = list(test.table.index)
    sites = scores.units[list(task.sites)].reindex(units) if task.kind == "sites" else None
    risk = cell_risk(scores) if task.level == "cell" else scores.units["risk"]
    grid = evaluation_grid(test)
    both = replace(test, table=pd.concat([train.table, test.table]))  # censoring is learned from those of training
    rows = fold_rows(Prediction(risk.reindex(units), scores.survival, sites), train, test, grid)
    about = pd.DataFrame(
        {"model": name, "role": "model", "repeat": 0, "fold": 0, "n_variables": float("nan")}, rows.index
    )
    fold = Fold(0, 0, tuple(train.patients), tuple(test.patients))
    return CrossValidation(pd.concat([about, rows], axis=1), (fold,), both, grid)
