"""What each field of the model card says, read from a run; a fact that is missing is an InputError naming the field."""

from __future__ import annotations

from collections.abc import Callable

from metaniche.errors import InputError
from metaniche.metrics.names import METRICS
from metaniche.report.headline import best_baseline, headline, primary_metric
from metaniche.report.run import Run
from metaniche.report.subgroups import MIN_OUTCOMES, MIN_PATIENTS, subgroups
from metaniche.report.vocabulary import count, is_blank, metrics_of, number, with_interval

OUT_OF_SCOPE = (
    "Diagnosis, prognosis or a choice of treatment for any person. Tissues, platforms, panels or populations other "
    "than those of the training cohort without a new evaluation. Reading the maps or the attention as proof of a cause."
)
_CALIBRATION = ("calibration_slope", "ece", "ibs")


def fact(run: Run, field: str, *path: str) -> object:
    """A fact of run.json by its path, never blank."""
    value: object = run.info
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if is_blank(value):
        raise InputError(blank_field(field, f"{'.'.join(path)} in run.json"))
    return value


def blank_field(field: str, wanted: str) -> str:
    """Why a card is not printed."""
    return (
        f"Model card field {field!r}: expected {wanted}, found nothing. A card with a blank field is not printed; "
        "write the fact into the run's files and build the report again."
    )


def as_words(values: object, between: str = ", ") -> str:
    """A dict as `name value, name value` (what is blank or nested is left out), a list with commas, a truth as yes or no."""
    if isinstance(values, dict):
        pairs = [(k, v) for k, v in values.items() if not is_blank(v) and not isinstance(v, dict)]
        return ", ".join(f"{k} {as_words(v, ' and ')}" for k, v in pairs)
    if isinstance(values, list | tuple):
        return between.join(map(as_words, values))
    return "yes" if values is True else "no" if values is False else str(values)


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


def _intended_use(run: Run) -> str:
    return (
        "Research on how the spatial organisation of tumours relates to this question: "
        f"{fact(run, 'intended use', 'task', 'title')}. For researchers who compare models on spatial omics. "
        f"The unit of prediction is the {run.task.get('level', 'patient')}."
    )


def _data(run: Run) -> str:
    sizes = [count(fact(run, "data", key)) for key in ("n_patients", "n_samples", "n_cells")]
    return f"Cohort {fact(run, 'data', 'cohort')}: {sizes[0]} patients, {sizes[1]} samples, {sizes[2]} cells."


def _outcome(run: Run) -> str:
    task, kind = run.task, fact(run, "outcome", "task", "kind")
    if run.is_survival:
        what = f"time to event, from columns {task.get('time')} and {task.get('event')}"
        what += f"; competing events from {task['competing']}" if task.get("competing") else ""
    elif kind == "sites":
        what = f"one label per organ site: {as_words(task.get('sites') or ())}; missing sites are masked"
    else:
        what = f"column {task.get('label')}, positive: {as_words(task.get('positive') or ())}"
    note = f" {task['note']}" if task.get("note") else ""
    return f"{fact(run, 'outcome', 'task', 'title')} ({what}).{note}"


def _predictors(run: Run) -> str:
    features = fact(run, "predictors", "training", "features")
    graph, clinical = fact(run, "predictors", "graph"), run.task.get("clinical") or ("none",)
    return (
        f"Features of each cell: {as_words(features)}. Cells stand in a graph of neighbours: {as_words(graph)}. "
        f"Clinical variables: {as_words(clinical)}."
    )


def _sample_size(run: Run) -> str:
    outcomes = outcome_counts(run)
    tested = f" Evaluated: {count(outcomes[0])} patients, {count(outcomes[1])} with the outcome." if outcomes else ""
    n = count(fact(run, "sample size", "n_patients"))
    return f"{n} patients.{tested} The size was given by the cohort, not by a calculation."


