"""Regions are called regions in the program's own sentences, and others' words stay as they wrote them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.report.build import build_report
from experiments.report.pages.html import render_html
from experiments.report.pages.markdown import render_summary
from experiments.report.pages.model_card import render_model_card
from experiments.report.pages.tables import render_terminal_summary
from experiments.report.text import formatting
from experiments.report.text.glossary import load_glossary
from experiments.report.text.site_words import name_sites
from tests.experiments.report.pages.test_terms import make_full_run
from tests.experiments.report.test_decision import make_event_run

REPORT = Path(formatting.__file__).parents[1]
SITES = {"north": (40, 4, 5, 200), "south": (30, 3, 6, 100)}
OTHERS = {"site_kind": "region", "sites": "the demo's 186 hospitals", "question": "Who dies in a hospital?"}
OTHERS |= {"setting": "all hospitals of a town"}
WORD = re.compile(r"(?<!\bin )\b[Hh]ospitals?\b(?![-/=])")
"""In prose: not "died in hospital", nor an address such as hospital-1."""
MARKUP = r"<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>"


def read_text(page: str) -> str:
    """Return what a reader sees or hears of a page: its text, and the words of its attributes."""
    words = re.findall(r'\b(?:aria-label|title|alt|data-hint)="([^"]*)"', page)
    return "\n".join([re.sub(MARKUP, " ", page, flags=re.DOTALL), *words])


def test_regions_are_called_regions_but_for_what_others_wrote(tmp_path: Path) -> None:
    report = build_report(make_event_run(tmp_path, SITES, data=OTHERS))
    page = render_html(report)
    text = read_text(page)
    remaining = [match[0] for match in re.finditer(r".{0,30}[Hh]ospital.{0,20}", text)]
    allowed = ("186 hospitals", "in a hospital?", "all hospitals of a town", "in hospital")
    assert all(any(part in item for part in allowed) for item in remaining), remaining
    assert "the demo&#39;s 186 hospitals" in page
    assert "all hospitals of a town" in page
    assert 'href="#hospital-1"' in page, "addresses are no text"
    assert "all regions" in text
    for card in (render_summary(report, {}), render_model_card(report)):
        assert "| region | patients" in card
        assert "| all regions |" in card


def test_a_run_with_everything_has_no_hospital_where_there_are_regions(make_run: Callable[..., Path]) -> None:
    folder = make_full_run(make_run)
    about = json.loads((folder / "run.json").read_text())
    about["data"] = {**about["data"], "site_kind": "region", "sites": "three regions", "splits": "none"}
    (folder / "run.json").write_text(json.dumps(about))
    report = build_report(folder)
    asked = " ".join([*(notice.text for notice in report.notices), *report.class_titles.values()])
    for text in (read_text(render_html(report)), render_summary(report, {}), render_model_card(report)):
        remaining = [line.strip() for line in text.splitlines() if WORD.search(line) and line.strip() not in asked]
        assert remaining == []
    assert render_terminal_summary(report) is not None


def list_prose(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a module that are sentences or parts of them, without docstrings."""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented | bare:
            yield node.value


@pytest.mark.parametrize("folder", [".", "text", "plots", "pages", "pages/sections"])
def test_no_stored_sentence_says_hospital(folder: str) -> None:
    """So a new sentence cannot forget that sites may be regions."""
    own = {"run_index.py"}  # a page of many runs, whose sites may be of several kinds
    said = [
        (path.name, text)
        for path in sorted((REPORT / folder).glob("*.py"))
        if path.name not in own
        for text in list_prose(ast.parse(path.read_text(encoding="utf-8")))
        if WORD.search(text) and " " in text.strip()
    ]
    assert said == []


def test_no_template_and_no_entry_of_the_glossary_says_hospital() -> None:
    names = ("compare.", "runs.")  # pages of several runs
    for path in sorted((REPORT / "templates").rglob("*.j2")):
        if not path.name.startswith(names):
            text = re.sub(r"\{#.*?#\}|<[^>{]*>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            text = re.sub(r"[\w.]*hospitals?[\w.]*(?:_|-)[\w-]*|\w+\.hospitals|[\"=/#]hospitals?\b", " ", text)
            assert not WORD.search(text), path.name
    assert not [term.key for term in load_glossary() if WORD.search(term.text)]
    assert "the regions trained" in name_sites(" ".join(term.text for term in load_glossary()), "region")
    assert "all hospitals' data" in name_sites(" ".join(term.text for term in load_glossary()), "hospital")
