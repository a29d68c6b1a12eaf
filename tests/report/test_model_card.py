import pytest

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.model_card import CardField, ModelCard, fill_card


def test_a_complete_run_fills_every_field(make_run):
    card = fill_card(make_run())
    assert len(card.fields) == 16
    assert all(f.text.strip() and f.item for f in card.fields)
    assert list(card.sections) == ["Use", "Data", "Methods", "Results", "Limits"]


def test_survival_fills_it_too(make_run):
    text = fill_card(make_run(survival=True)).to_markdown()
    assert "Harrell's C 0.91" in text


@pytest.mark.parametrize(
    ("blank", "field"),
    [
        ({"cohort": ""}, "data"),
        ({"n_cells": None}, "data"),
        ({"task": {}}, "title"),
        ({"seeds": []}, "validation"),
        ({"folds": {}}, "validation"),
        ({"graph": None}, "predictors"),
        ({"training": None}, "predictors"),
        ({"torch": " "}, "reproduction"),
    ],
)
def test_a_blank_fact_is_refused_by_name(make_run, blank, field):
    with pytest.raises(InputError, match=f"'{field}'"):
        fill_card(make_run(info=blank))


def test_no_row_no_card(make_run):
    with pytest.raises(InputError, match="'performance'"):
        fill_card(make_run(table=lambda t: None))


@pytest.mark.parametrize("text", ["", "  ", "nan", None])
def test_a_card_cannot_be_made_with_a_blank_text(text):
    with pytest.raises(InputError, match="'limits'"):
        ModelCard("m", (CardField("Limits", "limits", "26", text),))


def test_markdown_is_signed_and_escapes_what_came_from_files(make_run):
    task = make_run().task | {"title": "<script>alert(1)</script> | x"}
    text = fill_card(make_run(info={"task": task})).to_markdown()
    assert text.count(RESEARCH_USE_ONLY) == 2
    assert "<script>" not in text
    assert "\\| x" in text
