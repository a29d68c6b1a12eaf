"""tnbc_mibi: triple-negative breast cancer, MIBI-TOF, one image per patient, 36 markers and cell types.

Keren et al. 2018, Cell 174:1373, doi:10.1016/j.cell.2018.08.039; tables of Patwa et al. 2021,
doi:10.1038/s42003-021-02361-1, and of spatial_lda. Coordinates are pixels: 2048 x 2048 px over 800 um.

Patient columns
---------------
recurrence, rfs_days, rfs_event
    Recurrence, local and distant not told apart: recurrence-free, not metastasis-free, survival.
os_days, os_event
    Overall survival, event = death.
node_positive
    1 for pN 1, 1MI, 1A, 2A, 3, 3B; 0 for pN 0 and 0I-; missing for X or blank.
stage, age, grade, tumor_size_mm, til_score
    Stage I-IV as 1-4; grade 9 and the size codes above 989 mean unknown.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from anndata import AnnData

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.datasets.registry import local
from metaniche.io.datasets.spreadsheet import read_sheet

_ROOT = "aalokpatwa/rasp-mibi/31f8ba22cd4d881b03603ab65d7bab6fca0a80b4/"
_CLINIC = "calico/spatial_lda/de6b00e5666717505463363607f082da3f25ef30/data/tnbc/mibitof_cohort_metadata.xlsx"
FILES = (_ROOT, _CLINIC)

UM_PER_UNIT = 800 / 2048
FEATURE_KIND = "intensity"
LEFT_OUT = {
    "16": "no image: its table of cells is not among the published files",
    "22": "no outcome in the clinical table",
    "30": "its published table of cells is empty",
    "38": "no outcome in the clinical table",
}
CELL_TYPES = (
    "background",
    "unidentified",
    "Endothelial",
    "Mesenchyme",
    "Tumor",
    "Treg",
    "CD4 T",
    "CD8 T",
    "CD3 T",
    "NK",
    "B",
    "Neutrophil",
    "Macrophage",
    "DC",
    "DC/Mono",
    "Mono/Neutrophil",
    "Other",
)
NOT_MARKERS = ("Au", "Background", "Ca", "Fe", "Na", "P", "Si", "Ta")

_NODES = {"0": 0.0, "0I-": 0.0, "1": 1.0, "1MI": 1.0, "1A": 1.0, "2": 1.0, "2A": 1.0, "3": 1.0, "3B": 1.0}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(samples, patients), indexed by `sample_id` and `patient_id`, which are the same number.

    The patient table also has patient 16, who has outcomes and no image.
    """
    patients = _patients()
    ids = [patient for patient in patients.index if patient not in LEFT_OUT]
    return pd.DataFrame({keys.PATIENT: ids}, index=pd.Index(ids, name=keys.SAMPLE)), patients


def read_sample(sample_id: str) -> AnnData:
    """One image: mean marker intensities per cell, cell types, positions in pixels."""
    if sample_id in LEFT_OUT or not (sample_id.isdecimal() and 1 <= int(sample_id) <= 41):
        raise InputError(
            f"tnbc_mibi: expected an image in tables()[0].index, found {sample_id!r}. {LEFT_OUT.get(sample_id, '')}"
        )
    stem = "t1" if sample_id == "1" else sample_id
    frames, markers = _markers()
    columns = {"Row": np.float64, "Column": np.float64, "Celltype": np.int64} | dict.fromkeys(frames, np.float32)
    table = pd.read_csv(
        local(f"{_ROOT}intermediate_data/protein_expression/{stem}.csv"), usecols=list(columns), dtype=columns
    )
    cells = pd.DataFrame(
        {keys.CELL_TYPE: pd.Categorical.from_codes(table["Celltype"], categories=CELL_TYPES)},
        index=pd.RangeIndex(len(table)).astype(str),
    )
    return AnnData(
        X=table[frames].to_numpy(),
        obs=cells,
        var=pd.DataFrame(index=pd.Index(markers)),
        # Row runs down the image: x is the column.
        obsm={keys.SPATIAL: table[["Column", "Row"]].to_numpy()},
        uns={keys.UNS: {keys.UM_PER_UNIT: UM_PER_UNIT, keys.FEATURE_KIND: FEATURE_KIND}},
    )


@cache
def _markers() -> tuple[list[str], list[str]]:
    """Columns of the cell tables that are markers, and the markers' names, in the same order."""
    frames = pd.read_csv(local(f"{_ROOT}rawdata/proteins_by_frame.csv"), dtype=str, encoding="utf-8-sig")
    frames = frames[~frames["Biomarker"].isin(NOT_MARKERS)]
    return frames["Frame"].tolist(), frames["Biomarker"].tolist()


def _patients() -> pd.DataFrame:
    outcome = pd.read_csv(local(f"{_ROOT}rawdata/clinical_data.csv"), encoding="utf-8-sig").astype({"ID": str})
    outcome = outcome.set_index("ID").drop(index="30")
    clinic = _clinic().reindex(outcome.index)
    size = pd.to_numeric(clinic["CS_TUM_SIZE"])
    grade = pd.to_numeric(clinic["GRADE"])
    patients = pd.DataFrame(
        {
            "recurrence": outcome["Recurrence"],
            "rfs_days": outcome["Recurrence_time"].astype(float),
            "rfs_event": outcome["Recurrence"],
            "os_days": outcome["Survival_time"].astype(float),
            "os_event": outcome["Survival"],
            "node_positive": clinic["NCODE_P"].map(_NODES),
            "stage": clinic["STAGE"].str[0].astype(float),
            "age": clinic["AGE_AT_DX"].astype(float),
            "grade": grade.where(grade < 9),
            "tumor_size_mm": size.where(size.between(1, 989)).astype(float),
            "til_score": clinic["TIL_score"].astype(float),
        }
    )
    return patients.rename_axis(keys.PATIENT)


def _clinic() -> pd.DataFrame:
    """The clinical sheet as text, indexed by patient; its header stands in the second row and notes follow the data."""
    table = read_sheet(local(_CLINIC), header=1)
    return table[table["InternalId"].str.isdecimal().eq(True)].set_index("InternalId")
