"""The documentation builds as a site without a network, and the site works in a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_every_page_is_part_of_the_site(built: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages = {path.relative_to(built) for path in built.rglob("*.html")}
    assert sources <= pages
    assert {Path(f"project/{name}.html") for name in ("contributing", "security", "changelog")} <= pages


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(built: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="?(https?:[^" >]+)')
    for page in built.rglob("*.html"):
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page


@pytest.mark.slow
def test_links_within_the_site_lead_to_pages(built: Path) -> None:
    checked = 0
    for page in built.rglob("*.html"):
        if page.name == "404.html":
            continue
        for target in re.findall(r'<a\b[^>]*\bhref="?([^" >#]+)', page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).resolve().exists(), f"{page.relative_to(built)}: {target}"
                checked += 1
    assert checked > 500


@pytest.fixture
def site(built: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.browser
def test_the_search_finds_a_page(site: str, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{site}/index.html")
    assert browser.title == "Wardround"
    browser.find_element(By.CSS_SELECTOR, "label[for=__search]").click()
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("evaluation_epsilon")
    results = WebDriverWait(browser, 180).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, "a.md-search-result__link[href*='privacy']")
    )
    assert results
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
