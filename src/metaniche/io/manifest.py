"""A cohort on disk: a table with a row per sample and a table with a row per patient."""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from metaniche.io import keys
from metaniche.io.wording import listed, nearest, refusal

PATH = "path"
SHA256 = "sha256"
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}

# Sample ids become file names in caches and reports.
_SAMPLE_ID = re.compile(r"\w[\w .+=@-]{0,199}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def read_manifest(samples_path: str | Path, patients_path: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and check both tables of a cohort.

    Parameters
    ----------
    samples_path
        Table (csv, tsv or parquet, csv and tsv also as .gz) with `sample_id`, `patient_id`, `path` (relative to the
        table's folder, or absolute) and optionally `sha256` of the file.
    patients_path
        Table with `patient_id` and one column per outcome or clinical variable.

    Returns
    -------
    samples, patients
        Indexed by `sample_id` and `patient_id`, ids as text, `path` absolute.

    Raises InputError naming the table, the column, the rows and the remedy. Whether the two tables know the same
    patients is the question of `data.cohort.Cohort`.
    """
    samples_path, patients_path = Path(samples_path), Path(patients_path)
    samples = read_table(samples_path, ids=(keys.SAMPLE, keys.PATIENT, PATH), text=(SHA256,))
    samples = check_samples(samples, where=samples_path)
    samples = _with_files(samples, samples_path)
    patients = check_patients(read_table(patients_path, ids=(keys.PATIENT,)), where=patients_path)
    return samples, patients


def read_table(path: Path, ids: tuple[str, ...], text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a csv, tsv or parquet table. Columns `ids` must be there; they are text, and so are those in `text`."""
    if not path.is_file():
        raise refusal(path, expected="a table", found="no such file", fix="Check the path.")
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    suffix = suffixes[-1].lower() if suffixes else ""
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path)
        elif suffix in SEPARATORS:
            _check_text(path, SEPARATORS[suffix])
            # As converters, so that "007" keeps its zeros and a patient called "NA" keeps the name.
            converters = dict.fromkeys((*ids, *text), str.strip)
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(
                    path, sep=SEPARATORS[suffix], converters=converters, encoding="utf-8-sig", index_col=False
                )
        else:
            fix = "Save the table as csv, tsv or parquet."
            raise refusal(path, expected="a csv, tsv or parquet table", found=f"suffix {path.suffix!r}", fix=fix)
    except (OSError, ValueError, EOFError, csv.Error, pd.errors.ParserWarning) as error:
        fix = "Save it again as UTF-8 with one header row."
        raise refusal(path, expected="a readable table", found=str(error).strip(), fix=fix) from error
    for column in ids:
        if column not in table:
            raise refusal(
                path,
                expected=f"a column {column!r}",
                found=f"columns {listed(list(table.columns), 8)}",
                fix=f"{nearest(column, table.columns)}Rename or add the column.",
            )
        table[column] = table[column].astype(str).str.strip()
    if table.empty:
        raise refusal(
            path, expected="at least one row", found="none", fix="Add rows, or check that this is the right file."
        )
    return table


def check_samples(samples: pd.DataFrame, *, where: object) -> pd.DataFrame:
    """The sample table indexed by `sample_id`. Raises InputError for ids that are blank, repeated or no file names."""
    samples = _indexed(samples, keys.SAMPLE, where, fix="Give every sample its own id.")
    bad = [name for name in samples.index if not _SAMPLE_ID.fullmatch(name) or ".." in name or name != name.strip()]
    if bad:
        raise refusal(
            where,
            expected="sample ids of letters, digits and _ - . + = @ (they become file names)",
            found=listed(bad),
            fix="Rename them; the folder belongs in the column 'path'.",
        )
    blank = samples.index[samples[keys.PATIENT].isin(["", "nan", "None"])]
    if len(blank):
        found = f"samples {listed(blank)} without one"
        raise refusal(where, expected="a patient_id for every sample", found=found, fix="Fill in the patient.")
    return samples


def check_patients(patients: pd.DataFrame, *, where: object) -> pd.DataFrame:
    """The patient table indexed by `patient_id`. Raises InputError for ids that are blank or stand for two rows."""
    return _indexed(
        patients,
        keys.PATIENT,
        where,
        fix="One row per patient: give two people two ids, and put what differs between samples into the sample table.",
    )


def files_version(paths: Iterable[str]) -> str:
    """sha256 over the path, size and time of change of every file, or of every file in a zarr folder."""
    state = hashlib.sha256()
    for path in map(Path, sorted(paths)):
        for file in (path, *sorted(path.rglob("*"))):
            status = file.stat()
            state.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return state.hexdigest()


def _indexed(table: pd.DataFrame, key: str, where: object, fix: str) -> pd.DataFrame:
    ids = table[key].astype(str)
    blank = ids.isin(["", "nan", "None"])
    if blank.any():
        rows = listed([int(i) + 1 for i in blank.to_numpy().nonzero()[0]])
        raise refusal(where, expected=f"a {key} in every row", found=f"none in data row(s) {rows}", fix="Fill it in.")
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise refusal(where, expected=f"each {key} once", found=f"{listed(repeated)} more than once", fix=fix)
    return table.drop(columns=key).set_axis(pd.Index(ids, name=key))


def _check_text(path: Path, separator: str) -> None:
    """pandas renames repeated columns and reads a wrong separator as one long column; both are refused here."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        content = file.read()
    if "\0" in content:
        fix = "Save it again as UTF-8."
        raise refusal(path, expected="a table of text", found="null bytes, as in UTF-16 or a binary file", fix=fix)
    header = next(csv.reader(content.splitlines(), delimiter=separator), [])
    if len(header) == 1:
        other = next((name for name, mark in _MARKS.items() if mark in header[0]), None)
        if other:
            raise refusal(
                path,
                expected=f"columns separated by {'commas' if separator == ',' else 'tabs'}, as its suffix says",
                found=f"{other} in {header[0]!r}",
                fix="Save it with that separator, or change the suffix (.csv: commas, .tsv: tabs).",
            )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        fix = "Rename or drop the repeated columns."
        raise refusal(path, expected="each column name once", found=f"{listed(repeated)} more than once", fix=fix)


_MARKS = {"semicolons": ";", "tabs": "\t", "commas": ",", "bars": "|"}


def _with_files(samples: pd.DataFrame, table: Path) -> pd.DataFrame:
    """The sample table with absolute paths. Raises InputError for files that are absent or stand for two samples."""
    files = [(table.parent / path).resolve() for path in samples[PATH]]
    absent = [str(file) for file in files if not file.exists()]
    if absent:
        raise refusal(
            table,
            expected="every file of the column 'path'",
            found=f"{len(absent)} of {len(files)} absent ({listed(absent, 3)})",
            fix=f"Paths are relative to {table.parent.resolve()}.",
        )
    samples = samples.assign(**{PATH: [str(file) for file in files]})
    twice = samples[samples[PATH].duplicated(keep=False)]
    if len(twice):
        raise refusal(
            table,
            expected="a file of its own for every sample",
            found=f"samples {listed(twice.index)} with one path ({twice[PATH].iloc[0]})",
            fix="Correct the paths; the same cells on two sides of a split would leak.",
        )
    if SHA256 in samples:
        given = samples[SHA256].fillna("").astype(str).str.strip()
        odd = samples.index[(given != "") & ~given.str.fullmatch(_SHA256)]
        if len(odd):
            found = f"other text for samples {listed(odd)}"
            raise refusal(table, expected="64 hexadecimal digits in 'sha256'", found=found, fix="Correct or blank it.")
        samples = samples.assign(**{SHA256: given})
    return samples
