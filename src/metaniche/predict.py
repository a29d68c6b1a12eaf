"""Inference without Lightning and Hydra: `load(bundle).predict(adata)`; a Bundle and samples in, scores out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from metaniche import __version__
from metaniche.annotate import annotated
from metaniche.clones import clone_potentials
from metaniche.data.applicability import (
    check_aliases,
    check_coverage,
    check_edges,
    check_floor,
    check_kind,
    check_tumour,
    doubts,
)
from metaniche.data.batch import Batch, collate
from metaniche.data.clinical import ClinicalFeatures, clinical_table
from metaniche.data.cohort import CohortConfig
from metaniche.data.features import Features
from metaniche.data.outcome import cell_potential, cox_survival, discrete_survival, ensemble_risk, of_event
from metaniche.data.pairs import PairFeatures
from metaniche.data.prepare import prepare_anndata
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.data.units import make_bags, samples_by_unit
from metaniche.graph import GraphConfig
from metaniche.io import keys
from metaniche.io.coordinates import resolve_um_per_unit
from metaniche.io.record import own_record
from metaniche.io.wording import listed, nearest, refusal
from metaniche.models import MIL, MILOutput
from metaniche.models.bundle import Bundle
from metaniche.models.novelty import Novelty
from metaniche.ops.backend import device_of, where_it_fits

log = logging.getLogger(__name__)

COVERAGE_FLOOR = 0.5
NOVEL_SHARE = 0.1  # of cells; of training tissue it is 0.01
UNIT_REMEDY = "Give um_per_unit (on the command line: um_per_unit=0.5)"


@dataclass(frozen=True)
class Scores:
    """What a bundle says of some samples.

    Attributes
    ----------
    units
        A row per unit (patient or sample): `risk` (probability; log-risk for Cox), `low`, `high` (90 % interval of the
        ensemble's spread, not a coverage guarantee; NaN for a single member), `coverage`, `pair_coverage` (of networks
        that hear pairs: the share of these that is measured; the others count as silent), `novel` (share of cells
        unlike those of training, see `models.novelty`; where the bundle knows), `note` (what makes it doubtful, see
        `metaniche.data.applicability.doubts`; empty where nothing does), one column per site, and one per term of the
        logit where the network has such: `seed`, `soil`, `signals`.
    cells
        A row per cell in graph order: sample_id, cell_id, x_um, y_um, is_malignant, cell_type, `metaniche_attention`, and NaN
        for cells known not to be malignant, unless the task is about cells: `metaniche_potential`, and the terms of its logit
        where the network has such, as `metaniche_seed`.
    clones
        A row per unit and clone of its malignant cells, where cells have a `clone_id`: see `metaniche.clones`.
    embedding
        sample_id -> (N, width) float32, mean over members, in graph order.
    survival
        Units x times, or None.
    """

    units: pd.DataFrame
    cells: pd.DataFrame
    clones: pd.DataFrame
    embedding: dict[str, np.ndarray]
    survival: pd.DataFrame | None = None


class Forward(NamedTuple):
    """What the members say of one unit: (members, K) unit logits; of its cells (members, N, K) logits, (members, N) attention
    and (N, width) embedding, a mean over members; and the terms of the logits, by name, (N,) of cells and of the unit, means
    over members and outputs.
    """

    bag_logits: torch.Tensor
    cell_logits: torch.Tensor
    attention: torch.Tensor
    embedding: np.ndarray
    cell_terms: dict[str, np.ndarray]
    unit_terms: dict[str, float]


@dataclass
class Predictor:
    """A Bundle made ready to score samples on `device`, as `metaniche.ops.backend.device_of` names them."""

    bundle: Bundle
    device: torch.device | str = "auto"
    task: Task = field(init=False)
    features: Features = field(init=False)
    clinical: ClinicalFeatures | None = field(init=False)
    pairs: PairFeatures | None = field(init=False)
    graph: GraphConfig = field(init=False)
    cohort: CohortConfig = field(init=False)
    members: list[MIL] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.task, self.features, self.clinical, self.pairs, self.graph, self.cohort = self.bundle.parts()
        self.device = device_of(self.device)
        self.members = [network.to(self.device) for network in self.bundle.members()]

    @torch.no_grad()  # not inference_mode, whose tensors do not count their changes: see `ops.kept`
    def score(
        self,
        samples: Sequence[PreparedSample],
        patients: pd.DataFrame | None = None,
        *,
        coverage_floor: float = COVERAGE_FLOOR,
    ) -> Scores:
        """Score prepared samples, unit by unit. `patients` (with patient_id as index or column) gives clinical variables.

        Raises InputError when a sample measures less than `coverage_floor` of the features or pairs the bundle was trained on,
        or when the bundle uses clinical variables and `patients` lacks them; ConfigError for a floor that is none, and where
        organs are to speak to a tumour that nobody names.
        """
        coverage_floor = check_floor(coverage_floor)
        coverage = check_coverage(samples, self.features, coverage_floor, self.pairs)
        if any(getattr(network, "organs", None) is not None for network in self.members):
            check_tumour(samples)
        rows, cells, clones, embedding, logits = {}, [], [], {}, {}
        novelty = self.novelty
        made_up = self.clinical.doubts(self._clinical_of(samples, patients)) if self.clinical else {}
        for unit, members, batch in self.batches(samples, patients):
            out = self._forward(batch)
            logits[unit] = out.bag_logits.mean(0)
            said = doubts(members, self.features, self.bundle.pool, self.pairs)
            rows[unit] = (
                self._unit_row(out.bag_logits)
                | out.unit_terms
                | {"patient_id": members[0].patient_id}
                | coverage.loc[[s.sample_id for s in members]].min().to_dict()
                | {"note": "; ".join(said + made_up.get(members[0].patient_id, []))}
            )
            if novelty is not None:
                rows[unit] |= _novel(novelty.share(out.embedding), rows[unit]["note"])
            clones.append(self._clones(unit, members, out))
            potential = cell_potential(self.task, out.cell_logits.mean(0)).numpy()
            attention, start = out.attention.mean(0).numpy(), 0
            for sample in members:
                own = slice(start, start + sample.n_cells)
                shown = np.ones(sample.n_cells, bool) if self.task.level == "cell" else sample.is_malignant
                of_cells = {f"{keys.PREFIX}_{name}": z[own] for name, z in out.cell_terms.items()}
                of_cells = {keys.POTENTIAL: potential[own], **of_cells}
                table = _cell_table(sample, attention[own])
                cells.append(
                    table.assign(**{k: np.where(shown, v, np.nan).astype(np.float32) for k, v in of_cells.items()})
                )
                embedding[sample.sample_id] = out.embedding[own]
                start += sample.n_cells
        units = pd.DataFrame.from_dict(rows, orient="index").rename_axis("unit_id")
        survival = self._survival(units.index, np.stack(list(logits.values())))
        tables = (pd.concat(parts, ignore_index=True) for parts in (cells, clones))
        return Scores(units, *tables, embedding, survival)

    def predict(
        self,
        adata: AnnData,
        *,
        um_per_unit: float | None = None,
        patients: pd.DataFrame | None = None,
        coverage_floor: float = COVERAGE_FLOOR,
        type_aliases: dict[str, str] | None = None,
    ) -> AnnData:
        """Score one AnnData (one or many samples by obs["sample_id"]) and return a copy with metaniche's keys.

        Written: obs["metaniche_potential"], obs["metaniche_attention"], obsm["X_metaniche"], and uns["metaniche"] with
        version, model hash, task, calibration, parameters (JSON), units with interval, coverage and note. `type_aliases`
        gives this data's names of cell types the bundle's: {"Tumor": "tumor cells"}. Warns of every unit with a note; raises
        InputError as `score` and `check_patients` do.
        """
        coverage_floor = check_floor(coverage_floor)
        samples = self.prepare(adata, um_per_unit=um_per_unit, type_aliases=type_aliases)
        self.check_patients(samples, patients)
        scores = self.score(samples, patients, coverage_floor=coverage_floor)
        for row in scores.units[scores.units["note"] != ""].itertuples():
            log.warning("%s: %s", row.Index, row.note)
        return self.annotate(
            adata, samples, scores, um_per_unit=um_per_unit, coverage_floor=coverage_floor, type_aliases=type_aliases
        )

    def prepare(
        self,
        adata: AnnData,
        *,
        um_per_unit: float | None = None,
        type_aliases: dict[str, str] | None = None,
        where: str = "adata",
    ) -> list[PreparedSample]:
        """The samples of one AnnData, read as the bundle's own were; `where` names it in messages.

        Raises InputError where cell types are missing, the features are of another kind than the bundle's, an alias stands
        for a type that the bundle does not know, or the network needs neighbours and no cell has one.
        """
        if not isinstance(adata, AnnData):
            fix = "Read the file first: metaniche.io.read.read_sample(path)."
            raise refusal(where, expected="an AnnData", found=f"{type(adata).__name__} {str(adata)[:60]!r}", fix=fix)
        check_kind(own_record(adata, where=where).get(keys.FEATURE_KIND), self.features, where=where)
        check_aliases(type_aliases or {}, self.features, self.cohort)
        config = replace(self.cohort, type_aliases=self.cohort.type_aliases | (type_aliases or {}))
        if self.features.types and config.cell_type_key not in adata.obs:
            raise refusal(
                where,
                expected=f"a column obs[{config.cell_type_key!r}] of cell types, on which this bundle was trained "
                f"({listed(self.features.types)})",
                found=f"columns {listed(sorted(map(str, adata.obs.columns)))}",
                fix=f"{nearest(config.cell_type_key, adata.obs.columns)}Rename or add the column.",
            )
        samples = prepare_anndata(adata, config, self.graph, um_per_unit=um_per_unit, where=where, remedy=UNIT_REMEDY)
        for sample in samples if self.members[0].hops else ():
            check_edges(sample, self.graph.radius_um, where=where)
        for sample in samples if config.malignant_types else ():
            if not sample.is_malignant.any():
                log.warning(
                    "Sample %s: no cell is of a malignant type (%s): types found are %s. If they go by other names, give "
                    "type_aliases.",
                    sample.sample_id, listed(config.malignant_types),
                    "none" if sample.cell_types is None else listed(sorted(map(str, sample.cell_types.categories))),
                )  # fmt: skip
        return samples

    def annotate(
        self,
        adata: AnnData,
        samples: Sequence[PreparedSample],
        scores: Scores,
        *,
        um_per_unit: float | None = None,
        coverage_floor: float = COVERAGE_FLOOR,
        type_aliases: dict[str, str] | None = None,
    ) -> AnnData:
        """A copy of `adata` with the scores of its `samples`, what is known of the model, and how the scores were made."""
        scale = resolve_um_per_unit(adata, um_per_unit, where="adata", remedy=UNIT_REMEDY)
        parameters = {
            "pool": self.bundle.pool,
            "graph": self.bundle.graph,
            "coverage_floor": coverage_floor,
            "type_aliases": type_aliases or {},
            "device": str(self.device),
        }
        about = {keys.UM_PER_UNIT: scale, keys.PARAMETERS: json.dumps(parameters)}
        return annotated(adata, samples, scores, self.describe() | about)

    def describe(self) -> dict:
        """What every output says about the model behind it."""
        return {
            "version": __version__,
            "model": self.bundle.architecture,
            "model_hash": self.bundle.hash,
            "task": self.task.name,
            "level": self.task.level,
            "kind": self.task.kind,
            "interval": "90 % spread of the ensemble on the logit scale"
            if len(self.members) > 1
            else "one network: none",
            "calibration": self.calibration,
            "notice": keys.RESEARCH_USE_ONLY,
        }

    @property
    def calibration(self) -> str:
        """What makes risks (Cox: hazards) hold for new units: "temperature on n=..." or "none: ..." with the reason."""
        if "temperature" in self.bundle.calibration:
            return f"temperature on n={self.bundle.calibration.get('n_calibration', 'unknown')}"
        if self.task.kind == "cox":
            return "none: log-hazards as they are, which lie too far apart where training was overfitted"
        if self.task.kind != "binary" or self.task.level == "cell":
            return f"none: {self.task.kind} risks at {self.task.level} level have none"
        return "none: those held out in training were too few, or all of one outcome"

    @property
    def temperature(self) -> float:
        """What every logit is divided by; 1 where none was fitted."""
        return self.bundle.calibration.get("temperature", 1.0)

    def _forward(self, batch: Batch) -> Forward:
        def outputs(device: torch.device) -> list[MILOutput]:
            tissue = batch.to(device).tissue
            return [m(*tissue).cpu() for m in (self.members if device == self.device else self.bundle.members())]

        outs = where_it_fits(outputs, self.device, f"A unit of {len(batch.x)} cells")
        names = self.members[0].terms

        def terms(of_members: list[torch.Tensor]) -> dict[str, np.ndarray]:
            """(..., T, K) of every member -> the mean over members and outputs of each term."""
            mean = of_event(self.task, torch.stack(of_members)).mean(-1).mean(0) / self.temperature
            return dict(zip(names, mean.movedim(-1, 0).numpy()))

        return Forward(
            torch.stack([o.bag_logits[0].float() for o in outs]) / self.temperature,
            torch.stack([o.cell_logits.float() for o in outs]) / self.temperature,
            torch.stack([o.attention.float() for o in outs]),
            torch.stack([o.embedding.float() for o in outs]).mean(0).numpy(),
            terms([o.terms for o in outs]) if names else {},
            terms([o.of_bag() for o in outs]) if names else {},
        )

    def _unit_row(self, logits: torch.Tensor) -> dict[str, float]:
        row = dict(zip(("risk", "low", "high"), ensemble_risk(self.task, logits)))
        if self.task.kind == "sites":
            row |= dict(zip(self.task.sites, torch.sigmoid(logits.mean(0)).tolist()))
        return row

    def check_patients(self, samples: Sequence[PreparedSample], patients: pd.DataFrame | None) -> None:
        """Raise InputError for clinical values of these samples' patients that are neither blank nor as in training."""
        if self.clinical is not None:
            self.clinical.check(self._clinical_of(samples, patients))

    def _clinical_of(self, samples: Sequence[PreparedSample], patients: pd.DataFrame | None) -> pd.DataFrame:
        ids = sorted({s.patient_id for s in samples})
        return clinical_table(self.clinical, set(ids), patients).loc[ids]

    @property
    def novelty(self) -> Novelty | None:
        """What the bundle knows of its training cells' embeddings."""
        state = self.bundle.calibration.get("novelty")
        return Novelty.from_state(state) if state else None

    def _clones(self, unit: str, members: Sequence[PreparedSample], out: Forward) -> pd.DataFrame:
        of_cells = [s.cells[keys.CLONE] if keys.CLONE in s.cells else pd.Series(None, s.cells.index) for s in members]
        clones = pd.concat([column.astype(object) for column in of_cells], ignore_index=True)
        malignant = np.concatenate([s.is_malignant for s in members])
        table = clone_potentials(self.task, out.cell_logits, out.attention, clones, malignant)
        table.insert(0, "unit_id", unit)
        return table

    def _survival(self, index: pd.Index, logits: np.ndarray) -> pd.DataFrame | None:
        if self.task.kind == "discrete_time":
            return discrete_survival(logits, self.bundle.calibration["bin_edges"], index)
        baseline = self.bundle.calibration.get("baseline")
        if self.task.kind == "cox" and baseline:
            return cox_survival(logits[:, 0], baseline["time"], baseline["hazard"], index)
        return None

    def batches(
        self, samples: Sequence[PreparedSample], patients: pd.DataFrame | None = None
    ) -> Iterator[tuple[str, list[PreparedSample], Batch]]:
        """Unit by unit its id, its samples, and the batch of one bag that the networks see. `patients` as in `score`."""
        clinical = None
        if self.clinical is not None:
            clinical = self.clinical, self._clinical_of(samples, patients)
        for unit, members in samples_by_unit(samples, self.task).items():
            bags = make_bags(
                members, self.features, self.task, clinical=clinical, pairs=self.pairs, pool=self.bundle.pool
            )
            yield unit, members, collate(bags)


