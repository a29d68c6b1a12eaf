"""Are the coordinates usable, and are they in the units they are declared in?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from anndata import AnnData
from scipy.spatial import cKDTree

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.record import own_record
from metaniche.io.wording import listed, refusal

# A slide is 75 mm long; no tissue on it is longer, and float32 still tells 0.01 um apart there.
MAX_EXTENT_UM = 100_000.0
# The closest things measured are sub-cellular bins of 0.5 um, the farthest array spots of 200 um.
SPACING_UM = (0.4, 500.0)
# Single cells in tissue stand 5-15 um apart (median nearest neighbour); pixels are 0.2-0.5 um.
CELL_SPACING_UM = 15.0
MANY_CELLS = 200
VISIUM_SPOT_UM = 55.0
VISIUM_SPACING_UM = (90.0, 110.0)
PROBE = 2000
FEW_CELLS = 20


def resolve_um_per_unit(
    adata: AnnData, declared: float | None, *, where: object, remedy: str = "Set um_per_unit in the cohort's config"
) -> float:
    """Micrometres per unit of `obsm["spatial"]`: as declared, or as the sample itself says in `uns["metaniche"]`.

    `remedy` says where the caller's user declares it. Raises InputError when nobody says, when the two disagree, or when
    the value is not a positive number.
    """
    own = own_record(adata, where=where).get(keys.UM_PER_UNIT)
    value = own if declared is None else declared
    if value is None:
        raise refusal(
            where,
            expected="um_per_unit, the micrometres per unit of obsm['spatial']",
            found="no value",
            fix=f"{remedy}: 1.0 for micrometres, else the pixel size (such as 0.377).",
        )
    if isinstance(value, str):
        fix = "Give the pixel size in um, such as 0.377, or 1.0 for micrometres."
        raise refusal(where, expected="um_per_unit to be a number", found=f"text {value!r}", fix=fix)
    if not isinstance(value, int | float | np.number) or not np.isfinite(value) or value <= 0:
        raise refusal(where, expected="um_per_unit above 0", found=repr(value), fix="Give the pixel size in um.")
    if declared is not None and own is not None and not np.isclose(float(declared), float(own), rtol=1e-3):
        raise refusal(
            where,
            expected=f"um_per_unit {own}, as the sample says in uns[{keys.UNS!r}]",
            found=f"{declared} declared",
            fix="Correct it, or leave it out (um_per_unit: null) to take the sample's own value.",
        )
    return float(value)


def check_coordinates(adata: AnnData, *, where: object, um_per_unit: float, feature_kind: str = "counts") -> None:
    """Raise InputError unless `obsm["spatial"]` holds N finite points at distances possible in micrometres.

    Cells (any `feature_kind` but counts, which may be spots) that stand farther apart than cells do, at whole numbers
    that nobody but um_per_unit = 1 calls micrometres, are in pixels. A sample that says 1 itself is believed.
    """
    xy = _points(adata, where)
    bad = ~np.isfinite(xy).all(axis=1)
    if bad.any():
        raise refusal(
            where,
            expected="obsm['spatial'] to be finite",
            found=f"{int(bad.sum())} cells with NaN or infinite coordinates ({listed(adata.obs_names[bad])})",
            fix="Drop them: adata = adata[np.isfinite(adata.obsm['spatial']).all(axis=1)].copy().",
        )
    extent = float(np.ptp(xy, axis=0).max())
    if extent == 0:
        raise refusal(
            where,
            expected="cells at different places in obsm['spatial']",
            found=f"all {len(xy)} cells at {xy[0].tolist()}",
            fix="Store the cell centres, not the position of the field of view.",
        )
    _check_scale(adata, xy, extent, where, um_per_unit)
    if feature_kind != "counts":
        _check_pixels(adata, xy, where, um_per_unit)


def positions_um(adata: AnnData, um_per_unit: float) -> np.ndarray:
    """(N, 2 or 3) float32 micrometres. A third coordinate that is the same for all cells is no dimension of the tissue."""
    xy = np.asarray(adata.obsm[keys.SPATIAL], dtype=np.float64)
    flat = xy.shape[1] == 3 and len(xy) and np.ptp(xy[:, 2]) == 0
    return ((xy[:, :2] if flat else xy) * um_per_unit).astype(np.float32)


def nearest_distances(xy: np.ndarray) -> np.ndarray:
    """Distance to the nearest other cell, in units of `xy`, of about PROBE evenly drawn cells."""
    probe = xy[:: max(1, len(xy) // PROBE)]
    return cKDTree(xy).query(probe, k=2)[0][:, 1]


def unit_suspicions(adata: AnnData, *, um_per_unit: float, feature_kind: str) -> list[str]:
    """What makes the declared units doubtful without proving them wrong. Needs coordinates that passed the check."""
    xy = np.asarray(adata.obsm[keys.SPATIAL], dtype=np.float64)
    distances = nearest_distances(xy) * um_per_unit
    distance = float(np.median(distances))
    lattice = np.ptp(distances) == 0
    found = []
    if distance == 0:
        found.append("More than half of the cells stand exactly where another cell stands.")
    if feature_kind != "counts" and len(xy) >= MANY_CELLS and distance > CELL_SPACING_UM:
        found.append(
            f"Neighbouring cells are {distance:.1f} um apart at the median; cells in tissue are 5-15 um apart. "
            "If obsm['spatial'] is in pixels, set um_per_unit to the pixel size."
        )
    elif um_per_unit == 1 and len(xy) >= FEW_CELLS and not lattice and (xy == np.rint(xy)).all():
        found.append(
            "All coordinates are whole numbers, as pixels are, and are declared as micrometres (um_per_unit 1). "
            "If they are pixels, set um_per_unit to the pixel size."
        )
    return found


def _points(adata: AnnData, where: object) -> np.ndarray:
    """(N, 2 or 3) float64 coordinates."""
    if keys.SPATIAL not in adata.obsm:
        columns = {name.lower(): name for name in map(str, adata.obs.columns)}
        pair = next(
            (p for p in (("x", "y"), ("x_centroid", "y_centroid"), ("x_um", "y_um")) if set(p) <= set(columns)),
            ("x", "y"),
        )
        named = [columns.get(name, name) for name in pair]
        raise refusal(
            where,
            expected="cell centres in obsm['spatial']",
            found=f"obsm keys {listed(sorted(adata.obsm))}",
            fix=f"Store them: adata.obsm['spatial'] = adata.obs[{named}].to_numpy().",
        )
    xy = np.asarray(adata.obsm[keys.SPATIAL])
    if xy.ndim != 2 or xy.shape[1] not in (2, 3):
        found = f"shape {xy.shape}"
    elif xy.dtype.kind not in "iuf":
        found = f"dtype {xy.dtype}"
    else:
        return xy.astype(np.float64, copy=False)
    raise refusal(
        where,
        expected=f"obsm['spatial'] to hold numbers of shape ({adata.n_obs}, 2) or ({adata.n_obs}, 3)",
        found=found,
        fix="Store one row of x, y (and z) per cell, as floats.",
    )


def _check_scale(adata: AnnData, xy: np.ndarray, extent: float, where: object, um_per_unit: float) -> None:
    fix = "Set um_per_unit to the um in one unit of obsm['spatial']: the pixel size, or 1.0 for micrometres."
    farthest = float(np.abs(xy).max()) * um_per_unit
    if extent * um_per_unit > MAX_EXTENT_UM:
        raise refusal(
            where,
            expected=f"obsm['spatial'] x um_per_unit ({um_per_unit:g}) to span less than 100 mm",
            found=f"{extent * um_per_unit / 1000:,.0f} mm",
            fix=fix,
        )
    if farthest > 10 * MAX_EXTENT_UM:
        raise InputError(
            f"{where}: expected obsm['spatial'] within 1 m of its origin, found a cell {farthest / 1e6:,.1f} m away: "
            "positions are kept in float32. Subtract the smallest x and y."
        )
    distance = float(np.median(nearest_distances(xy)))
    low, high = SPACING_UM
    if len(xy) >= FEW_CELLS and distance and not low <= distance * um_per_unit <= high:
        raise refusal(
            where,
            expected=f"neighbouring cells {low:g}-{high:g} um apart at um_per_unit {um_per_unit:g}",
            found=f"{distance * um_per_unit:.3g} um at the median",
            fix=fix,
        )
    _check_visium(adata, distance, where, um_per_unit)


def _check_pixels(adata: AnnData, xy: np.ndarray, where: object, um_per_unit: float) -> None:
    stated = keys.UM_PER_UNIT in own_record(adata, where=where)
    if stated or um_per_unit != 1 or len(xy) < MANY_CELLS or (xy != np.rint(xy)).any():
        return
    distance = float(np.median(nearest_distances(xy)))
    if distance > CELL_SPACING_UM:
        raise refusal(
            where,
            expected="obsm['spatial'] in micrometres, as um_per_unit 1 declares",
            found=f"whole numbers, as pixels are, and neighbouring cells {distance:.1f} apart at the median (in tissue 5-15)",
            fix="Set um_per_unit to the pixel size; if these are micrometres, say so in the file: "
            f"adata.uns[{keys.UNS!r}] = {{{keys.UM_PER_UNIT!r}: 1.0}}.",
        )


def _check_visium(adata: AnnData, distance: float, where: object, um_per_unit: float) -> None:
    """Visium stores positions in pixels of the full image, and beside them the width of its 55 um spots in pixels."""
    libraries = adata.uns.get(keys.SPATIAL)
    for library in libraries.values() if isinstance(libraries, Mapping) else ():
        factors = library.get("scalefactors") if isinstance(library, Mapping) else None
        pixels = factors.get("spot_diameter_fullres") if isinstance(factors, Mapping) else None
        if not isinstance(pixels, int | float | np.number) or pixels <= 0 or "bin_size_um" in factors:
            continue
        size = VISIUM_SPOT_UM / float(pixels)
        low, high = VISIUM_SPACING_UM
        if low <= distance * size <= high and not low <= distance * um_per_unit <= high:
            raise refusal(
                where,
                expected=f"um_per_unit near {size:.3g} (by uns['spatial'] a 55 um spot is {float(pixels):.4g} px wide)",
                found=f"{um_per_unit:g}",
                fix="obsm['spatial'] is in pixels of the full image: set um_per_unit to that value.",
            )