def _missing(run: Run) -> str:
    left_out = run.info.get("left_out") or {}
    reasons = "; ".join(sorted({str(r) for r in left_out.values()}))
    who = f"{len(left_out)} left out ({reasons})" if left_out else "No unit was left out"
    return (
        f"{who}. Missing clinical values take the median, or no level, of the training patients; a feature that was "
        "not measured is not taken as zero."
    )


def _training(run: Run) -> str:
    return f"{run.model}: {as_words(fact(run, 'training', 'training'))}."


def _validation(run: Run) -> str:
    seeds = as_words(fact(run, "validation", "seeds"))
    if run.splits is not None and len(run.splits) == 1:
        split = run.splits[0]
        how = f"One split by patient, {len(split.get('train', ()))} to train and {len(split.get('test', ()))} held out"
    else:
        how = f"Cross-validation grouped by patient ({as_words(fact(run, 'validation', 'folds'))})"
    return f"{how}; seeds {seeds}, all reported. Whatever is fitted is fitted on the training patients of a fold."


def _control(run: Run) -> str:
    control = run.info.get("permutation_control") or {}
    if not control:
        return "No control with permuted labels was run."
    metric = METRICS.get(control.get("metric", "auroc"))
    name = metric.label if metric else control["metric"]
    ends = f"{number(control.get('low'))} to {number(control.get('high'))}"
    return f"With permuted labels {name} {number(control.get('estimate'))} ({ends})."


def _performance(run: Run) -> str:
    row, metrics = run.row(run.model), metrics_of(run.table, run.is_survival)
    shown = [m for m in metrics if m.column not in _CALIBRATION and not is_blank(row.get(m.column))]
    figures = "; ".join(f"{m.label} {with_interval(row, m.column)}" for m in shown)
    return f"{figures}. Intervals are 95 %, by resampling patients." if figures else ""


def _comparison(run: Run) -> str:
    metric, result = primary_metric(run), headline(run)
    if metric is None or result is None:
        return ""
    baseline = best_baseline(run, metric)
    if baseline is None:
        return result.conclusion
    figure = f"{metric.label} {with_interval(baseline, metric.column)}"
    return f"{result.conclusion} Best simple baseline: {baseline['model']}, {figure}."


def _calibration(run: Run) -> str:
    row = run.row(run.model)
    figures = [f"{METRICS[c].label} {with_interval(row, c)}" for c in _CALIBRATION if not is_blank(row.get(c))]
    return "; ".join(figures) or "Not assessed: the table holds no figure of calibration for this model."


def _subgroups(run: Run) -> str:
    table = subgroups(run)
    if table.empty:
        return "Not assessed: the run has no clinical variables that can be set beside predictions of this task."
    figures = [
        f"{r['variable']} {r['level']}: {with_interval(r, 'value')}, {r['n_patients']} patients, "
        f"{r['n_outcomes']} with the outcome"
        for _, r in table.iterrows()
    ]
    return (
        f"{METRICS['harrell_c' if run.is_survival else 'auroc'].label} by subgroup: {'; '.join(figures)}. A dash: "
        f"fewer than {MIN_PATIENTS} patients or {MIN_OUTCOMES} outcomes. Groups this small show gross failures only."
    )


def _limits(run: Run) -> str:
    result = headline(run)
    return "" if result is None else " ".join([*result.cautions, "A retrospective cohort; associations, not causes."])


def _reproduction(run: Run) -> str:
    names = ("version", "torch", "command", "created")
    version, torch, command, created = (fact(run, "reproduction", name) for name in names)
    return f"metaniche {version}, torch {torch}, {created}: {command}"


PLAN: tuple[tuple[str, str, str, Callable[[Run], str]], ...] = (
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
    ("Results", "subgroups", "14, 23b", _subgroups),
    ("Limits", "limits", "26", _limits),
    ("Limits", "reproduction", "18e, 18f", _reproduction),
)
