"""Gene sets of cell states, packaged or a user's own; `data.features` makes a score of each, one number per cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from metaniche.errors import InputError
from metaniche.io.manifest import read_table
from metaniche.io.wording import listed, nearest, refusal

PACKAGED = "packaged"


class GeneSet(NamedTuple):
    """Human gene symbols, older and present ones of the same gene, and where they are from."""

    genes: tuple[str, ...]
    source: str


def _set(source: str, genes: str) -> GeneSet:
    return GeneSet(tuple(genes.split()), source)


GENE_SETS: dict[str, GeneSet] = {
    "partial EMT": _set(
        "Program common to malignant cells of head and neck tumours, Puram et al. 2017, doi:10.1016/j.cell.2017.10.044",
        """
        SERPINE1 TGFBI MMP10 LAMC2 P4HA2 PDPN ITGA5 LAMA3 CDH13 TNC MMP2 EMP3 INHBA LAMB3 VIM SEMA3C PRKCDBP CAVIN3 ANXA5 DHRS7
        ITGB1 ACTN1 CXCR7 ACKR3 ITGB6 IGFBP7 THBS1 PTHLH TNFRSF6B PDLIM7 CAV1 DKK3 COL17A1 LTBP1 COL5A2 COL1A1 FHL2 TIMP3 PLAU
        LGALS1 PSMD2 CD63 HERPUD1 TPM1 SLC39A14 C1S MMP1 EXT2 COL4A2 PRSS23 SLC7A8 SLC31A2 ARPC1B APP MFAP2 MPZL1 DFNA5 GSDME
        MT2A MAGED2 ITGA6 FSTL1 TNFRSF12A IL32 COPB2 PTK7 OCIAD2 TAX1BP3 SEC13 SERPINH1 TPM4 MYH9 ANXA8L1 PLOD2 GALNT2
        LEPREL1 P3H2 MAGED1 SLC38A5 FSTL3 CD99 F3 PSAP NMRK1 FKBP9 DSG2 ECM1 HTRA1 SERINC1 CALU TPST1 PLOD3 IGFBP3 FRMD6 CXCL14
        SERPINE2 RABAC1 TMED9 NAGK BMP1 ESYT1 STON2 TAGLN GJA1
        """,
    ),
    "EMT": _set(
        "Transcription factors and mesenchymal markers that the EMT guidelines name, Yang et al. 2020, "
        "doi:10.1038/s41580-020-0237-9; our choice",
        "SNAI1 SNAI2 TWIST1 TWIST2 ZEB1 ZEB2 VIM CDH2 FN1 S100A4 ACTA2 MMP2 MMP9 ITGA5",
    ),
    "stemness": _set(
        "Markers of cancer stem cells across tumours, as reviewed in Batlle and Clevers 2017, doi:10.1038/nm.4409; our choice",
        "CD44 PROM1 ALDH1A1 LGR5 CD24 ITGA6 THY1 ABCG2 BMI1 NANOG POU5F1 SOX2 KLF4 SOX9 ASCL2 OLFM4",
    ),
    "hypoxia": _set(
        "Fifteen genes common to hypoxic tumours, Buffa et al. 2010, doi:10.1038/sj.bjc.6605450",
        "ACOT7 ADM ALDOA CDKN3 ENO1 LDHA MIF MRPS17 NDRG1 P4HA1 PGAM1 SLC2A1 TPI1 TUBB6 VEGFA",
    ),
    "proliferation": _set(
        "Genes of S and G2/M phase, Tirosh et al. 2016, doi:10.1126/science.aad0501",
        """
        MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 MLF1IP CENPU HELLS RFC2 RPA2 NASP RAD51AP1 GMNN
        WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51 RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 USP1 CLSPN POLA1 CHAF1B
        BRIP1 E2F8 HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO CENPF TACC3 FAM64A PIMREG SMC4
        CCNB2 CKAP2L CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B HJURP CDCA3 HN1 JPT1 CDC20 TTK CDC25C KIF2C RANGAP1
        NCAPD2 DLGAP5 CDCA2 CDCA8 ECT2 KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA
        """,
    ),
    "glycolysis": _set(
        "Enzymes from glucose to lactate and the transporters at both ends; textbook",
        "SLC2A1 HK1 HK2 GPI PFKL PFKM PFKP ALDOA ALDOC TPI1 GAPDH PGK1 PGAM1 ENO1 ENO2 PKM LDHA SLC16A3",
    ),
    "oxidative phosphorylation": _set(
        "Nuclear-encoded subunits of the respiratory chain and of ATP synthase; textbook",
        """
        NDUFA1 NDUFA2 NDUFA4 NDUFA6 NDUFA9 NDUFA10 NDUFA13 NDUFAB1 NDUFB2 NDUFB4 NDUFB7 NDUFB8 NDUFB9 NDUFB10 NDUFB11
        NDUFC1 NDUFC2 NDUFS1 NDUFS2 NDUFS3 NDUFS5 NDUFS6 NDUFS7 NDUFS8 NDUFV1 NDUFV2 SDHA SDHB SDHC SDHD UQCRB UQCRC1
        UQCRC2 UQCRFS1 UQCRH UQCRQ UQCR10 UQCR11 CYC1 COX4I1 COX5A COX5B COX6A1 COX6B1 COX6C COX7A2 COX7B COX7C COX8A
        ATP5F1A ATP5F1B ATP5F1C ATP5F1D ATP5F1E ATP5MC1 ATP5MC2 ATP5MC3 ATP5ME ATP5MF ATP5MG ATP5PB ATP5PD ATP5PF ATP5PO
        """,
    ),
}


def read_gene_sets(source: str | Path) -> dict[str, tuple[str, ...]]:
    """Gene sets by name: "packaged" (GENE_SETS), or the path of your own.

    Parameters
    ----------
    source
        "packaged"; a GMT file (name, description, genes, by tabs); or a table (csv, tsv, parquet) with the columns `set`
        and `gene`. Markers of a protein panel do as genes.

    Raises InputError, with the file's name, for one that holds no sets, or a set without genes or twice.
    """
    if str(source) == PACKAGED:
        return {name: of.genes for name, of in GENE_SETS.items()}
    path = Path(source)
    if path.suffix.lower() != ".gmt":
        return _of_table(path)
    if not path.is_file():
        raise refusal(
            path, expected=f"a file of gene sets, or {PACKAGED!r}", found="no such file", fix="Check the path."
        )
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    sets = {
        name: tuple(dict.fromkeys(g.strip() for g in genes if g.strip())) for name, _, *genes in _checked(rows, path)
    }
    empty = [name for name, genes in sets.items() if not genes]
    if empty or len(sets) < len(rows) or not rows:
        found = f"{listed(empty)} without" if empty else f"{len(sets)} names in {len(rows)} lines"
        raise refusal(path, expected="sets of different names, each with genes", found=found, fix="Complete the lines.")
    return sets


def _checked(rows: list[list[str]], path: Path) -> list[list[str]]:
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise refusal(
                path,
                expected="a name, a description and genes between tabs in each line",
                found=f"line {number} without a tab",
                fix="Save it as GMT, or as a csv with columns set and gene.",
            )
    return rows


def _of_table(path: Path) -> dict[str, tuple[str, ...]]:
    table = read_table(path, ids=())
    if not {"set", "gene"} <= set(table):
        raise refusal(
            path,
            expected="columns set and gene",
            found=f"columns {listed(table.columns, 8)}",
            fix=f"{nearest('gene', table.columns)}Rename the columns, or give a .gmt file.",
        )
    rows = table[["set", "gene"]].dropna().astype(str).apply(lambda column: column.str.strip())
    if rows.empty:
        raise refusal(path, expected="sets with genes", found="none", fix="Fill the columns set and gene.")
    return {str(name): tuple(pd.unique(genes)) for name, genes in rows.groupby("set", sort=False)["gene"]}


def measured_sets(
    sets: Mapping[str, Sequence[str]], panel: Collection[str], least: int
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Each set's genes that the panel has, and a word on every set of which it has fewer than `least`.

    Raises InputError where no set is left.
    """
    here = {name: tuple(g for g in genes if g in panel) for name, genes in sets.items()}
    few = [f"{name} ({len(genes)} of {len(sets[name])})" for name, genes in here.items() if len(genes) < least]
    kept = {name: genes for name, genes in here.items() if len(genes) >= least}
    if not kept:
        raise InputError(
            f"Expected at least {least} measured genes in one of {len(sets)} gene sets, found {listed(few)} among {len(panel)} "
            "features. Give sets in the names of the panel, or leave features.gene_sets out."
        )
    return kept, few
