"""The first sheet of an Excel workbook as text."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd


def read_sheet(path: Path, header: int = 0) -> pd.DataFrame:
    """All columns as text, blanks missing; `header` is the row that holds the column names."""
    with warnings.catch_warnings():
        # Excel's own extensions (themes, validations) are not data.
        warnings.filterwarnings("ignore", "Unknown extension", UserWarning)
        return pd.read_excel(path, header=header, dtype=str)
