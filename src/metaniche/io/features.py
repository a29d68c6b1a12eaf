"""Are the feature names genes or markers that anybody can recognise?"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import pandas as pd

from metaniche.io.wording import listed, refusal

if TYPE_CHECKING:
    from anndata import AnnData

ORGANISMS = ("human", "mouse")

_ENSEMBL = re.compile(r"ENS([A-Z]{3})?G\d{6,}(\.\d+)?")
_MOUSE = re.compile(r"[A-Z][a-z0-9]+[a-z0-9-]*")
_HUMAN = re.compile(r"[A-Z][A-Z0-9-]*[A-Z][A-Z0-9-]*")
# A few genes break each rule (C1orf112, mouse mt-Nd1, H2-K1); most of a panel never does.
MOST = 0.5


def check_features(
    adata: AnnData,
    *,
    where: object,
    feature_kind: str,
    organism: str | None,
    panel: Collection[str] | None = None,
) -> None:
    """Raise InputError unless `var_names` are distinct names: gene symbols of `organism` for counts, markers otherwise.

    `panel`, where given, lists the features somebody asks for; at least one of them must be there.
    """
    names = adata.var_names.astype(str)
    if not len(names):
        fix = "Store raw values in X with gene or marker names in var_names, or set feature_kind: none."
        raise refusal(where, expected="at least one feature in var_names", found="none", fix=fix)
    blank = names.str.strip().isin(["", "nan", "None"])
    if blank.any():
        fix = "Name or drop them."
        raise refusal(
            where,
            expected="a name for every feature",
            found=f"{int(blank.sum())} blank in var_names",
            fix=fix,
        )
    repeated = names[names.duplicated()].unique()
    if len(repeated):
        raise refusal(
            where,
            expected="unique feature names in var_names",
            found=f"{len(repeated)} names more than once ({listed(repeated)})",
            fix="Sum or drop the duplicates; adata.var_names_make_unique() keeps both under other names.",
        )
    if names.str.fullmatch(r"\d+").all():
        fix = "Set adata.var_names to the gene symbols or marker names."
        raise refusal(where, expected="feature names in var_names", found=f"numbers ({listed(names)})", fix=fix)
    if feature_kind == "counts":
        _check_symbols(adata, names, where)
        _check_organism(names, where, organism)
    if panel is not None and names.isin(list(panel)).sum() == 0:
        raise refusal(
            where,
            expected=f"some of the {len(panel)} features asked for ({listed(sorted(panel))})",
            found=f"none of them among {len(names)} in var_names ({listed(names)})",
            fix="Rename var_names to the same symbols; case counts.",
        )


def looks_like(names: Collection[str]) -> str | None:
    """How most of the names are written: "human" or "mouse" gene symbols, "Ensembl" ids, or None where nobody can say."""
    names = pd.Index([str(name) for name in names], dtype=object)
    shares = {kind: _share(names, form) for kind, form in (("Ensembl", _ENSEMBL), ("human", _HUMAN), ("mouse", _MOUSE))}
    best = max(shares, key=shares.get)
    return best if shares[best] > MOST else None


def _check_symbols(adata: AnnData, names: pd.Index, where: object) -> None:
    if _share(names, _ENSEMBL) <= MOST:
        return
    symbols = [
        c
        for c in adata.var
        if _share(adata.var[c].astype(str), _HUMAN) > MOST or _share(adata.var[c].astype(str), _MOUSE) > MOST
    ]
    column = symbols[0] if symbols else "gene_symbols"
    raise refusal(
        where,
        expected="gene symbols in var_names",
        found=f"Ensembl ids ({listed(names, 2)})",
        fix=f"Use the symbols: adata.var_names = adata.var[{column!r}], and drop duplicates.",
    )


def _check_organism(names: pd.Index, where: object, organism: str | None) -> None:
    """Human symbols are written in capitals, mouse symbols with one."""
    if organism not in ORGANISMS:
        return
    own, other = (_HUMAN, _MOUSE) if organism == "human" else (_MOUSE, _HUMAN)
    if _share(names, other) > max(MOST, _share(names, own)):
        found = "mouse" if organism == "human" else "human"
        raise refusal(
            where,
            expected=f"{organism} gene symbols in var_names",
            found=f"symbols written as {found} ones ({listed(names, 3)})",
            fix=f"Set organism: {found}, or map the genes to their {organism} orthologues first.",
        )


def _share(names: pd.Index | pd.Series, pattern: re.Pattern) -> float:
    """Share of the names that match the whole pattern."""
    return float(names.str.fullmatch(pattern).mean()) if len(names) else 0.0
