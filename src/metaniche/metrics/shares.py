"""What moves the risk from patient to patient: the variance of a sum, shared out among its parts."""

import numpy as np
import pandas as pd

from metaniche.errors import InputError


def variance_shares(parts: pd.DataFrame, whole: pd.Series | None = None) -> pd.Series:
    """Share of each part in the variance of a whole over units, largest first; of their sum (whole=None) shares sum to 1.

    .. math:: share_t = \\frac{Cov(z_t, \\sum_s z_s)}{Var(\\sum_s z_s)}

    A part that is the same for every unit has none, however large it is; a part that works against the others is below 0.

    Parameters
    ----------
    parts
        A row per unit, a column per part of its logit.
    whole
        Of which they are parts, where there are others; indexed by unit.

    Raises
    ------
    InputError
        For fewer than three units, or a sum that is the same for all of them.
    """
    if len(parts) < 3:
        raise InputError(f"Expected at least 3 units to share out what differs between them, found {len(parts)}.")
    centred = parts - parts.mean()
    total = centred.sum(axis=1) if whole is None else (whole - whole.mean()).reindex(parts.index)
    variance = float((total**2).sum())
    if variance <= 1e-12 * max(1.0, float((parts**2).to_numpy().sum())):
        raise InputError(f"Expected risks that differ between units, found the same for all {len(parts)}.")
    shares = centred.mul(total, axis=0).sum() / variance
    return shares.sort_values(ascending=False, key=np.abs)
