"""build_report: the files of a run folder become one HTML file that needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.io.write import replacing
from metaniche.report import pictures, sections
from metaniche.report.headline import headline
from metaniche.report.model_card import AUTHORS_ONLY, ModelCard, fill_card
from metaniche.report.run import Run, read_run
from metaniche.report.subgroups import subgroups
from metaniche.report.vocabulary import is_blank, with_interval

CARD_FILE = "MODEL_CARD.md"


def build_report(run_dir: Path, output: Path | None = None) -> Path:
    """Write the report of a run folder, and MODEL_CARD.md beside it when no field of the card would be blank.

    Parameters
    ----------
    run_dir
        Folder with any of run.json, table.csv, predictions.parquet, patients.csv, cells.parquet, data_checks.json and
        history.csv. What an absent file would have told is left out with a sentence.
    output
        The HTML file; by default `report.html` in the run folder.

    Returns
    -------
    Path of the HTML file. Raises InputError when the folder holds none of the files, or a damaged one.
    """
    run = read_run(Path(run_dir))
    output = Path(run_dir) / "report.html" if output is None else Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    card, refusal = _card(run)
    _write(output, render(run, card, refusal))
    if card is not None:
        _write(output.parent / CARD_FILE, card.to_markdown())
    return output


def render(run: Run, card: ModelCard | None, refusal: str = "") -> str:
    """The page as text; `refusal` says why there is no card."""
    room = files("metaniche.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(room.joinpath("template.html.j2").read_text(encoding="utf-8"))
    control = run.info.get("permutation_control") or {}
    return template.render(
        run=run,
        # Our own file, not the user's: the one text that goes out unescaped.
        css=Markup(room.joinpath("report.css").read_text(encoding="utf-8")),
        research_use_only=RESEARCH_USE_ONLY,
        headline=headline(run),
        sections=sections,
        pictures=pictures,
        subgroups=_subgroup_rows(run),
        control=control,
        card=card,
        refusal=refusal,
        authors_only=AUTHORS_ONLY,
    )


def _card(run: Run) -> tuple[ModelCard | None, str]:
    try:
        return fill_card(run), ""
    except InputError as error:
        return None, str(error)


def _subgroup_rows(run: Run) -> list[dict]:
    table = subgroups(run)
    return [
        {**row, "figure": "too few to say" if is_blank(row["value"]) else with_interval(row, "value")}
        for row in table.to_dict("records")
    ]


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