def load(bundle: str | Path, device: torch.device | str = "auto") -> Predictor:
    """Read a bundle folder, to score on `device` (see `Predictor`).

    Raises CheckpointError when it is incomplete, damaged, or of a version that cannot be read, and ConfigError for a device
    that is not here.
    """
    return Predictor(Bundle.load(Path(bundle)), device)


def _novel(share: float, note: str) -> dict:
    """The share of cells unlike those of training, and a word on it where it is large."""
    if share <= NOVEL_SHARE:
        return {"novel": share}
    word = f"{100 * share:.0f} % of cells are unlike those of training"
    return {"novel": share, "note": f"{note}; {word}" if note else word}


def _cell_table(sample: PreparedSample, attention: np.ndarray) -> pd.DataFrame:
    types = sample.cell_types
    return pd.DataFrame(
        {
            keys.SAMPLE: sample.sample_id,
            keys.PATIENT: sample.patient_id,
            "cell_id": sample.cells.index.astype(str),
            "x_um": sample.graph.pos_um[:, 0].numpy(),
            "y_um": sample.graph.pos_um[:, 1].numpy(),
            keys.CELL_TYPE: None if types is None else np.asarray(types, dtype=object),
            keys.MALIGNANT: sample.is_malignant,
            keys.ATTENTION: attention.astype(np.float32),
        }
    )
