"""metaniche-prepare: a cohort's files to cached CellGraphs."""

import logging

from omegaconf import DictConfig

from metaniche.cli import verb
from metaniche.config import open_cohort

log = logging.getLogger(__name__)


@verb("prepare")
def main(config: DictConfig) -> None:
    cohort = open_cohort(config)
    log.info(
        "%s: %d patients, %d samples, %d cells, %d edges in %s",
        cohort.name,
        cohort.samples["patient_id"].nunique(),
        len(cohort.samples),
        cohort.samples["n_cells"].sum(),
        cohort.samples["n_edges"].sum(),
        cohort.folder,
    )


if __name__ == "__main__":
    main()
