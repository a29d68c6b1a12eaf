"""metaniche-predict: a bundle on new tissue; AnnData in, AnnData and a flat table out."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from metaniche.cli import verb
from metaniche.data.applicability import check_floor
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.manifest import read_table
from metaniche.io.read import read_obs, read_sample
from metaniche.io.wording import listed, refusal
from metaniche.io.write import SUFFIXES, write_parquet, write_sample
from metaniche.predict import Predictor, load

log = logging.getLogger(__name__)

UNITS = "units.parquet"
ZARR_MARKS = (".zgroup", "zarr.json")  # one of them makes a folder a store


@dataclass(frozen=True)
class Job:
    """A file to score, where its scores go, and whose samples it holds."""

    source: Path
    output: Path
    samples: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()

    @property
    def table(self) -> Path:
        """The flat table of cells, beside the AnnData."""
        return self.output.with_suffix(".parquet")


@verb("predict")
def main(config: DictConfig) -> None:
    source, output = Path(config.input), Path(config.output)
    scoring = {"coverage_floor": check_floor(config.coverage_floor)}
    of_folder = source.is_dir() and source.suffix != ".zarr"
    check_output(source, output, of_folder, config.overwrite)
    predictor = load(config.bundle, config.device)
    options = {"um_per_unit": config.um_per_unit, "type_aliases": _aliases(config.type_aliases)}
    scoring["patients"] = _patients(config.patients)
    if not of_folder:
        _score(predictor, [Job(source, output)], options, scoring)
        return
    jobs, refused = _jobs(source, output)
    groups = _groups(jobs)
    output.mkdir(parents=True, exist_ok=True)
    units = []
    for number, group in enumerate(groups, 1):
        names = [job.source.name for job in group]
        log.info("%d/%d %s", number, len(groups), ", ".join(names))
        try:
            units.append(_score(predictor, group, options, scoring))
        except InputError as error:
            log.error("Not scored: %s", error)
            refused += names
    if units:
        write_parquet(pd.concat(units).reset_index(), output / UNITS)
    if refused:
        raise InputError(
            f"Files of {source} that were not scored, for the reasons above: {len(refused)} ({listed(refused)}). "
            f"What the others give is in {output}; correct these and score them by themselves."
        )


def check_output(source: Path, output: Path, of_folder: bool, overwrite: bool) -> None:
    """Raise InputError, before anything is scored, where the output cannot be written or would write over something."""
    if not source.exists():
        raise refusal(source, expected="an input file or folder", found="no such path", fix="Check input=.")
    if output.exists() and output.samefile(source):
        fix = "The source would be lost: give another output."
        raise refusal(output, expected="an output that is not the input", found="the same place", fix=fix)
    if of_folder:
        if output.exists() and not output.is_dir():
            found, fix = "a file", "The input is a folder: give a folder as output."
            raise refusal(output, expected="a folder to write into", found=found, fix=fix)
        jobs = [Job(path, _output_of(path, output)) for path in _files(source)]
        written = [output / UNITS, *(path for job in jobs for path in (job.output, job.table))]
    else:
        _check_file(source, output)
        written = [output, Job(source, output).table]
    sources = _files(source) if of_folder else [source]
    lost = [path for path in written if path.exists() and any(path.samefile(own) for own in sources)]
    if lost:
        fix = "The source would be lost: give another output."
        raise refusal(output, expected="outputs that are no inputs", found=listed(lost, 3), fix=fix)
    present = [path for path in written if path.exists()]
    if present and not overwrite:
        found = f"{len(present)} of {len(written)} already there ({listed(present, 3)})"
        fix = "overwrite=true replaces them; or give another output."
        raise refusal(output, expected="outputs that do not exist yet", found=found, fix=fix)


def _check_file(source: Path, output: Path) -> None:
    if output.suffix not in SUFFIXES or (output.suffix == ".h5ad" and output.is_dir()):
        found = "a folder" if output.is_dir() else repr(output.suffix)
        fix = f"Name the file: output={output / f'{source.stem}.h5ad'}" if output.is_dir() else "Rename the output."
        raise refusal(output, expected="a path ending in .h5ad or .zarr for one input file", found=found, fix=fix)
    if output.suffix == ".zarr" and output.exists() and not any((output / name).exists() for name in ZARR_MARKS):
        found, fix = "other content", "Give another output."
        raise refusal(output, expected="a zarr store, or nothing", found=found, fix=fix)
    if not output.parent.is_dir():
        found = f"none at {output.parent}"
        raise refusal(output, expected="an existing folder", found=found, fix="Create it first.")


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)


def _output_of(path: Path, output: Path) -> Path:
    return output / f"{path.stem}.h5ad"


def _jobs(folder: Path, output: Path) -> tuple[list[Job], list[str]]:
    """A job per file of a folder, and the names of files that cannot be read. Raises InputError where two would write one file
    or hold one sample."""
    paths = _files(folder)
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
    jobs, unread = [], []
    for path in paths:
        try:
            obs = _named(read_obs(path), path)
        except InputError as error:
            log.error("Not scored: %s", error)
            unread.append(path.name)
            continue
        ids = (frozenset(obs[key].astype(str)) for key in (keys.SAMPLE, keys.PATIENT))
        jobs.append(Job(path, _output_of(path, output), *ids))
    holders = Counter(sample for job in jobs for sample in job.samples)
    shared = sorted(sample for sample, n in holders.items() if n > 1)
    if shared:
        names = [job.source.name for job in jobs if shared[0] in job.samples]
        found = f"{listed(shared)} in several ({shared[0]!r} in {listed(names)})"
        fix = f"Give every sample an id of its own in obs[{keys.SAMPLE!r}]."
        raise refusal(folder, expected="each sample in one file", found=found, fix=fix)
    return jobs, unread


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
    prepared = [predictor.prepare(adata, **options, where=str(job.source)) for job, adata in zip(jobs, read)]
    every = [s for samples in prepared for s in samples]
    predictor.check_patients(every, scoring["patients"])
    scores = predictor.score(every, **scoring)
    for row in scores.units.itertuples():
        interval = "one network: no interval" if pd.isna(row.low) else f"{row.low:.3f} to {row.high:.3f}"
        pairs = f", of pairs {100 * row.pair_coverage:.0f} %" if "pair_coverage" in scores.units else ""
        log.log(
            logging.WARNING if row.note else logging.INFO,
            "%s: risk %.3f (%s), panel coverage %.0f %%%s, calibration: %s%s",
            row.Index, row.risk, interval, 100 * row.coverage, pairs, predictor.calibration,
            f". {row.note}" if row.note else "",
        )  # fmt: skip
    for job, adata, samples in zip(jobs, read, prepared):
        scored = predictor.annotate(adata, samples, scores, coverage_floor=scoring["coverage_floor"], **options)
        write_sample(scored, job.output)
        write_parquet(_cells(scored), job.table)
        log.info("Wrote %s and %s", job.output, job.table)
    return scores.units


def _read(path: Path):
    adata = read_sample(path)
    _named(adata.obs, path)
    return adata


def _named(obs: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A file that does not say whose it is, is one sample of one patient, and both bear its name; written into `obs`."""
    for key in (keys.SAMPLE, keys.PATIENT):
        if key not in obs:
            obs[key] = re.sub(r"\W+", "_", path.stem)
    return obs


def _cells(adata) -> pd.DataFrame:
    """A scored AnnData as a flat table."""
    written = [c for c in adata.obs if c.startswith(keys.PREFIX)]
    context = [c for c in (keys.SAMPLE, keys.PATIENT, keys.CELL_TYPE) if c in adata.obs]
    return adata.obs[context + written].astype(dict.fromkeys(context, object)).rename_axis("cell_id").reset_index()


def _patients(path: str | None) -> pd.DataFrame | None:
    return None if path is None else read_table(Path(path), ids=(keys.PATIENT,))


def _aliases(given: str | DictConfig | None) -> dict[str, str] | None:
    if given is None:
        return None
    if isinstance(given, DictConfig):
        return {str(found): str(trained) for found, trained in given.items()}
    table = read_table(Path(given), ids=("found", "trained"))
    return dict(zip(table["found"], table["trained"]))


if __name__ == "__main__":
    main()
