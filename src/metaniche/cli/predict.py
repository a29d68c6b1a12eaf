"""metaniche-predict: a bundle on new tissue; AnnData in, AnnData and a flat table out."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from metaniche.cli import verb
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.manifest import read_table
from metaniche.io.read import read_sample
from metaniche.io.wording import listed, refusal
from metaniche.io.write import replacing, write_sample
from metaniche.predict import Predictor, load

log = logging.getLogger(__name__)

SUFFIXES = (".h5ad", ".zarr")
UNITS = "units.parquet"


@dataclass(frozen=True)
class Job:
    """A file to score, where its scores go, and whose samples it holds."""

    source: Path
    output: Path
    samples: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()


@verb("predict")
def main(config: DictConfig) -> None:
    predictor = load(config.bundle)
    source, output = Path(config.input), Path(config.output)
    options = {"um_per_unit": config.um_per_unit, "type_aliases": _aliases(config.type_aliases)}
    scoring = {"patients": _patients(config.patients), "coverage_floor": config.coverage_floor}
    if not source.is_dir() or source.suffix == ".zarr":
        _score(predictor, [Job(source, output)], options, scoring)
        return
    groups = _groups(_jobs(source, output))
    output.mkdir(parents=True, exist_ok=True)
    units = []
    for number, group in enumerate(groups, 1):
        log.info("%d/%d %s", number, len(groups), ", ".join(job.source.name for job in group))
        units.append(_score(predictor, group, options, scoring))
    _write_table(pd.concat(units).reset_index(), output / UNITS)


def _jobs(folder: Path, output: Path) -> list[Job]:
    """A job per file of a folder. Raises InputError where two would write one file or hold one sample."""
    paths = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    if not paths:
        found = listed(sorted(path.name for path in folder.iterdir()))
        fix = "Give the folder that holds the samples, or write them as .h5ad."
        raise refusal(folder, expected="samples whose names end in .h5ad or .zarr", found=found, fix=fix)
    stems = Counter([Path(UNITS).stem, *(p.stem for p in paths)])
    twice = [p.name for p in paths if stems[p.stem] > 1]
    if twice:
        found = f"{listed(twice)}; {UNITS} is the table of units"
        fix = "Rename or remove one of them."
        raise refusal(folder, expected="files that differ in more than their suffix", found=found, fix=fix)
    jobs = []
    for path in paths:
        obs = _read(path).obs
        ids = (frozenset(obs[key].astype(str)) for key in (keys.SAMPLE, keys.PATIENT))
        jobs.append(Job(path, output / f"{path.stem}.h5ad", *ids))
    holders = Counter(sample for job in jobs for sample in job.samples)
    shared = sorted(sample for sample, n in holders.items() if n > 1)
    if shared:
        names = [job.source.name for job in jobs if shared[0] in job.samples]
        found = f"{listed(shared)} in several ({shared[0]!r} in {listed(names)})"
        fix = f"Give every sample an id of its own in obs[{keys.SAMPLE!r}]."
        raise refusal(folder, expected="each sample in one file", found=found, fix=fix)
    return jobs


def _groups(jobs: list[Job]) -> list[list[Job]]:
    """Files that share a patient stand together, because a patient is scored once; the others stand alone, which is
    what memory has to hold at a time."""
    groups: list[list[Job]] = []
    for job in jobs:
        joined = [g for g in groups if any(job.patients & other.patients for other in g)]
        groups = [g for g in groups if g not in joined] + [[*(j for g in joined for j in g), job]]
    return groups


def _score(predictor: Predictor, jobs: list[Job], options: dict, scoring: dict) -> pd.DataFrame:
    """Score the samples of all jobs at once, write each file, and return the table of units."""
    read = [_read(job.source) for job in jobs]
    prepared = [_named(job, predictor.prepare, adata, **options) for job, adata in zip(jobs, read)]
    scores = predictor.score([s for samples in prepared for s in samples], **scoring)
    for row in scores.units.itertuples():
        interval = "one network: no interval" if pd.isna(row.low) else f"{row.low:.3f} to {row.high:.3f}"
        log.info("%s: risk %.3f (%s), panel coverage %.0f %%", row.Index, row.risk, interval, 100 * row.coverage)
    for job, adata, samples in zip(jobs, read, prepared):
        scored = predictor.annotate(adata, samples, scores, um_per_unit=options["um_per_unit"])
        write_sample(scored, job.output)
        _write_table(_cells(scored), job.output.with_suffix(".parquet"))
        log.info("Wrote %s and %s", job.output, job.output.with_suffix(".parquet"))
    return scores.units


def _named(job: Job, function, *args, **options):
    """`function(*args, **options)`; an InputError of it names the file."""
    try:
        return function(*args, **options)
    except InputError as error:
        raise InputError(f"{job.source}: {error}") from error


def _read(path: Path):
    """The AnnData of one file. A file that does not say whose it is, is one sample of one patient, and both bear its name."""
    adata = read_sample(path)
    for key in (keys.SAMPLE, keys.PATIENT):
        if key not in adata.obs:
            adata.obs[key] = re.sub(r"\W+", "_", path.stem)
    return adata


def _cells(adata) -> pd.DataFrame:
    """A scored AnnData as a flat table."""
    written = [c for c in adata.obs if c.startswith(keys.PREFIX)]
    context = [c for c in (keys.SAMPLE, keys.PATIENT, keys.CELL_TYPE) if c in adata.obs]
    return adata.obs[context + written].astype(dict.fromkeys(context, object)).rename_axis("cell_id").reset_index()


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary)


def _patients(path: str | None) -> pd.DataFrame | None:
    return None if path is None else read_table(Path(path), ids=(keys.PATIENT,))


def _aliases(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    table = read_table(Path(path), ids=("found", "trained"))
    return dict(zip(table["found"], table["trained"]))


if __name__ == "__main__":
    main()
