"""The model card: filled from the run, ordered by TRIPOD+AI (doi:10.1136/bmj-2023-078378), never with a blank field."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.card_fields import PLAN, blank_field, fact
from metaniche.report.run import Run
from metaniche.report.vocabulary import is_blank

AUTHORS_ONLY = (
    "TRIPOD+AI also asks for dates of accrual (5b), setting and treatments (6a, 6c), blinding (8c, 9c), ethics (17), "
    "funding, registration and protocol (18a-d) and patient involvement (19). A run cannot know them: take them from "
    "the cohort's publication and say them in the paper."
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
                raise InputError(blank_field(field.name, "text"))

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
    """Fill the card from run.json, the table and the predictions. InputError names the first fact that is missing."""
    title = f"{run.model} for {fact(run, 'title', 'task', 'title')}"
    if run.row(run.model) is None:
        raise InputError(blank_field("performance", "a row of the model in table.csv"))
    return ModelCard(title, tuple(CardField(section, name, item, fill(run)) for section, name, item, fill in PLAN))


def _markdown(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
