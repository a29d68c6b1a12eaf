"""Reference profiles of organs: which ligands wait in a liver or a lung, for what tumour cells have the receptors of."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from metaniche.data.pairs import RAREST, PairFeatures
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.io.manifest import read_table
from metaniche.io.wording import listed, nearest, refusal
from metaniche.signaling import subunits

log = logging.getLogger(__name__)

GENE = "gene"


@dataclass(frozen=True, eq=False)
class OrganProfiles:
    """Genes x organs, expression on a linear scale; `digest` names the content, where a repr must tell one from another."""

    table: pd.DataFrame = field(repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        rows = pd.util.hash_pandas_object(self.table.rename_axis(None)).to_numpy().tobytes()
        digest = hashlib.sha256(rows + repr(list(self.table)).encode()).hexdigest()
        object.__setattr__(self, "digest", digest[:12])


def read_organs(path: str | Path) -> OrganProfiles:
    """Genes x organs, expression of 0 or above on any one linear scale (TPM, nTPM of the Human Protein Atlas, counts per
    million): a csv, tsv or parquet table with the column `gene` and one column per organ. A gene that is named several times
    is averaged. Not measured is not zero: an empty column is no organ, and a gene with an empty field is left out, as it cannot
    be compared between organs.

    Raises InputError, with the file's name, for one that holds no organs, text where numbers should be, or negative values
    (logarithms of something).
    """
    table = read_table(Path(path), ids=(GENE,)).set_index(GENE)
    if table.empty or not table.shape[1]:
        raise refusal(
            path, expected="a column of expression per organ", found=f"{table.shape[0]} genes, {table.shape[1]} organs",
            fix="Give genes as rows and organs as columns.",
        )  # fmt: skip
    values = table.apply(pd.to_numeric, errors="coerce")
    text = [str(name) for name in table if (values[name].isna() & table[name].notna()).any()]
    low = [str(name) for name in table if not (values[name].dropna() >= 0).all() or np.isinf(values[name]).any()]
    if text or low:
        fix = "Leave out columns that are no organs." if text else "Give it on a linear scale (TPM), not as logarithms."
        found = f"other values in {listed(text or low)}"
        raise refusal(path, expected="expression of 0 or above in every organ", found=found, fix=fix)
    known = values.groupby(level=0).mean().rename(columns=str).dropna(axis=1, how="all")
    return OrganProfiles(known.dropna())


def check_organs(profiles: OrganProfiles, task: Task) -> None:
    """Raises ConfigError for a task that is not of organ sites, or where fewer than two sites have a profile: the term tells
    organs apart.
    """
    if task.kind != "sites":
        raise ConfigError(
            f"Expected a task of organ sites for reference profiles (organs), found task {task.name!r} of kind {task.kind!r}. "
            "Leave organs out, or name the columns of the sites in task.sites."
        )
    organs, sites = profiles.table.columns, task.sites
    absent = [site for site in sites if site not in organs]
    if len(sites) - len(absent) < 2:
        raise ConfigError(
            f"Expected reference profiles of two sites or more among {listed(sites, 20)}, found columns "
            f"{listed(organs, 20)}. {nearest(absent[0], organs)}Name the organs as task.sites names them."
        )


def organ_columns(profiles: OrganProfiles, sites: Sequence[str], pairs: PairFeatures) -> dict[str, list]:
    """What `nn.OrganSoil` is built with, as plain lists: of each site (K) and pair (P) the level of its ligand in the organ, in
    [0, 1), and of each pair the receptor's column and a scale.

    Levels are :math:`x / (x + K)` with K the mean over the organs that have the ligand: what one has and others lack counts,
    on whatever scale the profiles are. A complex is at its weakest subunit. A site without profile is None: nothing is said
    of it; a ligand that the profiles lack is at 0 in all of them, which says nothing.

    Raises ConfigError where the profiles have none of the ligands.
    """
    organs = profiles.table
    if absent := [site for site in sites if site not in organs]:
        log.warning("No reference profile of %s: no organ speaks there.", listed(absent))
    ligands = pairs.pairs["ligand"]
    genes = {name: subunits(name, organs.index) for name in ligands.unique()}
    unknown = [name for name, of_one in genes.items() if not set(of_one) <= set(organs.index)]
    if len(unknown) == ligands.nunique():
        raise ConfigError(
            f"Expected reference profiles (organs) of the ligands that are heard, found none of {len(unknown)} "
            f"({listed(unknown, 4)}) among {len(organs)} genes ({listed(organs.index, 4)}). Name genes as the cohort does."
        )
    if unknown:
        log.warning("Reference profiles lack %d of %d ligands: %s", len(unknown), ligands.nunique(), listed(unknown, 8))
    level = {name: organs.reindex(of_one).fillna(0.0).min().to_numpy() for name, of_one in genes.items()}
    table = pd.DataFrame([level[name] for name in ligands], columns=organs.columns).to_numpy()
    half = np.array([row[row > 0].mean() if (row > 0).any() else 1.0 for row in table])
    saturated = pd.DataFrame(table / (table + half[:, None]), columns=organs.columns)
    known = saturated[[site for site in sites if site in saturated]]
    receptor = pairs.columns()["receptor"]
    common = np.maximum(pairs.mean[receptor], RAREST) * np.maximum(known.mean(axis=1), RAREST)
    return {
        "ligand": [saturated[site].tolist() if site in saturated else None for site in sites],
        "receptor": receptor,
        "scale": (1 / common).tolist(),
    }
