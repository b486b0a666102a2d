from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.report.build import build
from experiments.report.write import write

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")


@pytest.fixture
def browser(tmp_path):
    if not CHROMIUM.exists() or not DRIVER.exists():
        missing = "chromium or chromedriver is not installed"
        pytest.fail(missing) if os.environ.get("WARDROUND_REQUIRE_BROWSER") else pytest.skip(missing)
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def _resize(browser, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def test_page_in_a_browser(make_run, tmp_path, browser) -> None:
    leak = {"level": "leak", "text": "LEAKY split."}
    report = build(
        make_run(synthetic=True, notices=(leak,), rename=("west", "a-hospital-with-a-name-of-forty-letters-x"))
    )
    page = write(report, tmp_path / "out")[1]
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
