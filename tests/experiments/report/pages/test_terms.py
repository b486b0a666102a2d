"""No technical term stands on a page without an entry in its glossary."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from common.metrics.registry import ALARM_METRICS, CALIBRATION_METRICS, CLASS_METRICS, METRICS
from experiments.report.build import build_report
from experiments.report.pages.html import TEMPLATES, render_html
from experiments.report.pages.terms import SLOT, explain_terms
from experiments.report.text.formatting import RECALIBRATION_TITLES
from experiments.report.text.glossary import compile_terms, load_glossary
from experiments.report.write import write_report

STATISTICS = re.compile(
    r"\b(?:bootstrap\w*|log odds|logits?|epsilon|delta|quantiles?|isotonic|harmonic|Cramér|Platt|calibrat\w+|"
    r"miscalibrat\w+|net benefit|latent|reconstruction|discriminant|canar\w+|ledger|accountant|clipping|"
    r"Jensen|Kolmogorov|[Yy]ouden|attributions?|gradients?|precision|recall|sensitivity|specificity)\b"
)
"""Words that a reader without statistics does not know."""
ABBREVIATION = re.compile(r"\b[A-Z]{2,}[A-Z0-9²]*s?\b|\bF1\b|\b[A-Z]{2,}\+AI\b")
KNOWN = {
    *("AI", "UTC", "CC0", "BMJ", "ECG", "SYNTHETIC", "LEAK", "LEAKY", "NOT", "PRIVATE", "PARTIAL", "WARNING", "DATA"),
    *("FAILED", "RUN", "FOLDER", "NAME"),
}
"""Words in capitals that are no terms: notices, general knowledge, names of code."""
EXPLAINED_BY_OTHERS = {"harmonic", "gradient", "gradients", "logit", "logits", "quantile", "quantiles"}
"""Words that may only stand within a longer term or an explanation."""


class Words(HTMLParser):
    """The texts of a page's main part, and its marks and entries."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.marks, self.entries = "", [], []
        self._open: list[str] = []
        self._skipped = ("script", "style", "code", "svg", "nav")
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if "data-term" in values:
            self.marks.append((values["data-term"], tag, values.get("href")))
        if str(values.get("id", "")).startswith("term-"):
            self.entries.append(str(values["id"]).removeprefix("term-"))
        if tag in self._skipped:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text += f" {data}"


def list_jargon(text: str) -> Iterator[str]:
    """Yield the words of a text that need an entry and have none."""
    explained = compile_terms().sub(" ", text)
    for pattern in (STATISTICS, ABBREVIATION):
        yield from (word for word in pattern.findall(explained) if word not in KNOWN | EXPLAINED_BY_OTHERS)


