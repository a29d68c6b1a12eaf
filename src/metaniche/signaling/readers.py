"""Read ligand-receptor pairs: LIANA's resources through its own package, or a table in LIANA's or CellPhoneDB's columns."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from metaniche.errors import InputError
from metaniche.io.manifest import read_table
from metaniche.io.wording import listed, nearest, refusal
from metaniche.signaling.resources import COLUMNS, Resource

log = logging.getLogger(__name__)

# What other tables call our columns.
ALIASES = {
    "source_genesymbol": "ligand",
    "target_genesymbol": "receptor",
    "gene_a": "ligand",
    "gene_b": "receptor",
    "annotation": "signaling_type",
    "pathway_name": "pathway",
    "classification": "pathway",
    "co_A_receptor": "coreceptor",
    "annotation_strategy": "evidence",
}
# CellChat's words for the types.
TYPES = {
    "secreted signaling": "secreted",
    "cell-cell contact": "contact",
    "ecm-receptor": "ecm",
    "non-protein signaling": "non_protein",
}
SEPARATORS = r"\s*(?:,|\+|:)\s*"


def liana_resources() -> tuple[str, ...]:
    """Names of the resources that the installed liana package brings. InputError says how to install it."""
    return tuple(sorted(_liana().show_resources()))


def open_resource(source: str | Path) -> Resource:
    """A table of pairs by its path (csv, tsv, parquet), or one of LIANA's resources by its name."""
    is_table = Path(source).suffix or Path(source).is_file() or len(Path(source).parts) > 1
    return read_resource(source) if is_table else read_liana(str(source))


def read_liana(name: str = "consensus") -> Resource:
    """One of LIANA's resources (consensus, cellphonedb, cellchatdb, connectomedb2020, celltalkdb, icellnet, ...).

    The table is read through the optional package `liana` (Dimitrov et al. 2024, doi:10.1038/s41556-024-01469-w) and is
    never copied into metaniche. It has neither signaling types nor pathways: `signaling_type` stays empty.

    Raises
    ------
    InputError
        When liana is not installed or has no resource of this name.
    """
    names = liana_resources()
    if name.lower() not in names:
        fix = f"{nearest(name, names)}Choose one of them."
        raise refusal("liana", expected=f"a resource among {listed(names, 20)}", found=repr(name), fix=fix)
    pairs = _liana().select_resource(name.lower()).drop_duplicates(["ligand", "receptor"])
    about = metadata("liana")
    licence = about.get("License-Expression") or str(about.get("License", "unknown")).splitlines()[0]
    organism = "mouse" if name.lower().startswith("mouse") else "human"
    log.warning(
        "liana %s names no signaling types: all its pairs reach as far as those of type unknown (signaling.decays.unknown). "
        "A table of your own with a column signaling_type, such as CellChat's annotation, tells contact from secreted.",
        name.lower(),
    )
    note = f"liana package: {licence.strip()}; each database has a licence of its own"
    return Resource(
        pairs, f"liana {name.lower()}", version=f"liana {about['Version']}", licence=note, organism=organism
    )


def read_resource(path: str | Path, *, organism: str = "human", licence: str = "unknown") -> Resource:
    """A table of pairs of your own: csv, tsv or parquet.

    Columns `ligand` and `receptor` (LIANA), `source_genesymbol` and `target_genesymbol` (OmniPath), `ligand.symbol` and
    `receptor.symbol` (CellChatDB), or `gene_a` and `gene_b` (CellPhoneDB, whose complexes have no genes there: drop
    these rows, or take `read_liana("cellphonedb")`); where given, also `signaling_type` (or CellChat's `annotation`),
    `pathway`, `agonist`, `antagonist`, `coreceptor`, `evidence`. Subunits are joined by "_", "+", ":" or ",".

    Raises
    ------
    InputError
        Naming the file and what is wrong with it; see also `Resource`.
    """
    path = Path(path)
    table = read_table(path, ids=())
    for side in ("ligand", "receptor"):  # CellChat: `receptor` names a complex, `receptor.symbol` its genes
        if f"{side}.symbol" in table:
            table[side] = table.pop(f"{side}.symbol")
    renamed = table.rename(columns={k: v for k, v in ALIASES.items() if k in table and v not in table})
    renamed = renamed.loc[:, ~renamed.columns.duplicated()]
    if not {"ligand", "receptor"} <= set(renamed):
        raise refusal(
            path,
            expected="columns ligand and receptor, source_genesymbol and target_genesymbol, or gene_a and gene_b",
            found=f"columns {listed(table.columns, 8)}",
            fix=f"{nearest('ligand', table.columns)}Rename the columns.",
        )
    kept = renamed[[c for c in COLUMNS if c in renamed]].astype("string")
    for column in ("ligand", "receptor", "agonist", "antagonist", "coreceptor"):
        if column in kept:
            kept[column] = kept[column].str.strip().str.replace(SEPARATORS, "_", regex=True)
    if "signaling_type" in kept:
        words = kept["signaling_type"].str.strip().str.lower()
        kept["signaling_type"] = words.map(TYPES).fillna(words)
    try:
        return Resource(kept, path.name, version=_stamp(path), licence=licence, organism=organism)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_targets(path: str | Path) -> pd.DataFrame:
    """A table (csv, tsv, parquet) of receptor-to-target links for `relay_chains`: its columns `receptor` and `target`."""
    table = read_table(Path(path), ids=())
    if not {"receptor", "target"} <= set(table):
        raise refusal(
            path,
            expected="columns receptor and target",
            found=f"columns {listed(table.columns, 8)}",
            fix="Rename the columns: target is a gene that signaling through the receptor induces.",
        )
    return table[["receptor", "target"]].astype("string")


def _liana():
    """LIANA's module of resources."""
    if find_spec("liana") is None:
        raise refusal(
            "liana",
            expected="the package liana, which brings the resources",
            found="not installed",
            fix="pip install 'metaniche[liana]', or read a table of your own with read_resource(path).",
        )
    try:
        from liana import resource
    except (ImportError, PackageNotFoundError) as error:
        raise refusal("liana", expected="an importable liana", found=str(error), fix="Install it again.") from error
    return resource


def _stamp(path: Path) -> str:
    """When the file was last changed, as its version."""
    return f"{pd.Timestamp(path.stat().st_mtime, unit='s'):%Y-%m-%d}"
