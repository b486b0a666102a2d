"""The live page in a browser, while recordings are streamed at the monitor."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tornado")

from experiments.monitor.replay import read_recordings, replay_recordings
from tests.experiments.monitor.conftest import Client

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.browser]


def test_a_newcomer_sees_patients_and_acknowledges_an_alert(monitor: Client, hospitals: Path, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    recording = read_recordings([hospitals / "north"])[0]
    flat = np.full((int(14 * recording.rate), recording.signal.shape[1]), 0.1, np.float32)
    broken = replace(recording, name="broken", signal=np.concatenate([recording.signal[:4000], flat]))

    def stream() -> None:
        url, token = monitor.running.url, monitor.token("device")
        asyncio.run(replay_recordings(url, token, [recording, broken], 2, 4.0))

    thread = threading.Thread(target=stream)
    thread.start()
    wait = WebDriverWait(browser, 180)
    browser.get(monitor.running.url)
    browser.find_element(By.ID, "token").send_keys(monitor.token("person") + Keys.ENTER)
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "#patients .card"))
    assert browser.find_element(By.ID, "notice").text == "SYNTHETIC: a test"
    wait.until(lambda page: "broken" in page.find_element(By.ID, "patients").text)
    wait.until(lambda page: "signal not usable" in page.find_element(By.ID, "patients").text)
    card = next(c for c in browser.find_elements(By.CSS_SELECTOR, ".card") if "broken" in c.text)
    card.send_keys(Keys.ENTER)  # by keyboard
    button = wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "#alerts button"))[0]
    assert "signal not usable" in browser.find_element(By.ID, "alerts").text
    drawn = "const c = document.getElementById('wave'); return c.getContext('2d').getImageData(0, 0, c.width, c.height)"
    assert browser.execute_script(f"{drawn}.data.some((value) => value > 0)")
    button.click()
    wait.until(lambda page: "acknowledged by ward" in page.find_element(By.ID, "alerts").text)
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    wait.until(lambda page: page.find_element(By.ID, "ward").is_displayed())
    thread.join(300)
    browser.set_window_size(400, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.get_cookie("wardround_monitor")["httpOnly"]
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