def list_texts() -> Iterator[tuple[str, str]]:
    """Yield every text of the templates, and every string of the modules that phrase texts, with its file."""
    for path in TEMPLATES.rglob("*.html.j2"):
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}", " ", path.read_text(encoding="utf-8"), flags=re.S)
        for part in re.split(r"<[^>]*>|\{\{|\}\}", text):
            yield path.name, re.sub(r'"[\w.-]*"', " ", part)  # one word in quotes is a key
    for path in (TEMPLATES.parent / "text").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        first = [node.body[0] for node in nodes if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)]
        docstrings = {id(node.value) for node in first if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield path.name, "" if re.fullmatch(r"[\w.-]*", node.value) else node.value


def test_no_text_of_a_report_has_a_term_without_entry() -> None:
    texts = list(list_texts())
    assert len(texts) > 500
    assert {(file, word) for file, text in texts for word in list_jargon(text)} == set()


def test_every_metric_and_every_recalibration_has_an_entry() -> None:
    titles = {metric.title for part in (METRICS, CLASS_METRICS, CALIBRATION_METRICS) for metric in part.values()}
    plain = {metric.title for metric in ALARM_METRICS.values()} | {"patients warned"}
    own_words = {title for title in titles | set(RECALIBRATION_TITLES.values()) if not compile_terms().search(title)}
    assert own_words <= plain


def test_entries_are_sorted_differ_and_are_short() -> None:
    keys = [term.key for term in load_glossary()]
    assert keys == sorted(set(keys))
    assert all(20 < len(term.text) < 330 and term.text.endswith(".") for term in load_glossary())
    for term in load_glossary():  # a term is found by its own title, or by a part of it
        assert compile_terms().search(term.title), term.title


def make_full_run(make_run: Callable[..., Path]) -> Path:
    """Return a run with distances, recalibration and a leak."""
    folder = make_run(notices=({"level": "leak", "text": "LEAKY split."},))
    outcome = json.loads((folder / "federated.json").read_text())
    column = {"name": "lab", "psi": 1.234, "ks": 0.5, "suppressed": 2}
    pair = {
        "one": "north", "other": "west", "label_distance": 0.1, "label_association": 0.2, "mmd": 0.03,
        "lda_auroc": 0.7, "psi_median": None, "psi_large": 1, "columns": [column], "suppressed": 2,
    }  # fmt: skip
    outcome["shift"] = {"pairs": [pair], "lost": {}, "shares": {}, "columns": 3}
    figure = {"value": -0.1, "low": -0.2, "high": -0.01}
    outcome["recalibration"] = {
        "north": {"patients": 9, "methods": {"platt": {"threshold": None, "difference": {"macro_f1": figure}}}}
    }
    outcome["test"]["recalibrated platt"] = {"north": outcome["test"]["all"]["north"]}
    (folder / "federated.json").write_text(json.dumps(outcome))
    return folder


def test_every_term_of_a_page_has_its_entry_on_the_page(make_run: Callable[..., Path]) -> None:
    page = Words(render_html(build_report(make_full_run(make_run))))
    assert set(list_jargon(page.text)) == set()
    assert sorted(set(page.entries)) == sorted(page.entries)
    assert {key for key, _, _ in page.marks} <= set(page.entries)
    assert {"mmd", "psi", "cramer", "platt", "ks", "jensen", "f1"} <= {key for key, _, _ in page.marks}
    assert "canary" not in page.entries, "an entry of a term that the page does not use"
    for words in ("too timid", "shipped threshold", "travel"):
        assert words not in page.text.lower()


def test_marks_change_nothing_else_and_stand_in_no_link_or_button(make_run: Callable[..., Path]) -> None:
    page = render_html(build_report(make_full_run(make_run)))
    marked = re.sub(r'<(a|span) class="term"[^>]*>([^<]*)</\1>', r"\2", page)
    glossary = re.compile(r'(<dl class="glossary">\n).*?(\n</dl>)', re.S)
    plain = glossary.sub(rf"\g<1>{SLOT}\g<2>", marked)
    assert glossary.sub("", explain_terms(plain)) == glossary.sub("", page)
    assert not re.search(r"<a [^>]*>[^<]*<a ", page)
    text = (
        '<!doctype html><main><section><p>An AUROC &amp; <b title="AUROC">MMD²</b>, AUROC.<br></p><svg><path d="M0"/>'
    )
    text += "<text>PSI</text></svg></section></main>"
    assert explain_terms(text) == text.replace(
        "An AUROC", 'An <a class="term" href="#term-auroc" data-term="auroc">AUROC</a>'
    ).replace(">MMD²", '><a class="term" href="#term-mmd" data-term="mmd">MMD²</a>')


@pytest.mark.browser
@pytest.mark.slow
def test_a_term_is_explained_under_the_pointer_and_the_keyboard(
    make_run: Callable[..., Path], tmp_path: Path, browser: Any
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.get(write_report(build_report(make_full_run(make_run)), tmp_path / "out")[1].as_uri())
    box = browser.find_element("id", "explain")
    assert not box.is_displayed()
    term = browser.find_element("css selector", "#summary .term[data-term=f1]")
    ActionChains(browser).scroll_to_element(term).move_to_element(term).perform()
    assert box.is_displayed()
    assert box.text.startswith("F1\nThe balance of precision and sensitivity")
    assert term.get_attribute("aria-describedby") == "explain"
    browser.execute_script("document.querySelector('#method a.term').focus()")
    assert box.is_displayed()
    browser.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not box.is_displayed()
    browser.execute_script("document.querySelector('.hospitals [role=button] .term').parentElement.focus()")
    assert box.is_displayed()
    links = browser.execute_script("return document.querySelectorAll('[role=button] a, a a, summary a').length")
    assert links == 0
    assert browser.get_log("browser") == []
