"""Run folders with made-up numbers, as an evaluation would leave them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metaniche.evaluation.conformal import cross_conformal
from metaniche.report.run import read_run

MODELS = {
    "relational_mil": ("network", 1.9),
    "gatv2_mil": ("network", 1.3),
    "relational_mil+clinical": ("fused", 2.0),
    "clinical_logistic": ("clinical", 0.9),
    "composition_ridge": ("baseline", 0.2),
    "composition_forest": ("baseline", 0.35),
    "cell_density_ridge": ("baseline", 0.1),
    "cellular_neighbourhoods_ridge": ("baseline", 0.6),
}
TYPES = ["tumour", "CD8 T cell", "macrophage", "fibroblast", "endothelial", "B cell", "neutrophil", "plasma cell"]


def make_predictions(n=80, repeats=3, survival=False, seed=0):
    rng = np.random.default_rng(seed)
    patients = np.array([f"P{i:02d}" for i in range(n)])
    truth = rng.normal(size=n)
    y = (truth + rng.normal(scale=0.6, size=n) > 0.2).astype(int)
    time = np.round(60 * rng.exponential(np.exp(-0.8 * truth)), 1) + 0.5
    event = (time < 60).astype(int)
    frames = []
    for model, (_, strength) in MODELS.items():
        own = rng.normal(size=n)
        for repeat in range(repeats):
            logit = strength * (truth - 0.2) + 1.1 * own + 0.4 * rng.normal(size=n)
            risk = logit if survival else 1 / (1 + np.exp(-logit))
            frame = pd.DataFrame({"model": model, "repeat": repeat, "fold": np.arange(n) % 5, "unit_id": patients})
            outcome = {"time": time.clip(max=60), "event": event} if survival else {"y": y}
            frames.append(frame.assign(patient_id=patients, risk=risk, **outcome))
    return pd.concat(frames, ignore_index=True)


def make_table(survival=False, lead=0.36):
    """`lead`: how far the network stands before the best baseline."""
    value = {
        "relational_mil": 0.55 + lead,
        "gatv2_mil": 0.53 + lead * 0.7,
        "relational_mil+clinical": 0.56 + lead,
        "clinical_logistic": 0.68,
        "composition_ridge": 0.50,
        "composition_forest": 0.53,
        "cell_density_ridge": 0.48,
        "cellular_neighbourhoods_ridge": 0.55,
    }
    rows = []
    for model, (kind, _) in MODELS.items():
        v = value[model]
        row = {"model": model, "kind": kind}
        shifts = (
            {"harrell_c": 0, "uno_c": -0.01, "ibs": -0.6, "calibration_slope": 0.1}
            if survival
            else {
                "auroc": 0,
                "auprc": -0.03,
                "sens_at_90_spec": -0.3,
                "sens_at_95_spec": -0.4,
                "calibration_slope": 0.1,
                "ece": -0.4,
            }
        )
        for metric, shift in shifts.items():
            m = abs(v + shift)
            row |= {metric: m, f"{metric}_low": m - 0.09, f"{metric}_high": min(m + 0.07, 1.4)}
        for other, reference in (("baseline", 0.55), ("clinical", 0.68)):
            d = v - reference
            if (other == "baseline" and model == "cellular_neighbourhoods_ridge") or kind == other == "clinical":
                d = np.nan
            row |= {
                f"diff_{other}": d,
                f"diff_{other}_low": d - 0.12,
                f"diff_{other}_high": d + 0.12,
                f"diff_{other}_p": np.nan if np.isnan(d) else max(0.0005, 1 - 8 * abs(d)),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def make_cells(samples=("P03", "P10", "P40", "P55", "P71", "P20"), n=1200, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for i, patient in enumerate(samples):
        xy = rng.uniform((0, 0), (1000 + 300 * i, 900), size=(n, 2))
        centres = rng.uniform(0.1, 0.9, size=(5, 2)) * (1000 + 300 * i, 900)
        near = np.sqrt(((xy[:, None] - centres[None]) ** 2).sum(-1)).min(1)
        tumour = near < 130
        potential = np.clip(0.2 + 0.1 * i + 0.004 * near + 0.1 * rng.normal(size=n), 0.01, 0.99)
        frame = pd.DataFrame({"sample_id": f"{patient}_s1", "patient_id": patient, "x_um": xy[:, 0], "y_um": xy[:, 1]})
        frame["cell_id"] = [f"c{j}" for j in range(n)]
        frame["cell_type"] = np.where(
            tumour, "tumour", rng.choice(TYPES[1:], n, p=(0.25, 0.2, 0.2, 0.12, 0.1, 0.08, 0.05))
        )
        frames.append(
            frame.assign(
                is_malignant=tumour,
                metaniche_potential=np.where(tumour, potential, np.nan),
                metaniche_attention=np.exp(-near / 60) / n,
            )
        )
    return pd.concat(frames, ignore_index=True)


def make_info(survival=False):
    task = {"name": "metastasis", "title": "Metastasis within follow-up (synthetic tumours)", "level": "patient"}
    task |= (
        {"kind": "cox", "time": "mfs_months", "event": "mfs_event", "label": None, "positive": [], "negative": []}
        if survival
        else {"kind": "binary", "label": "metastasis", "positive": [1], "negative": [0], "time": None, "event": None}
    )
    task |= {"clinical": ["stage", "age"], "sites": [], "n_bins": 8, "note": ""}
    return {
        "version": "0.1.0",
        "created": "2025-03-01 12:00",
        "command": "metaniche-evaluate experiment=synthetic data.n_patients=80",
        "experiment": "synthetic",
        "task": task,
        "model": "relational_mil",
        "cohort": "synthetic",
        "n_patients": 80,
        "n_samples": 80,
        "n_cells": 251028,
        "n_edges": 4031221,
        "seeds": [0, 1, 2],
        "folds": {"scheme": "kfold", "n_folds": 5, "n_repeats": 3},
        "duration_s": 172.4,
        "peak_memory_bytes": 1.9e9,
        "torch": "2.13.0",
        "n_units": 80,
        "units": {"distance": "um"},
        "notice": "Research use only. Not a medical device.",
        "graph": {"builder": "radius", "contact_um": 20.0, "radius_um": 150.0, "k": 15, "max_paracrine": 24, "seed": 0},
        "left_out": {"P98": "no usable metastasis", "P99": "no sample"},
        "permutation_control": {
            "model": "relational_mil",
            "metric": "auroc",
            "estimate": 0.49,
            "low": 0.37,
            "high": 0.61,
            "values": [0.44, 0.54],
            "holds_chance": True,
        },
        "training": {"epochs": 40, "members": 1, "features": {"use_types": True, "use_expression": True}},
    }


def make_patients(n=80, seed=1):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient_id": [f"P{i:02d}" for i in range(n)]})
    table["stage"] = rng.choice(["I", "II", "III"], n)
    table["age"] = rng.normal(61, 11, n).round(0)
    table["sex"] = rng.choice(["female", "male"], n)
    table.loc[rng.choice(n, 4, replace=False), "stage"] = None
    return table


CHECKS = [
    {"check": "Coordinates", "status": "ok", "detail": "80 samples in micrometres, no NaN"},
    {"check": "Cell types", "status": "ok", "detail": "8 types; malignant: tumour"},
    {"check": "Density", "status": "warning", "detail": "P17: 12 cells within 1 µm of another"},
    {"check": "Outcome", "status": "left out", "detail": "P98: no usable metastasis"},
]


def write_run(folder: Path, survival=False, lead=0.36) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(make_info(survival)))
    make_table(survival, lead).to_csv(folder / "table.csv", index=False)
    predictions = make_predictions(survival=survival)
    predictions.to_parquet(folder / "predictions.parquet")
    if survival:
        predictions["y"] = (predictions["time"] < 30).astype(int)
        predictions["risk"] = 1 / (1 + np.exp(-predictions["risk"]))
    cross_conformal(predictions).to_csv(folder / "conformal.csv", index=False)
    make_patients().to_csv(folder / "patients.csv", index=False)
    make_cells().to_parquet(folder / "cells.parquet")
    (folder / "data_checks.json").write_text(json.dumps(CHECKS))
    epoch = np.arange(40)
    rng = np.random.default_rng(0)
    history = {
        "epoch": epoch,
        "train_loss": 0.7 * np.exp(-epoch / 15) + 0.02 * rng.normal(size=40),
        "val_loss": 0.35 + 0.35 * np.exp(-epoch / 9) + 0.03 * rng.normal(size=40),
    }
    pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="session")
def survival_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("survival"), survival=True)


@pytest.fixture(scope="session")
def predictions():
    return make_predictions()


@pytest.fixture(scope="session")
def survival_predictions():
    return make_predictions(survival=True)


@pytest.fixture(scope="session")
def table():
    return make_table()


@pytest.fixture(scope="session")
def cells():
    return make_cells()


@pytest.fixture(scope="session")
def make_run(run_folder, survival_folder):
    """A Run with some of its parts changed; `info` is merged, `table` may be a function of the table."""
    known = {False: read_run(run_folder), True: read_run(survival_folder)}

    def make(survival=False, lead=None, info=None, table=None, **parts):
        run = known[survival]
        new = run.table if lead is None else make_table(survival, lead)
        new = table(new) if callable(table) else new
        return replace(run, info=run.info | (info or {}), table=new, **parts)

    return make
