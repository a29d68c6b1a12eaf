import base64
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report import build_report

HOSTILE = "<script>alert('x')</script>\"><img src=q onerror=alert(1)>{{ 7*7 }}$\\frac$"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def images(self):
        return [a["src"] for t, a in self.tags if t == "img"]


@pytest.fixture(scope="module")
def report(run_folder):
    return build_report(run_folder)


@pytest.fixture(scope="module")
def page(report):
    return Page(report.read_text(encoding="utf-8"))


def test_the_report_and_the_card_stand_in_the_run_folder(report, run_folder):
    assert report == run_folder / "report.html"
    assert (run_folder / "MODEL_CARD.md").read_text().startswith("# Model card")
    assert not [p for p in run_folder.iterdir() if p.name.startswith(".")]


def test_another_output_gets_its_card_beside_it(tmp_path):
    (tmp_path / "table.csv").write_text("model,auroc\na,0.5\n")
    written = build_report(tmp_path, tmp_path / "new" / "page.html")
    assert written.is_file()
    assert not (written.parent / "MODEL_CARD.md").exists()


def test_nothing_is_asked_from_outside(page, report):
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {t for t, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#"), (tag, attributes)
    visible = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", report.read_text())
    assert not re.search(r"https?://|url\(|@import", visible)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_pictures_refer_to_nothing_outside_themselves(page):
    for uri in page.images():
        head, body = uri.split(",", 1)
        if "svg" in head:
            svg = base64.b64decode(body).decode()
            assert "<script" not in svg
            assert not re.search(r'href="(?!#|data:)', svg)


def test_every_section_has_its_figure(page):
    assert len(page.images()) == 9
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    ids = {a.get("id") for _, a in page.tags}
    assert all(a["href"][1:] in ids for t, a in page.tags if t == "a")


def test_research_use_only_stands_on_top_and_in_the_footer(page):
    assert page.text.count(RESEARCH_USE_ONLY) == 2
    assert page.text.index(RESEARCH_USE_ONLY) < page.text.index("What was asked")
    assert page.text.rindex(RESEARCH_USE_ONLY) > page.text.index("How to reproduce")


def test_headline_and_command_are_on_the_page(page):
    assert "reaches AUROC 0.91 (0.82 to 0.98)" in page.text
    assert "metaniche-evaluate experiment=synthetic data.n_patients=80" in page.text
    assert "left out: " not in page.text


def test_survival_has_curves_and_a_word_about_calibration(survival_folder):
    page = Page(build_report(survival_folder).read_text())
    assert "Survival by predicted risk" in page.text
    assert "No calibration curve: this task predicts a ranking" in page.text


def test_only_a_table_is_enough_and_the_rest_is_said_to_be_left_out(tmp_path, table):
    table.to_csv(tmp_path / "table.csv", index=False)
    page = Page(build_report(tmp_path).read_text())
    for words in (
        "The task is left out",
        "The size of the cohort is left out",
        "Clinical variables are left out",
        "ROC and precision-recall curves are left out",
        "The calibration curve is left out",
        "Maps are left out",
        "The control is left out",
        "Data checks are left out",
        "The training curve is left out",
        "The model card is left out. Model card field 'title'",
        "The command is left out",
    ):
        assert words in page.text
    assert len(page.images()) == 1


@pytest.mark.parametrize("file", ["run.json", "predictions.parquet", "patients.csv", "data_checks.json", "history.csv"])
def test_any_one_file_is_enough(tmp_path, run_folder, file):
    shutil.copy(run_folder / file, tmp_path)
    assert "No result: the run folder holds no table.csv" in Page(build_report(tmp_path).read_text()).text


def test_hostile_names_are_words(tmp_path, run_folder, make_run):
    run = make_run()
    (tmp_path / "run.json").write_text(json.dumps(run.info | {"model": HOSTILE, "cohort": HOSTILE, "command": HOSTILE}))
    rename = {"relational_mil": HOSTILE}
    run.table.replace({"model": rename}).to_csv(tmp_path / "table.csv", index=False)
    run.predictions.replace({"model": rename}).to_parquet(tmp_path / "predictions.parquet")
    cells = run.cells.groupby("sample_id").head(40).assign(cell_type=HOSTILE)
    cells.assign(sample_id=HOSTILE + cells["sample_id"], patient_id=HOSTILE).to_parquet(tmp_path / "cells.parquet")
    run.patients.assign(stage=HOSTILE, sex=HOSTILE).to_csv(tmp_path / "patients.csv")
    (tmp_path / "data_checks.json").write_text(json.dumps([{"check": HOSTILE, "status": HOSTILE, "detail": HOSTILE}]))
    (tmp_path / "caption.json").write_text(json.dumps([HOSTILE]))
    page = Page(build_report(tmp_path).read_text())
    assert "script" not in {t for t, _ in page.tags}
    assert not [a for _, a in page.tags if "onerror" in a]
    assert "{{ 7*7 }}" in page.text
    assert "<script>" not in (tmp_path / "MODEL_CARD.md").read_text()


def test_captions_of_the_table_and_every_repeat_are_printed(tmp_path, table):
    table.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "caption.json").write_text(json.dumps(["Intervals leave out the variation of training."]))
    (tmp_path / "repeats.csv").write_text("model,repeat,auroc\nrelational_mil,0,0.87654\n")
    text = Page(build_report(tmp_path).read_text()).text
    assert "Intervals leave out the variation of training." in text
    assert "0.877" in text


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="Expected a run folder"):
        build_report(tmp_path)
