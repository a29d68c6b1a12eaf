"""crc_codex: colorectal cancer, CODEX, 140 cores of 35 patients, cell types without marker values.

Schuerch et al. 2020, Cell 182:1341, doi:10.1016/j.cell.2020.07.005. Cells as published with CytoCommunity, patient
table with mgpp_TME. Four cores per patient. Coordinates are pixels of 0.377 um.

Patient columns
---------------
group
    "CLR" (Crohn's-like reaction) or "DII" (diffuse inflammatory infiltration).
stage_iv
    1 where pM or cM is 1 or the combined stage is 4. Synchronous: "has spread", not a forecast. An absent pM counts
    as not M1.
tnm, tnm_stage
    1-4 for IIIA, IIIB, IIIC, IV, and the same as text. pt, pn: first digit of pT and pN; pn2: 1 for N2.
os_months, os_event, dfs_months, dfs_event
    The source's `*_Censor` columns hold 1 for the event (death; recurrence), in spite of their name. Two patients
    have a disease-free time of 0.
age, sex, location, grade, lymphatic_invasion, vascular_invasion, budding_grade, msi
    Clinical variables; absent values are missing.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd
from anndata import AnnData

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.datasets.registry import local

CELLS = (
    "huBioinfo/CytoCommunity/554f8fb48c18d1c0076c8c77f86251d3eed384f4/"
    "Supervised_CytoCommunity/CODEX_ColonCancer_KNNgraph_Input/"
)
PATIENTS = "jeliason/mgpp_TME/7ae1734ddc7372de4f9fae884d3c0122bf70920b/data/CRC_pt_metadata.csv"
FILES = (CELLS, PATIENTS)

UM_PER_UNIT = 0.377
FEATURE_KIND = "none"
LEFT_OUT: dict[str, str] = {}
CELL_TYPES = (
    "B cells",
    "CD11b+ monocytes",
    "CD11b+CD68+ macrophages",
    "CD11c+ DCs",
    "CD163+ macrophages",
    "CD3+ T cells",
    "CD4+ T cells",
    "CD4+ T cells CD45RO+",
    "CD4+ T cells GATA3+",
    "CD68+ macrophages",
    "CD68+ macrophages GzmB+",
    "CD68+CD163+ macrophages",
    "CD8+ T cells",
    "NK cells",
    "Tregs",
    "adipocytes",
    "granulocytes",
    "immune cells",
    "immune cells / vasculature",
    "lymphatics",
    "nerves",
    "plasma cells",
    "smooth muscle",
    "stroma",
    "tumor cells",
    "tumor cells / immune cells",
    "undefined",
    "vasculature",
)

_IMAGE = re.compile(r"reg(?P<region>\d{3})_(?P<core>[AB])_P(?P<patient>\d+)_D(?P<dii>[01])")
_TNM = {"3A": 1.0, "3B": 2.0, "3C": 3.0, "4": 4.0}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(samples, patients), indexed by `sample_id` (the spot, "1_A") and `patient_id`."""
    source = pd.read_csv(local(PATIENTS), dtype=str, na_values=["nd"])
    rows = source.drop(columns="Spot").drop_duplicates().set_index("Patient")
    samples = _images()[["patient_id"]]
    return samples, _patients(rows)


def read_sample(sample_id: str) -> AnnData:
    """One core: cell types and positions in pixels; N x 0 features."""
    images = _images()
    if sample_id not in images.index:
        raise InputError(f"crc_codex: expected a core such as '1_A', found {sample_id!r}. See tables()[0].index.")
    stem = CELLS + images.at[sample_id, "image"]
    xy = pd.read_csv(local(f"{stem}_Coordinates.txt"), sep="\t", header=None, dtype=np.float64).to_numpy()
    types = local(f"{stem}_CellTypeLabel.txt").read_text(encoding="utf-8").splitlines()
    cells = pd.DataFrame(
        {keys.CELL_TYPE: pd.Categorical(types, categories=CELL_TYPES)},
        index=pd.RangeIndex(len(types)).astype(str),
    )
    return AnnData(
        X=np.empty((len(cells), 0), np.float32),
        obs=cells,
        obsm={keys.SPATIAL: xy},
        uns={keys.UNS: {keys.UM_PER_UNIT: UM_PER_UNIT, keys.FEATURE_KIND: FEATURE_KIND}},
    )


@cache
def _images() -> pd.DataFrame:
    """Image stem and patient of every core. `reg001_A_P1_D0` is spot 1_A of patient 1, who has CLR (D0)."""
    names = local(f"{CELLS}ImageNameList.txt").read_text(encoding="utf-8").split()
    parts = [_IMAGE.fullmatch(name) for name in names]
    return pd.DataFrame(
        {
            "patient_id": [part["patient"] for part in parts],
            "image": names,
            "group": ["DII" if part["dii"] == "1" else "CLR" for part in parts],
        },
        index=pd.Index([f"{int(part['region'])}_{part['core']}" for part in parts], name=keys.SAMPLE),
    )


def _patients(rows: pd.DataFrame) -> pd.DataFrame:
    stage_iv = rows["pM"].eq("1") | rows["cM"].eq("1") | rows["cp_TNM_Simple"].eq("4")
    # The pathological stage misses distant metastases known only clinically (cM).
    stage = rows["p_TNM"].mask(stage_iv, "4")
    patients = pd.DataFrame(
        {
            "group": rows["Group"],
            "stage_iv": stage_iv.astype(int),
            "pn2": rows["pN"].str.startswith("2").astype(int),
            "tnm": stage.map(_TNM),
            "tnm_stage": stage.str.replace("3", "III").str.replace("4", "IV"),
            "pt": rows["pT"].str[0].astype(float),
            "pn": rows["pN"].str[0].astype(float),
            "os_months": rows["OS"].astype(float),
            "os_event": rows["OS_Censor"].astype(int),
            "dfs_months": rows["DFS"].astype(float),
            "dfs_event": rows["DFS_Censor"].astype(int),
            "age": rows["Age"].astype(float),
            "sex": rows["Sex"].str.lower(),
            "location": rows["Simple_Tumor_Location"].str.lower(),
            "grade": rows["G"].astype(float),
            "lymphatic_invasion": rows["L"].astype(float),
            "vascular_invasion": rows["V"].astype(float),
            "budding_grade": rows["Budding grade"].astype(float),
            "msi": rows["MSI_IHC"],
        }
    )
    return patients.rename_axis(keys.PATIENT)
