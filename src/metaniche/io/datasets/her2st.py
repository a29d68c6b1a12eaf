"""her2st: HER2-positive breast cancer, Spatial Transcriptomics, 36 sections of 8 patients, whole-transcriptome counts.

Andersson et al. 2021, Nat Commun 12:6012, doi:10.1038/s41467-021-26271-2. A sample id is a section: letter =
patient, digit = section. Spots are 100 um wide and hold several cells each. Coordinates are array coordinates: 200
um per unit.

Eight sections carry a pathologist's annotation per spot (`obs["annotation"]`). `obs["pixel_x"]`, `obs["pixel_y"]`
place a spot in the stained image.

Patient columns
---------------
node_positive
    1 for C, F, G, H; 0 for A, B, D, E.
node_group, er, pgr, grade, tumour_block
    Clinical variables as given.
batch
    "3D" (A-D: 6 sections, 3-12 thousand counts a spot) or "none" (E-H: 3 sections, about 2-4 thousand). Three of
    the four node-positive patients are in "none": depth and node status are confounded.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.datasets.registry import checksums, local
from metaniche.io.datasets.spreadsheet import read_sheet

_ROOT = "almaan/her2st/85df7411b987a7dec3feff9718b869a7a82091ec/data/"
FILES = (_ROOT,)

UM_PER_UNIT = 200.0
FEATURE_KIND = "counts"
ANNOTATION = "annotation"
ANNOTATIONS = (
    "adipose tissue",
    "breast glands",
    "cancer in situ",
    "connective tissue",
    "immune infiltrate",
    "invasive cancer",
    "undetermined",
)
LEFT_OUT = {
    "block 23626": "no sections: letter F of the clinical sheet is not letter F of the sections",
    "block 11121": "section J1 has an annotation and no counts",
}
CELL_TYPES = ()

# After E the letters of the clinical sheet and of the sections differ: the tumour block is what joins them.
_BLOCKS = {
    "A": "9769",
    "B": "10737",
    "C": "5714",
    "D": "10426",
    "E": "23567",
    "F": "23810",
    "G": "23903",
    "H": "24044",
}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """(samples, patients), indexed by `sample_id` (the section, "A1") and `patient_id` (its letter)."""
    sections = sorted(Path(path).name.split(".")[0] for path in checksums() if path.startswith(f"{_ROOT}ST-cnts/"))
    samples = pd.DataFrame(
        {
            keys.PATIENT: [name[0] for name in sections],
            "annotated": [_annotation_path(name) in checksums() for name in sections],
        },
        index=pd.Index(sections, name=keys.SAMPLE),
    )
    return samples, _patients()


def read_sample(sample_id: str) -> AnnData:
    """One section: raw counts (CSR), spots under tissue, array coordinates, annotation where there is one."""
    counts_path = f"{_ROOT}ST-cnts/{sample_id}.tsv.gz"
    if counts_path not in checksums():
        raise InputError(f"her2st: expected a section such as 'A1', found {sample_id!r}. See tables()[0].index.")
    spots, genes, counts = _counts(local(counts_path))
    pixels = pd.read_csv(local(f"{_ROOT}ST-spotfiles/{sample_id}_selection.tsv"), sep="\t")
    pixels.index = _spot_ids(pixels)
    under_tissue = pixels.index[pixels["selected"] == 1]
    keep = spots.isin(under_tissue)
    spots, counts = spots[keep], counts[keep]
    obs = pixels.loc[spots, ["pixel_x", "pixel_y"]]
    if _annotation_path(sample_id) in checksums():
        obs[ANNOTATION] = pd.Categorical(_annotation(sample_id).reindex(spots), categories=ANNOTATIONS)
    xy = np.array([spot.split("x") for spot in spots], dtype=np.float64)
    return AnnData(
        X=counts,
        obs=obs,
        var=pd.DataFrame(index=genes),
        obsm={keys.SPATIAL: xy},
        uns={keys.UNS: {keys.UM_PER_UNIT: UM_PER_UNIT, keys.FEATURE_KIND: FEATURE_KIND}},
    )


def _counts(path: Path) -> tuple[pd.Index, pd.Index, sparse.csr_matrix]:
    """Spot ids, genes and counts. Read row by row: a dense section is a hundred times larger than its counts."""
    spots, columns, values = [], [], []
    with gzip.open(path, "rb") as file:
        genes = pd.Index(file.readline().decode().rstrip("\n").split("\t")[1:])
        for line in file:
            spot, _, row = line.rstrip(b"\n").partition(b"\t")
            column, value = _nonzero(row)
            spots.append(spot.decode())
            columns.append(column)
            values.append(value)
    indptr = np.cumsum([0, *map(len, columns)])
    counts = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), indptr), shape=(len(spots), len(genes))
    )
    return pd.Index(spots), genes, counts


def _nonzero(row: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the counts above zero in a tab-separated row of whole numbers.

    Nine counts in ten are zero: looking only at the first digit of each field is ten times faster than parsing all.
    """
    text = np.frombuffer(row, np.uint8)
    ends = np.append(np.flatnonzero(text == ord("\t")), text.size)
    starts = np.append(0, ends[:-1] + 1)
    columns = np.flatnonzero(text[starts] != ord("0"))
    position, ends = starts[columns], ends[columns]
    values = np.zeros(columns.size, np.float32)
    while (inside := position < ends).any():
        values[inside] = 10 * values[inside] + (text[position[inside]] - ord("0"))
        position = position + inside
    return columns.astype(np.int32), values


def _annotation(sample_id: str) -> pd.Series:
    """Label per spot id. The coordinates are floats that round to array coordinates; rows without them name no spot."""
    table = pd.read_csv(local(_annotation_path(sample_id)), sep="\t").dropna(subset=["x", "y"])
    return table["label"].set_axis(_spot_ids(table.round({"x": 0, "y": 0}).astype({"x": int, "y": int})))


def _annotation_path(sample_id: str) -> str:
    return f"{_ROOT}ST-pat/lbl/{sample_id}_labeled_coordinates.tsv"


def _spot_ids(table: pd.DataFrame) -> pd.Index:
    return pd.Index(table["x"].astype(str) + "x" + table["y"].astype(str))


def _patients() -> pd.DataFrame:
    sheet = read_sheet(local(f"{_ROOT}clinical_data/10_HER2+_info.xlsx")).set_index("Nr").loc[list(_BLOCKS.values())]
    patients = pd.DataFrame(
        {
            "node_positive": sheet["NodeStatus"].map({"+": 1, "-": 0}),
            "node_group": sheet["Node_group"].replace({"-": "0", "Na": None}),
            "er": sheet["ER"].map({"+": 1, "-": 0}),
            "pgr": sheet["PgR"].map({"+": 1, "-": 0}),
            "grade": pd.to_numeric(sheet["Hist_Grade"], errors="coerce"),
            "batch": sheet["From"],
            "tumour_block": sheet.index,
        }
    )
    return patients.set_axis(pd.Index(list(_BLOCKS), name=keys.PATIENT))
