"""metaniche-communicate: who signals to whom in every sample, tested; which signals hold in patients, or differ."""

import logging
import sys
import time
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from metaniche import __version__
from metaniche.cli import verb
from metaniche.communicate import communicate_cohort
from metaniche.config import number, open_cohort, plain, read_pairs, read_signaling
from metaniche.errors import ConfigError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.io.progress import Progress
from metaniche.io.wording import listed, nearest
from metaniche.io.write import replacing, write_json, write_parquet
from metaniche.report.figures import chord, pair_dotplot, sender_receiver_heatmap
from metaniche.report.figures.style import to_bytes
from metaniche.signaling import consistent_signals, differential_communication

log = logging.getLogger(__name__)

SHOWN = 15


@verb("communicate")
def main(config: DictConfig) -> None:
    started = time.monotonic()
    number(config, "seed", least=0)
    signaling, resource = read_signaling(config), read_pairs(config)
    cohort = open_cohort(config)
    groups = _groups(config, cohort.patients)
    run_dir = Path(config.paths.run_dir)
    with Progress() as progress:
        table, left_out = communicate_cohort(cohort, resource, signaling, run_dir, config.types, progress)
    write_parquet(table, run_dir / "communication.parquet")
    consistent = consistent_signals(table)
    write_parquet(consistent, run_dir / "patients.parquet")
    if left_out:
        log.warning("Left out %d of %d samples: %s", len(left_out), len(cohort.samples), listed(set(left_out.values())))
    differences = None
    if groups is not None:
        differences = differential_communication(table, groups, value=config.value, seed=config.seed)
        write_parquet(differences, run_dir / "differential.parquet")
    about = {
        "version": __version__, "cohort": cohort.name, **resource.provenance(), "signaling": plain(config.signaling),
        "graph": plain(config.graph), "types": config.types, "compare": config.compare, "left_out": left_out,
        "n_samples": int(table["sample_id"].nunique()), "n_patients": int(table["patient_id"].nunique()),
        "duration_s": round(time.monotonic() - started, 1), "notice": RESEARCH_USE_ONLY,
    }  # fmt: skip
    write_json(run_dir / "run.json", about)
    _draw(table, run_dir)
    _print(consistent, "Signals beyond their null, patient by patient", "enrichment", about["n_patients"])
    if differences is not None:
        first, second = differences.attrs["groups"]
        title = f"Signals that differ: {config.compare} {second} against {first}"
        _print(differences, title, "difference", about["n_patients"])
    log.info(
        "%d signals tested in %d samples of %d patients; wrote tables (communication, patients%s) and pictures to %s",
        len(table), about["n_samples"], about["n_patients"],
        ", differential" if differences is not None else "", run_dir,
    )  # fmt: skip


def _draw(table: pd.DataFrame, run_dir: Path) -> None:
    """The pictures of the table; without a null there is nothing to count."""
    if table["q"].isna().all():
        return
    for name, draw in (("heatmap", sender_receiver_heatmap), ("dotplot", pair_dotplot), ("chord", chord)):
        with replacing(run_dir / f"{name}.png") as temporary:
            temporary.write_bytes(to_bytes(draw(table), "png"))


def _groups(config: DictConfig, patients: pd.DataFrame) -> pd.Series | None:
    """The column of the patient table that is compared, looked at before anything is computed."""
    name = config.compare
    if name is None:
        return None
    if name not in patients:
        raise ConfigError(
            f"Expected compare to be a column of the patient table, found {name!r}. {nearest(name, patients.columns)}"
            f"Columns: {listed(patients.columns, 20)}."
        )
    n = patients[name].nunique()
    if n != 2:
        raise ConfigError(f"Expected compare to be a column of two values, found {n} in {name!r}.")
    return patients[name]


def _print(table: pd.DataFrame, title: str, value: str, n_patients: int) -> None:
    """The signals with the smallest p on the terminal, with intervals over patients."""
    shown = Table("sender", "receiver", "ligand", "receptor", value, "p", "q", title=f"{title}. Research use only")
    for row in table.head(SHOWN).to_dict("records"):
        interval = f"{row[value]:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        names = (row["sender"], row["receiver"], row["ligand"], row["receptor"])
        shown.add_row(*names, interval, f"{row['p']:.2g}", f"{row['q']:.2g}")
    if len(table):
        Console(width=None if sys.stdout.isatty() else 160).print(shown)
    else:
        log.info("%s: no signal was measured in three patients or more (of %d)", title, n_patients)


if __name__ == "__main__":
    main()
