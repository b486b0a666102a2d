from __future__ import annotations

import base64
import re

import pytest

from experiments.report.build import build_report
from experiments.report.write import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def _resize(browser, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def test_page_in_a_browser(make_run, tmp_path, browser) -> None:
    leak = {"level": "leak", "text": "LEAKY split."}
    report = build_report(
        make_run(synthetic=True, notices=(leak,), rename=("west", "a-hospital-with-a-name-of-forty-letters-x"))
    )
    page = write_report(report, tmp_path / "out")[1]
    _resize(browser, 1280)
    browser.get(page.as_uri())
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0

    links = browser.find_elements("css selector", "nav .sites a")
    assert [link.text for link in links] == [site.name for site in report.sites]
    for link, site in zip(links, report.sites, strict=True):
        link.click()
        target = browser.find_element("css selector", ":target")
        assert target.find_element("css selector", "h3").text.startswith(site.name)
        box = "const box = arguments[0].getBoundingClientRect(); return [box.top, box.bottom]"
        bar = browser.execute_script(box, browser.find_element("css selector", ".bar"))
        heading = browser.execute_script(box, target.find_element("css selector", "h3"))
        assert bar[0] == 0
        assert bar[1] <= heading[0] < 900
        browser.execute_script("window.scrollTo(0, 0)")

    names = "table.hospitals tbody th a"
    given = [item.text for item in browser.find_elements("css selector", names)]
    button = browser.find_element("xpath", "//table[contains(@class, 'hospitals')]//th[contains(., 'Macro-F1')]/span")
    button.click()
    by_value = sorted(report.sites, key=lambda site: report.federated.sites[site.name].macro_f1.value)
    assert [item.text for item in browser.find_elements("css selector", names)] == [site.name for site in by_value]
    button.send_keys("\ue007")
    assert [item.text for item in browser.find_elements("css selector", names)] == [
        site.name for site in reversed(by_value)
    ]
    button.click()
    assert [item.text for item in browser.find_elements("css selector", names)] == given

    for width, scheme in ((400, "dark"), (1280, "dark")):
        _resize(browser, width, scheme)
        assert browser.execute_script(wide) == 0
    assert browser.get_log("browser") == []


WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
OPENED = """const done = arguments[0];
const read = () => {
  const here = performance.getEntriesByType("navigation")[0];
  if (here.loadEventEnd) done(here.loadEventEnd - here.startTime); else setTimeout(read, 10);
};
read();"""
"""Milliseconds until the page is loaded; before that the browser states 0."""


def test_twenty_hospitals_open_in_two_seconds_and_each_is_reachable(twenty, tmp_path, browser) -> None:
    report = build_report(twenty)
    page = write_report(report, tmp_path / "out")[1]
    assert page.stat().st_size < 5_000_000
    _resize(browser, 1280)

    def measure_opening() -> float:
        browser.get(page.as_uri())
        return float(browser.execute_async_script(OPENED))

    assert any(0 < measure_opening() < 2000 for _ in range(10))  # others may want the processor at some of them
    assert browser.execute_script(WIDE) == 0

    reached = browser.execute_script(
        """return Array.from(document.querySelectorAll("nav .sites a"), (link) => {
             link.click();
             const head = document.querySelector(":target h3");
             const { top, bottom } = head.getBoundingClientRect();
             const name = head.textContent.replace("worst hospital", "").trim();
             return [link.textContent, name, top >= 0 && bottom < innerHeight];
           });"""
    )
    assert reached == [[site.name, site.name, True] for site in report.sites]

    tables = "table.hospitals tbody tr, table.matrix tbody tr"
    printed = lambda: [row for row in browser.find_elements("css selector", tables) if row.is_displayed()]  # noqa: E731
    box = browser.find_element("css selector", "#find")
    box.send_keys("ward-1")
    assert len(printed()) == 2 * 10
    assert browser.find_element("css selector", "nav .matches").text == "10 of 20 shown"
    box.clear()
    box.send_keys("\ue003 ")
    assert len(printed()) == 2 * 20

    head = browser.find_element("css selector", "table.matrix thead th:nth-child(2) [role=button]")
    head.send_keys(" ")
    names = [row.text for row in browser.find_elements("css selector", "table.matrix tbody th")]
    assert names == sorted(names, key=lambda name: report.federated.sites[name].macro_f1.value)
    for width in (400, 1280):
        _resize(browser, width, "dark")
        assert browser.execute_script(WIDE) == 0
    assert browser.get_log("browser") == []


def test_the_matrix_is_read_with_the_keyboard(make_run, tmp_path, browser) -> None:
    report = build_report(make_run())
    browser.get(write_report(report, tmp_path / "out")[1].as_uri())
    assert len(browser.find_elements("css selector", "table.matrix td[tabindex='0']")) == 1
    browser.execute_script("document.querySelector('table.matrix td[tabindex=\"0\"]').focus()")
    browser.switch_to.active_element.send_keys("\ue015\ue014")  # down, right
    here = browser.switch_to.active_element
    item = report.model("pooled").sites["south"]
    assert here.text.startswith("▼")
    assert here.get_attribute("tabindex") == "0"
    line = browser.find_element("css selector", ".readout").text
    assert line.startswith(f"Pooled model at south: macro-F1 {item.macro_f1.value:.3f} (95% interval ")
    assert line.endswith("on 3 test patients, few")


def test_the_readers_colours_have_priority_over_the_systems_and_are_stored(make_run, tmp_path, browser) -> None:
    from selenium.webdriver.support.select import Select

    page = write_report(build_report(make_run()), tmp_path / "out")[1]
    paper = "return getComputedStyle(document.body).backgroundColor"
    _resize(browser, 1280, "light")
    browser.get(page.as_uri())
    light = browser.execute_script(paper)
    _resize(browser, 1280, "dark")
    dark = browser.execute_script(paper)
    assert light != dark
    choice = Select(browser.find_element("css selector", "#theme"))
    for wanted, result in (("light", light), ("dark", dark)):
        choice.select_by_value(wanted)
        assert browser.execute_script(paper) == result
    _resize(browser, 1280, "light")
    browser.get(page.as_uri())
    assert browser.execute_script(paper) == dark
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script(paper) == light
    assert not browser.find_element("css selector", "nav").is_displayed()


def test_the_page_is_whole_without_its_script(make_run, tmp_path, browser) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(write_report(build_report(make_run()), tmp_path / "out")[1].as_uri())
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.find_element("css selector", "nav .sites a").is_displayed()
    assert not browser.find_element("css selector", "#theme").is_displayed()
    assert not browser.find_elements("css selector", "[role=button]")


def test_the_skip_link_comes_first_and_goes_to_the_report(make_run, tmp_path, browser) -> None:
    browser.get(write_report(build_report(make_run()), tmp_path / "out")[1].as_uri())
    browser.find_element("css selector", "body").send_keys("\ue004")
    first = browser.switch_to.active_element
    assert first.text == "Skip to the report"
    assert first.rect["x"] >= 0
    first.send_keys("\ue007")
    assert browser.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.parametrize("hospitals", [3, 20])
def test_the_summary_part_has_at_most_six_printed_pages(make_run, tmp_path, browser, hospitals) -> None:
    folder = make_run(hospitals={f"ward-{position:02d}": 2 + position % 7 for position in range(1, hospitals + 1)})
    browser.get(write_report(build_report(folder), tmp_path / "out")[1].as_uri())
    options = {"printBackground": True, "preferCSSPageSize": True}
    whole = count_pages(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    browser.execute_script(
        "for (let part = document.querySelector('p.appendix'), next; part; part = next) {"
        " next = part.nextElementSibling; part.remove(); }"
    )
    summary = count_pages(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert 1 <= summary <= 6
    assert whole > summary


def count_pages(pdf: str) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(pdf)))
