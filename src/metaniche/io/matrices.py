"""Is a matrix of cells x features what its kind says? Checked in blocks, without a copy; and counts log-normalised."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from metaniche.io.wording import refusal

BLOCK = 1 << 22
TARGET_COUNTS = 1e4  # library size after normalisation, the field's usual constant


def check_matrix(matrix: object, *, where: object, key: str, feature_kind: str) -> None:
    """Raise InputError unless the matrix holds finite numbers, and for "counts" whole numbers of zero or more.

    Parameters
    ----------
    matrix
        (N, G) array or CSR / CSC matrix of numbers.
    where, key
        File or sample, and the key in it, for the message.
    feature_kind
        "counts" or "intensity".
    """
    values = _values(matrix, where, key)
    low = high = 0.0
    for block in _blocks(values):
        bad = int(block.size - np.isfinite(block).sum())
        if bad:
            example = block[~np.isfinite(block)][0]
            raise refusal(
                where,
                expected=f"{key} to be finite",
                found=f"{bad} NaN or infinite values in one block (first: {example})",
                fix="Not measured is not zero: drop those cells or features.",
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if feature_kind == "counts":
            _check_counts(block, where, key)
    if low == high == 0.0 and matrix.shape[0] and matrix.shape[1]:
        raise refusal(
            where,
            expected=f"{key} with at least one value other than zero",
            found="zeros only",
            fix="Check that the raw matrix was saved.",
        )


def check_compressed(matrix: object, *, where: object, key: str) -> None:
    """Raise InputError if a CSR or CSC matrix breaks its own format; other matrices pass."""
    if not sparse.issparse(matrix) or matrix.format not in ("csr", "csc"):
        return
    major, minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    indptr, indices = matrix.indptr, matrix.indices
    problem = None
    if len(indptr) != major + 1 or len(indices) != len(matrix.data):
        problem = f"{len(indptr)} row pointers, {len(indices)} indices and {len(matrix.data)} values"
    elif indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        problem = f"row pointers that do not ascend from 0 to {len(indices)}"
    elif len(indices) and (indices.min() < 0 or indices.max() >= minor):
        problem = f"indices {indices.min()}..{indices.max()} where 0..{minor - 1} are allowed"
    if problem:
        raise refusal(
            where,
            expected=f"{key} to be a valid {matrix.format.upper()} matrix of shape {matrix.shape}",
            found=problem,
            fix="The file is damaged; save it again from its source.",
        )


def log_normalised(
    counts: np.ndarray | sparse.csr_array, sizes: np.ndarray | None = None
) -> np.ndarray | sparse.csr_array:
    """log1p of `library_normalised` counts."""
    normalised = library_normalised(counts, sizes)
    return normalised.log1p() if sparse.issparse(normalised) else np.log1p(normalised)


def library_normalised(
    counts: np.ndarray | sparse.csr_array, sizes: np.ndarray | None = None
) -> np.ndarray | sparse.csr_array:
    """Counts per TARGET_COUNTS of each cell's library, float32 in the layout of `counts`; empty cells stay 0.

    `sizes` (N,) are the libraries; a cell's total where they are not given.
    """
    total = np.asarray(counts.sum(axis=1) if sizes is None else sizes).reshape(-1, 1)
    factor = (TARGET_COUNTS / np.maximum(total, 1)).astype(np.float32)
    return sparse.csr_array(counts.multiply(factor)) if sparse.issparse(counts) else counts * factor


def has_negative(matrix: object) -> bool:
    """Whether any value is below zero."""
    # Smallest values are NaN where any is: that comparison would hide the others.
    return any(bool((block < 0).any()) for block in _blocks(_stored(matrix)))


def all_finite(matrix: object) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(np.isfinite(block).all()) for block in _blocks(_stored(matrix)))


def _values(matrix: object, where: object, key: str) -> np.ndarray:
    """The stored numbers of a dense or compressed matrix."""
    if matrix is None:
        fix = "Store raw values in X, or set feature_kind: none."
        raise refusal(where, expected=f"{key} to hold values", found="nothing", fix=fix)
    if sparse.issparse(matrix) and matrix.format not in ("csr", "csc"):
        fix = f"Convert it: adata.{key} = scipy.sparse.csr_array(adata.{key})."
        raise refusal(where, expected=f"{key} as CSR, CSC or dense", found=matrix.format.upper(), fix=fix)
    check_compressed(matrix, where=where, key=key)
    values = _stored(matrix)
    if values.dtype.kind not in "biuf":
        raise refusal(
            where,
            expected=f"{key} to hold real numbers",
            found=f"dtype {values.dtype}",
            fix=f"Convert it: adata.{key} = adata.{key}.astype('float32').",
        )
    return values


def _stored(matrix: object) -> np.ndarray:
    return matrix.data if sparse.issparse(matrix) else np.asarray(matrix)


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Non-empty pieces of at most BLOCK values."""
    step = max(1, BLOCK // max(1, values[:1].size)) if len(values) else 1
    for start in range(0, len(values), step):
        block = values[start : start + step]
        if block.size:
            yield block


def _check_counts(block: np.ndarray, where: object, key: str) -> None:
    fix = (
        "Put raw counts in X or layers['counts']. Where there are only normalised values, a cohort and signals take "
        "feature_kind=intensity; a bundle that was trained on counts takes counts alone."
    )
    if block.min() < 0:
        found = f"a negative value ({block.min()})"
    elif block.dtype.kind == "f" and (fraction := block != np.rint(block)).any():
        found = f"fractions (first: {block[fraction][0]}; largest value {block.max()})"
    else:
        return
    raise refusal(where, expected=f"{key} to hold counts (whole numbers of 0 or more)", found=found, fix=fix)
