"""A table of ligand-receptor pairs with where it comes from, and how much of it a panel of genes can measure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from metaniche.errors import InputError
from metaniche.io.features import looks_like
from metaniche.io.wording import listed, nearest, refusal

SIGNALING_TYPES = ("secreted", "contact", "ecm", "non_protein", "ev")
COFACTORS = ("agonist", "antagonist", "coreceptor")
COLUMNS = ("ligand", "receptor", "signaling_type", "pathway", *COFACTORS, "evidence")
# Subunits of a complex, and cofactors, are joined so; LIANA and CellPhoneDB write complexes alike.
JOIN = "_"


@dataclass(frozen=True, repr=False)
class Resource:
    """Ligand-receptor pairs and their provenance, which travels into every result.

    Attributes
    ----------
    pairs
        A row per pair, with COLUMNS: `ligand` and `receptor` (subunits of a complex joined by "_"), `signaling_type`
        (one of SIGNALING_TYPES), `pathway`, cofactors and `evidence`; missing where the source does not say.
    name, version, licence
        Of the source.
    organism
        "human" or "mouse": whose gene symbols these are.

    Raises
    ------
    InputError
        When the table has no pair, a pair without a ligand or receptor, a pair twice, or an unknown signaling type.
    """

    pairs: pd.DataFrame
    name: str
    version: str = "unknown"
    licence: str = "unknown"
    organism: str = "human"

    def __post_init__(self) -> None:
        absent = [c for c in ("ligand", "receptor") if c not in self.pairs]
        if absent:
            fix = f"{nearest(absent[0], self.pairs.columns)}Rename the columns to ligand and receptor."
            found = f"columns {listed(self.pairs.columns, 8)}"
            raise refusal(self.where, expected=f"a column {absent[0]!r}", found=found, fix=fix)
        pairs = self.pairs.reindex(columns=list(COLUMNS)).reset_index(drop=True)
        pairs = pairs.apply(lambda column: column.astype("string").str.strip()).replace("", pd.NA)
        self._check(pairs)
        object.__setattr__(self, "pairs", pairs)

    def _check(self, pairs: pd.DataFrame) -> None:
        if pairs.empty:
            raise refusal(self.where, expected="at least one pair", found="none", fix="Check the table's filter.")
        named = ["ligand", "receptor"]
        bad = pairs[named].isna().any(axis=1) | pairs[named].apply(_has_blank_subunit).any(axis=1)
        if bad.any():
            fix = "Complete or drop these rows; a file that was cut off must be fetched again."
            found = f"{int(bad.sum())} rows without (first: row {bad.idxmax() + 1})"
            raise refusal(self.where, expected="a ligand and a receptor in every row", found=found, fix=fix)
        twice = pairs.duplicated(named)
        if twice.any():
            names = (pairs["ligand"] + " - " + pairs["receptor"])[twice].unique()
            found = f"{len(names)} pairs more than once ({listed(names, 3)})"
            raise refusal(self.where, expected="every pair once", found=found, fix="Drop the repeated rows.")
        kinds = pairs["signaling_type"].dropna()
        unknown = sorted(set(kinds) - set(SIGNALING_TYPES))
        if unknown:
            fix = f"{nearest(unknown[0], SIGNALING_TYPES)}Leave the field empty where the type is not known."
            raise refusal(self.where, expected=f"signaling_type in {SIGNALING_TYPES}", found=listed(unknown), fix=fix)

    def __repr__(self) -> str:
        return f"Resource({self.name!r}, {len(self.pairs)} pairs, sha256 {self.sha256[:16]})"

    @property
    def where(self) -> str:
        return f"resource {self.name}"

    @cached_property
    def genes(self) -> frozenset[str]:
        """Every subunit of every ligand and receptor."""
        names = pd.concat([self.pairs["ligand"], self.pairs["receptor"]]).unique()
        return frozenset(gene for name in names for gene in subunits(name))

    @cached_property
    def sha256(self) -> str:
        """Of the pairs as they are: the same for the same content, whatever file it came from."""
        return hashlib.sha256(self.pairs.to_csv(index=False).encode()).hexdigest()

    def provenance(self) -> dict[str, str | int]:
        """What a result must say about its pairs."""
        about = {"resource": self.name, "version": self.version, "licence": self.licence, "organism": self.organism}
        return about | {"n_pairs": len(self.pairs), "sha256": self.sha256}

    def overlap(self, panel: Collection[str]) -> Overlap:
        """Which pairs the genes or markers of `panel` measure: those of which no subunit is missing.

        Raises InputError when no pair is measured; it says what the names of the panel look like.
        """
        known = frozenset(map(str, panel))
        sides = zip(self.pairs["ligand"], self.pairs["receptor"])
        genes = [(*subunits(ligand, known), *subunits(receptor, known)) for ligand, receptor in sides]
        missing = pd.Series(
            [JOIN.join(dict.fromkeys(g for g in names if g not in known)) for names in genes], dtype=str
        )
        found = Overlap(self, missing, len(known))
        if not found.n_measured:
            raise InputError(self._nothing_measured(sorted(known)))
        return found

    def _nothing_measured(self, panel: list[str]) -> str:
        likeness = looks_like(panel)
        other = likeness not in (None, self.organism)
        some = sum(gene in self.genes for gene in panel)
        fix = (
            f"They look like {likeness} names: map them to {self.organism} symbols, or translate the resource."
            if other
            else "Measure both sides of a pair, or take a resource that has pairs of this panel."
        )
        return (
            f"{self.where}: expected at least one of {len(self.pairs)} pairs among the {len(panel)} features, found "
            f"none ({some} of them are in the resource; features: {listed(panel, 4)}). {fix}"
        )

    def translated(self, orthologs: pd.DataFrame, organism: str, most: int = 1) -> tuple[Resource, pd.DataFrame]:
        """The pairs in symbols of another organism, and the pairs that are lost with the reason.

        Parameters
        ----------
        orthologs
            Two columns: gene symbols of this resource's organism, and their orthologues.
        organism
            Whose symbols the second column has.
        most
            A gene with more orthologues than this is ambiguous and loses its pairs; up to it, all combinations are made.
        """
        if orthologs.shape[1] != 2 or orthologs.empty:
            fix = "Give a table of two columns: symbol here, symbol there."
            found = f"{orthologs.shape[0]} rows of {orthologs.shape[1]} columns"
            raise refusal(self.where, expected="orthologues in two columns", found=found, fix=fix)
        table = orthologs.astype("string").dropna().drop_duplicates()
        mates = table.groupby(table.columns[0])[table.columns[1]].agg(list).to_dict()
        kept, lost = [], []
        for row in self.pairs.to_dict("records"):
            genes = (*subunits(row["ligand"]), *subunits(row["receptor"]))
            without = [g for g in genes if not 1 <= len(mates.get(g, ())) <= most]
            if without:
                why = "no orthologue" if without[0] not in mates else f"{len(mates[without[0]])} orthologues"
                lost.append((row["ligand"], row["receptor"], f"{without[0]}: {why}"))
                continue
            cofactors = {c: _translated(row[c], mates) for c in COFACTORS}
            for ligand in _combinations(row["ligand"], mates):
                for receptor in _combinations(row["receptor"], mates):
                    kept.append(row | cofactors | {"ligand": ligand, "receptor": receptor})
        lost = pd.DataFrame(lost, columns=["ligand", "receptor", "reason"])
        if not kept:
            fix = "Check that its first column has symbols of " + self.organism + "."
            found = f"none: {listed(lost['reason'].unique(), 3)}"
            raise refusal(self.where, expected="pairs in the table of orthologues", found=found, fix=fix)
        pairs = pd.DataFrame(kept).drop_duplicates(["ligand", "receptor"])
        name = f"{self.name} ({self.organism} to {organism})"
        return replace(self, pairs=pairs, name=name, organism=organism), lost


@dataclass(frozen=True)
class Overlap:
    """Which pairs of a resource a panel measures."""

    resource: Resource
    missing: pd.Series
    """Per pair, its subunits that are not measured, joined by "_"; empty for a measured pair."""
    n_features: int
    """Of the panel."""

    @property
    def measured(self) -> pd.DataFrame:
        """The pairs of which every subunit is measured, under their row numbers in the resource."""
        return self.resource.pairs[self.missing == ""]

    @property
    def n_measured(self) -> int:
        return int((self.missing == "").sum())

    @property
    def coverage(self) -> float:
        """Measured share of the pairs."""
        return self.n_measured / len(self.missing)

    def describe(self) -> str:
        """One line for a log or a report."""
        lacking = [f"{p.ligand} - {p.receptor}" for p in self.resource.pairs[self.missing != ""].itertuples()]
        return (
            f"{self.resource.name}: {self.n_measured} of {len(self.missing)} pairs measured by {self.n_features} features "
            f"({self.coverage:.0%}); {len(lacking)} lack a gene" + (f" ({listed(lacking, 3)})" if lacking else "")
        )


def subunits(name: str, panel: Collection[str] = ()) -> tuple[str, ...]:
    """Genes of a ligand or receptor; a single gene is a complex of one, and so is what `panel` has under the whole name."""
    return (str(name),) if name in panel else tuple(str(name).split(JOIN))


def _has_blank_subunit(names: pd.Series) -> pd.Series:
    return names.fillna("").map(lambda name: any(not part.strip() for part in subunits(name)))


def _combinations(name: str, mates: dict[str, list[str]]) -> list[str]:
    """Every way to write a complex with one orthologue per subunit."""
    made = [""]
    for gene in subunits(name):
        made = [f"{head}{JOIN}{mate}" if head else mate for head in made for mate in mates[gene]]
    return made


def _translated(cofactors: object, mates: dict[str, list[str]]) -> object:
    """Cofactors in the other organism's symbols; those without an orthologue fall away."""
    if pd.isna(cofactors):
        return cofactors
    return JOIN.join(mate for gene in subunits(cofactors) for mate in mates.get(gene, ())) or pd.NA
