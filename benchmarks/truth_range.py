"""Could anyone tell over which range the planted signal is heard? A fit that is told everything else, for docs/benchmarks.md.

For every synthetic cohort the true senders and receivers are given, and only the length scale is asked for: of each length
the mean received signal of a patient is the one variable of a logistic regression on the outcome, over all patients. The
lengths whose deviance is within 3.84 of the least are the 95 % interval by the likelihood ratio. Whatever the length, nobody
is heard beyond the planted reach, which is also that of the graph in `truth_seed_soil.py`: long ones hardly differ.

    python benchmarks/truth_range.py n_patients=80 noise=low away=other_clone seeds=11,12
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from metaniche.data.synthetic import SyntheticConfig, generate
from metaniche.data.synthetic_tissue import DRIVER, RANGE_SCALES, reached
from metaniche.io import keys

LENGTHS_UM = np.array([5, 8, 12, 15, 19, 22, 25, 28, 31, 38, 50, 75, 100, 150, 300], dtype=float)


def main() -> None:
    warnings.filterwarnings("ignore")
    given = dict(each.split("=", 1) for each in sys.argv[1:])
    seeds = [int(s) for s in given.pop("seeds", "11").split(",")]
    numbers = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    for seed in seeds:
        deviance = deviances(SyntheticConfig(**numbers, seed=seed))
        inside = LENGTHS_UM[deviance - deviance.min() < chi2.ppf(0.95, 1)]
        print(
            f"seed {seed}: planted {DRIVER.length_scale_um:g} um, most likely {LENGTHS_UM[deviance.argmin()]:g}, "
            f"95 % interval {inside.min():g} to {inside.max():g} of {LENGTHS_UM[0]:g} to {LENGTHS_UM[-1]:g}"
        )


def deviances(config: SyntheticConfig) -> np.ndarray:
    """(L,) of the outcome given the mean received signal at each of LENGTHS_UM."""
    cohort = generate(config).cohort()
    received = pd.DataFrame([_received(cohort.read(sample)) for sample in cohort.samples.index], cohort.samples.index)
    of_patient = received.groupby(cohort.samples[keys.PATIENT]).mean()
    y = cohort.patients.loc[of_patient.index, "metastasis"]
    scaled = (of_patient - of_patient.mean()) / of_patient.std()
    fits = (LogisticRegression(C=1e4, max_iter=2000).fit(scaled[[j]], y).predict_proba(scaled[[j]]) for j in scaled)
    return np.array([2 * log_loss(y, probability, normalize=False) for probability in fits])


def _received(adata: AnnData) -> np.ndarray:
    """(L,) mean over the malignant cells of what the true receivers hear of the true senders."""
    sends, receives = (adata.obs[f"true_{side}"].to_numpy(bool) for side in ("sends", "receives"))
    pos, n = adata.obsm[keys.SPATIAL], (adata.obs["true_type"] == DRIVER.receiver).sum()
    reach = RANGE_SCALES * DRIVER.length_scale_um
    return np.array([reached(pos[receives], pos[sends], length, reach).sum() / n for length in LENGTHS_UM])


if __name__ == "__main__":
    main()
