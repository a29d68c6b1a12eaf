"""The model card: filled from the run, ordered by TRIPOD+AI (doi:10.1136/bmj-2023-078378), never with a blank field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.headline import best_baseline, headline, primary_metric
from metaniche.report.run import Run
from metaniche.report.subgroups import MIN_OUTCOMES, MIN_PATIENTS, subgroups
from metaniche.report.vocabulary import count, is_blank, metrics_of, number, with_interval

AUTHORS_ONLY = (
    "TRIPOD+AI also asks for dates of accrual (5b), setting and treatments (6a, 6c), blinding (8c, 9c), ethics (17), funding, "
    "registration and protocol (18a-d) and patient involvement (19). A run cannot know them: "
    "take them from the cohort's publication and say them in the paper."
)
OUT_OF_SCOPE = (
    "Diagnosis, prognosis or a choice of treatment for any person. Tissues, platforms, panels or populations other than those "
    "of the training cohort without a new evaluation. Reading the maps or the attention as proof of a cause."
)


@dataclass(frozen=True)
class CardField:
    """One statement of the card: its section, name, TRIPOD+AI item and text."""

    section: str
    name: str
    item: str
    text: str


@dataclass(frozen=True)
class ModelCard:
    """A complete card. Raises InputError naming the field when one is blank."""

    title: str
    fields: tuple[CardField, ...]

    def __post_init__(self) -> None:
        for field in self.fields:
            if is_blank(field.text):
                raise InputError(_refusal(field.name, "text", "nothing"))

    @property
    def sections(self) -> dict[str, list[CardField]]:
        """Section title -> its fields, in order."""
        grouped: dict[str, list[CardField]] = {}
        for field in self.fields:
            grouped.setdefault(field.section, []).append(field)
        return grouped

    def to_markdown(self) -> str:
        """The card as a MODEL_CARD.md; text from files is escaped."""
        lines = [f"# Model card: {_markdown(self.title)}", "", f"**{RESEARCH_USE_ONLY}**", ""]
        for section, fields in self.sections.items():
            lines += [f"## {section}", "", "| field | TRIPOD+AI | |", "|---|---|---|"]
            lines += [f"| {f.name} | {f.item} | {_markdown(f.text)} |" for f in fields]
            lines.append("")
        return "\n".join([*lines, AUTHORS_ONLY, "", RESEARCH_USE_ONLY, ""])


def fill_card(run: Run) -> ModelCard:
    """Fill the card from run.json, the table and the predictions. Raises InputError naming the first fact that is missing."""
    if run.row(run.model) is None:
        raise InputError(_refusal("performance", "a row of the model in table.csv", "none"))
    fields = []
    for section, name, item, fill in _PLAN:
        fields.append(CardField(section, name, item, fill(run)))
    return ModelCard(f"{run.model} for {_fact(run, 'title', 'task', 'title')}", tuple(fields))


def _fact(run: Run, field: str, *path: str) -> object:
    """A fact of run.json by its path, never blank."""
    value: object = run.info
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if is_blank(value):
        raise InputError(_refusal(field, f"`{'.'.join(path)}` in run.json", "nothing"))
    return value


def _refusal(field: str, wanted: str, found: str) -> str:
    return (
        f"Model card field {field!r}: expected {wanted}, found {found}. A card with a blank field is not printed; "
        "write the fact into the run's files and build the report again."
    )


def _markdown(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def _intended_use(run: Run) -> str:
    return (
        f"Research on how the spatial organisation of tumours relates to this question: {_fact(run, 'intended use', 'task', 'title')}. "
        f"For researchers who compare models on spatial omics. The unit of prediction is the {run.task.get('level', 'patient')}."
    )


def _data(run: Run) -> str:
    facts = [count(_fact(run, "data", key)) for key in ("n_patients", "n_samples", "n_cells")]
    return f"Cohort {_fact(run, 'data', 'cohort')}: {facts[0]} patients, {facts[1]} samples, {facts[2]} cells."


def _outcome(run: Run) -> str:
    task = run.task
    kind = str(_fact(run, "outcome", "task", "kind"))
    if run.is_survival:
        what = f"time to event, from columns `{task.get('time')}` and `{task.get('event')}`"
    elif kind == "sites":
        what = f"one label per organ site: {', '.join(map(str, task.get('sites') or ()))}; missing sites are masked"
    else:
        what = f"column `{task.get('label')}`, positive: {', '.join(map(str, task.get('positive') or ()))}"
    note = f" {task['note']}" if task.get("note") else ""
    return f"{_fact(run, 'outcome', 'task', 'title')} ({what}).{note}"


def _predictors(run: Run) -> str:
    features = _fact(run, "predictors", "features")
    kind, n = _fact(run, "predictors", "features", "kind"), features.get("n")
    clinical = ", ".join(map(str, run.task.get("clinical") or ())) or "none"
    graph = _fact(run, "predictors", "graph")
    return (
        f"Positions, cell types where given, and {count(n)} molecular features ({kind}), "
        f"in a graph of neighbours ({plain_items(graph)}). Clinical variables: {clinical}."
    )


def _sample_size(run: Run) -> str:
    outcomes = outcome_counts(run)
    events = f", {count(outcomes[1])} with the outcome" if outcomes else ""
    return f"{count(_fact(run, 'sample size', 'n_patients'))} patients{events}. The size was given by the cohort, not by a calculation."


def _missing(run: Run) -> str:
    left_out = run.info.get("left_out") or {}
    reasons = sorted({str(r) for r in left_out.values()})
    said = f"{len(left_out)} left out ({'; '.join(reasons)})" if left_out else "No unit was left out"
    return f"{said}. Clinical values that are missing are imputed on the training patients of each fold; a feature that was not measured is not taken as zero."


def _validation(run: Run) -> str:
    folds = _fact(run, "validation", "folds")
    seeds = _fact(run, "validation", "seeds")
    seeds = seeds if isinstance(seeds, list | tuple) else [seeds]
    return (
        f"Cross-validation grouped by patient ({plain_items(folds)}), seeds {', '.join(map(str, seeds))}; all are reported. "
        "Whatever is fitted is fitted on the training patients of a fold."
    )


def _training(run: Run) -> str:
    return f"{run.model}: {plain_items(_fact(run, 'training', 'training'))}. Configuration {_fact(run, 'training', 'config_hash')}."


def _performance(run: Run) -> str:
    row = run.row(run.model)
    found = [
        m
        for m in metrics_of(run.table, run.is_survival, run.info.get("primary_metric"))
        if not is_blank(row.get(m.column))
    ]
    figures = [
        f"{m.label} {with_interval(row, m.column)}" for m in found if not m.column.startswith(("calibration", "ece"))
    ]
    return "; ".join(figures) + ". Intervals are 95 %, by resampling patients." if figures else ""


def _comparison(run: Run) -> str:
    metric, said = primary_metric(run), headline(run)
    if metric is None or said is None:
        return ""
    baseline = best_baseline(run, metric)
    others = (
        ""
        if baseline is None
        else f" Best simple baseline: {baseline['model']}, {metric.label} {with_interval(baseline, metric.column)}."
    )
    return said.conclusion + others


def _calibration(run: Run) -> str:
    row = run.row(run.model)
    known = {
        "calibration_slope": "slope",
        "calibration_intercept": "intercept",
        "ece": "ECE",
        "ibs": "integrated Brier score",
    }
    figures = [
        f"{label} {with_interval(row, column)}" for column, label in known.items() if not is_blank(row.get(column))
    ]
    return "; ".join(figures) or "Not assessed: the table holds no figure of calibration for this model."


def _fairness(run: Run) -> str:
    table = subgroups(run)
    if table.empty:
        return "Not assessed: the run has no clinical table with sex, age, stage, grade or ethnicity."
    figures = [
        f"{r['variable']} {r['level']}: {with_interval(r, 'value')}, {r['n_patients']} patients, {r['n_outcomes']} with the outcome"
        for _, r in table.iterrows()
    ]
    return (
        f"{'C' if run.is_survival else 'AUROC'} by subgroup: {'; '.join(figures)}. A dash: fewer than {MIN_PATIENTS} patients or "
        f"{MIN_OUTCOMES} outcomes. Groups this small show gross failures only."
    )


def _control(run: Run) -> str:
    control = run.info.get("permutation_control") or {}
    if not control:
        return "No control with permuted labels was run."
    return f"With permuted labels AUROC {number(control.get('auroc'))} ({number(control.get('low'))} to {number(control.get('high'))})."


def _limits(run: Run) -> str:
    said = headline(run)
    return " ".join(said.cautions) + " A retrospective cohort; associations, not causes." if said else ""


def _reproduction(run: Run) -> str:
    return (
        f"metaniche {_fact(run, 'reproduction', 'version')}, torch {_fact(run, 'reproduction', 'torch')}: "
        f"`{_fact(run, 'reproduction', 'command')}`, {_fact(run, 'reproduction', 'created')}."
    )


def outcome_counts(run: Run) -> tuple[int, int] | None:
    """(patients, patients with the outcome) behind the model's predictions, or None."""
    if run.predictions is None:
        return None
    rows = run.predictions[run.predictions["model"] == run.model]
    column = next((c for c in ("event", "y") if c in rows and rows[c].notna().any()), None)
    if column is None:
        return None
    worst = rows.dropna(subset=[column]).groupby("patient_id")[column].max()
    return len(worst), int(worst.sum())


def plain_items(values: object) -> str:
    """A dict as `name value, name value`."""
    if isinstance(values, dict):
        return ", ".join(f"{k} {v}" for k, v in values.items() if not is_blank(v) and not isinstance(v, dict))
    return str(values)


_PLAN: tuple[tuple[str, str, str, Callable[[Run], str]], ...] = (
    ("Use", "intended use", "3b, 4", _intended_use),
    ("Use", "out of scope", "3b, 27", lambda _: OUT_OF_SCOPE),
    ("Data", "data", "5a, 6b", _data),
    ("Data", "outcome", "8a", _outcome),
    ("Data", "predictors", "9a, 9b", _predictors),
    ("Data", "sample size", "10, 21", _sample_size),
    ("Data", "missing data", "11", _missing),
    ("Methods", "training", "12c, 22", _training),
    ("Methods", "validation", "12a, 16", _validation),
    ("Methods", "control", "12e", _control),
    ("Results", "performance", "23a", _performance),
    ("Results", "comparison", "23a", _comparison),
    ("Results", "calibration", "12e, 23a", _calibration),
    ("Results", "subgroups", "14, 23b", _fairness),
    ("Limits", "limits", "26", _limits),
    ("Limits", "reproduction", "18e, 18f", _reproduction),
)
