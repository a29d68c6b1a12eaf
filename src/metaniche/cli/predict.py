"""metaniche-predict: a bundle on new tissue; AnnData in, AnnData and a flat table out."""

import logging
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from metaniche.cli import verb
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.read import read_sample
from metaniche.io.write import write_sample
from metaniche.predict import Predictor, load

log = logging.getLogger(__name__)

SUFFIXES = (".h5ad", ".zarr")


@verb("predict")
def main(config: DictConfig) -> None:
    predictor = load(config.bundle)
    source, output = Path(config.input), Path(config.output)
    patients = _patients(config.patients)
    if source.is_dir() and source.suffix != ".zarr":
        inputs = sorted(p for p in source.iterdir() if p.suffix in SUFFIXES)
        if not inputs:
            raise InputError(f"Expected .h5ad or .zarr samples in {source}, found none.")
        output.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(inputs, 1):
            log.info("%d/%d %s", number, len(inputs), path.name)
            _predict_one(predictor, path, output / f"{path.stem}.h5ad", config, patients)
    else:
        _predict_one(predictor, source, output, config, patients)


def _predict_one(
    predictor: Predictor, source: Path, output: Path, config: DictConfig, patients: pd.DataFrame | None
) -> None:
    adata = predictor.predict(
        read_sample(source),
        um_per_unit=config.um_per_unit,
        patients=patients,
        coverage_floor=config.coverage_floor,
        type_aliases=_aliases(config.type_aliases),
    )
    write_sample(adata, output)
    written = [c for c in adata.obs if c.startswith(keys.PREFIX)]
    context = [c for c in (keys.SAMPLE, keys.PATIENT, keys.CELL_TYPE) if c in adata.obs]
    cells = adata.obs[context + written].astype(dict.fromkeys(context, object)).rename_axis("cell_id").reset_index()
    cells.to_parquet(output.with_suffix(".parquet"))
    for row in adata.uns[keys.UNS]["units"].itertuples():
        log.info(
            "%s: risk %.3f (%.3f to %.3f), panel coverage %.0f %%",
            row.unit_id, row.risk, row.low, row.high, 100 * row.coverage,
        )  # fmt: skip
    log.info("Wrote %s and %s", output, output.with_suffix(".parquet"))


def _patients(path: str | None) -> pd.DataFrame | None:
    if path is None:
        return None
    table = pd.read_parquet(path) if str(path).endswith(".parquet") else pd.read_csv(path)
    if keys.PATIENT not in table:
        raise InputError(f"{path}: expected a column {keys.PATIENT!r}, found {list(table.columns)}.")
    return table.astype({keys.PATIENT: str}).set_index(keys.PATIENT)


def _aliases(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    table = pd.read_csv(path, dtype=str)
    if not {"found", "trained"} <= set(table.columns):
        raise InputError(f"{path}: expected columns 'found' and 'trained', found {list(table.columns)}.")
    return dict(zip(table["found"], table["trained"]))


if __name__ == "__main__":
    main()
