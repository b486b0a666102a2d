"""The printed report: no heading is parted from what it heads. Read back from the PDF with poppler's pdftotext."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from experiments.report.build import build_report
from experiments.report.write import write_report
from tests.experiments.report.pages.test_terms import make_full_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HEADINGS = """const last = Array.from(document.querySelectorAll("thead tr:last-child"), (row) => row.lastElementChild);
return [...document.querySelectorAll("h2, h3, summary, caption, .appendix"), ...last].map((part) => part.textContent)"""


PAPER = 688
"""Width of A4 between its margins, 182 mm, in pixels of CSS."""


def split_words(text: str) -> list[str]:
    return re.findall(r"\S+", text)


def print_pages(browser: Any, page: Path, tmp_path: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the words of each printed page without its number, and those of each heading."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler) is not installed")
    browser.get(page.as_uri())
    headings = [split_words(text) for text in browser.execute_script(HEADINGS)]
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pdf = tmp_path / "report.pdf"
    pdf.write_bytes(base64.b64decode(printed["data"]))
    run = subprocess.run(["pdftotext", "-bbox", str(pdf), "-"], check=True, capture_output=True, text=True)
    pages = [order_words(page) for page in run.stdout.split("<page ")[1:]]
    return pages, [words for words in headings if words]


def order_words(page: str) -> list[str]:
    """Return the words of a page of `pdftotext -bbox` from top to bottom, without those in the margins."""
    height = float(re.findall(r'height="([\d.]+)"', page)[0])
    matches = re.findall(r'xMin="([\d.]+)" yMin="([\d.]+)" xMax="[\d.]+" yMax="([\d.]+)">([^<]*)<', page)
    words = [(float(low), float(x), unescape(word)) for x, high, low, word in matches if float(low) < height - 40]
    return [word for _, _, word in sorted(words, key=lambda item: (round(item[0] / 3), item[1]))]


def measure_overflow(browser: Any) -> int:
    """Return by how many pixels the page is wider than the paper: more than none, and the browser shrinks all of it."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size = {"width": PAPER, "height": 971, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        return int(browser.execute_script("return document.documentElement.scrollWidth")) - PAPER
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def find_parted(pages: list[list[str]], headings: list[list[str]]) -> list[tuple[int, str]]:
    """Return each page that ends with a heading."""
    return [
        (number, " ".join(heading))
        for number, words in enumerate(pages, 1)
        for heading in headings
        if words[-len(heading) :] == heading
    ]


@pytest.mark.parametrize("hospitals", [3, 20])
def test_no_printed_page_ends_with_a_heading(
    make_run: Callable[..., Path], tmp_path: Path, browser: Any, hospitals: int
) -> None:
    if hospitals == 3:
        folder = make_full_run(make_run)
    else:
        folder = make_run(hospitals={f"ward-{position:02d}": 2 + position % 7 for position in range(1, hospitals + 1)})
    page = write_report(build_report(folder), tmp_path / "out")[1]
    pages, headings = print_pages(browser, page, tmp_path)
    assert len(pages) > 5
    assert len(headings) > 20
    assert find_parted(pages, headings) == []
    assert measure_overflow(browser) <= 0
    browser.execute_script("document.querySelector('main table').style.width = '900px'")
    assert measure_overflow(browser) > 0, "a table that is too wide is seen"
    assert find_parted([pages[0] + headings[3]], headings), "a page that ends with a heading is found"


def test_without_the_rules_for_print_headings_are_parted(
    make_run: Callable[..., Path], tmp_path: Path, browser: Any
) -> None:
    folder = make_run(hospitals={f"ward-{position:02d}": 2 + position % 7 for position in range(1, 21)})
    page = write_report(build_report(folder), tmp_path / "out")[1]
    text = page.read_text(encoding="utf-8")
    assert "break-after: avoid" in text
    page.write_text(re.sub(r"break-(?:after|before|inside): avoid;", "", text), encoding="utf-8")
    pages, headings = print_pages(browser, page, tmp_path)
    assert find_parted(pages, headings), "the test sees the fault that the rules prevent"
