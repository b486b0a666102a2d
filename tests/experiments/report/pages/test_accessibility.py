"""Pages that everybody can use: axe-core finds no serious fault, and the keyboard alone reaches everything.

axe-core (Deque Systems, MPL 2.0) is no part of this project: `npm install --no-save axe-core` in the repository, or
WARDROUND_AXE=PATH of its axe.min.js. Without it those tests are skipped, and the rules below are checked all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.live.watch import serve_live_page
from experiments.report.build import build_report
from experiments.report.pages.run_index import write_run_index
from experiments.report.write import write_report
from tests.experiments.report.pages.test_terms import make_full_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[4]
PLACES = (
    os.environ.get("WARDROUND_AXE", ""),
    ROOT / "node_modules/axe-core/axe.min.js",
    "/usr/lib/node_modules/axe-core/axe.min.js",
)
OPEN_ALL = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
RUN_AXE = """const done = arguments[0];
axe.run(document, { resultTypes: ["violations"] }).then((result) => done(result.violations.map(
  (item) => [item.impact, item.id, item.nodes.map((node) => node.html.slice(0, 200))])));"""
RULES = """const faults = [];
const named = (part) => (part.getAttribute("aria-label") || part.textContent || part.value || "").trim()
  || part.labels?.length;
for (const part of document.querySelectorAll("a[href], button, input, select, summary, [role=button], [role=region]"))
  if (!named(part)) faults.push(`no name: ${part.outerHTML.slice(0, 80)}`);
for (const part of document.querySelectorAll("svg[role=img]"))
  if (!part.getAttribute("aria-label") && !part.querySelector("title")) faults.push("a drawing without a title");
for (const part of document.querySelectorAll("table")) if (!part.caption) faults.push("a table without a caption");
for (const part of document.querySelectorAll("th")) if (!part.scope) faults.push("a heading without scope");
const ids = Array.from(document.querySelectorAll("[id]"), (part) => part.id);
if (new Set(ids).size !== ids.length) faults.push("an id twice");
for (const part of document.querySelectorAll("[aria-describedby], [aria-labelledby]"))
  for (const name of (part.getAttribute("aria-labelledby") || part.getAttribute("aria-describedby")).split(" "))
    if (!document.getElementById(name)) faults.push(`refers to nothing: ${name}`);
if (!document.documentElement.lang) faults.push("no language");
for (const name of ["main", "h1"]) if (document.querySelectorAll(name).length !== 1) faults.push(`not one ${name}`);
return faults;"""
INTERACTIVE = """const all = Array.from(document.querySelectorAll(
  "a[href], input, select, summary, [role=button], table.matrix td[tabindex='0']"));
return all.filter((part) => part.checkVisibility({ visibilityProperty: true }) && !part.disabled
  && part.tabIndex >= 0).map((part) => { part.dataset.wanted = "1"; return 1; }).length"""


def find_axe() -> str:
    """Return the text of axe-core."""
    path = next((Path(place) for place in PLACES if place and Path(place).is_file()), None)
    if path is None:
        pytest.skip("axe-core is not installed: npm install --no-save axe-core")
    return path.read_text(encoding="utf-8")


def list_serious(browser: Any, axe: str) -> list[Any]:
    browser.execute_script(OPEN_ALL)
    browser.execute_script(axe)
    return [item for item in browser.execute_async_script(RUN_AXE) if item[0] in ("serious", "critical")]


def test_axe_finds_no_serious_fault(make_run: Callable[..., Path], tmp_path: Path, browser: Any) -> None:
    axe = find_axe()
    folder = make_full_run(make_run)
    page = write_report(build_report(folder), folder)[1]
    index, _ = write_run_index(folder.parent)
    for address in (page.as_uri(), index.as_uri()):
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.get(address)
            assert list_serious(browser, axe) == []
    browser.execute_script("document.querySelector('h1').insertAdjacentHTML('afterend', '<input type=text>')")
    assert [item[1] for item in list_serious(browser, axe)] == ["label"], "it must find a field without a label"


def test_axe_finds_no_serious_fault_on_the_page_of_a_run(tmp_path: Path, browser: Any) -> None:
    axe = find_axe()

    class Ignored:
        def handle(self, event: object) -> None:
            pass

    with serve_live_page(Ignored()) as (_, address):
        browser.get(address)
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        browser.get(address)
        assert list_serious(browser, axe) == []


def test_every_control_has_a_name_and_the_keyboard_reaches_it(
    make_run: Callable[..., Path], tmp_path: Path, browser: Any
) -> None:
    browser.get(write_report(build_report(make_full_run(make_run)), tmp_path / "out")[1].as_uri())
    assert browser.execute_script(RULES) == []
    browser.execute_script(OPEN_ALL)
    wanted = browser.execute_script(INTERACTIVE)
    assert wanted > 40
    body = browser.find_element("css selector", "body")
    for _ in range(wanted + 60):
        (browser.switch_to.active_element or body).send_keys("\ue004")  # Tab
        browser.execute_script("delete document.activeElement.dataset.wanted")
        outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or browser.execute_script("return document.activeElement === document.body")
    missed = "return Array.from(document.querySelectorAll('[data-wanted]'), (part) => part.outerHTML.slice(0, 120))"
    assert browser.execute_script(missed) == []
