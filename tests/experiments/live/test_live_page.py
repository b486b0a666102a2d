"""The page of a run while it works: what it shows of the events, who may open it, and that it is off by default."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from common.errors import EngineError
from experiments.cli import main
from experiments.live.progress import RunProgress
from experiments.live.watch import LivePage, serve_live_page

TITLE = "Sepsis <b>at</b> two hospitals"
HOSTILE = "<img src=x onerror=alert(1)>"


class Recorder:
    """Keeps the events that are passed on."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def handle(self, event: dict[str, Any]) -> None:
        self.events.append(event)


def start(folder: Path) -> dict[str, Any]:
    return {
        "event": "start", "folder": str(folder), "title": TITLE, "notices": [], "rounds": 4, "metric": "auroc",
    }  # fmt: skip


def handshake() -> dict[str, Any]:
    counts = {"train": {"patients": 30, "examples": 40, "classes": [20, 20]}}
    return {"event": "handshake", "sites": {"north": {"counts": counts, "synthetic": True}}, "refused": {HOSTILE: "no"}}


def round_event(number: int, loss: float) -> dict[str, Any]:
    sites = {
        "north": {"train": {"examples": 40, "loss": loss}, "validation": {"auroc": 0.5 + number / 10}},
        "south": {"train": {"examples": 120, "loss": loss + 0.4}},
    }
    return {
        "event": "round", "round": number, "rounds": 4, "sites": sites, "lost": {}, "seconds": 2.0, "chosen": number,
        "metric": "auroc", "validation": {"auroc": 0.6 + number / 10, "loss": 1.0},
    }  # fmt: skip


def append(folder: Path, *events: dict[str, Any]) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write("".join(json.dumps(event) + "\n" for event in events))


def read(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_time_left_loss_and_who_is_awaited() -> None:
    now = [100.0]
    progress = RunProgress(lambda: now[0])
    progress.handle(start(Path("run")))
    nameless = {"event": "reply", "site": "node 1", "ok": True, "waiting": 0, "phase": "handshake", "round": 0}
    progress.handle(nameless)
    assert list(progress.describe()["sites"]) == ["node 1"]
    progress.handle(handshake())
    assert list(progress.describe()["sites"]) == ["north", HOSTILE]
    assert progress.describe()["seconds_left"] is None
    for number, passed in ((1, 10.0), (2, 14.0)):
        now[0] += passed
        progress.handle(round_event(number, 1 / number))
    progress.handle({"event": "awaited", "phase": "train", "round": 3, "sites": ["south"], "seconds": 60, "limit": 90})
    now[0] += 5
    state = progress.describe()
    assert state["seconds_left"] == 2 * 12 - 5  # two rounds in 24 s
    assert [line["loss"] for line in state["history"]] == pytest.approx([1.3, 0.8])  # weighted by examples
    assert state["awaited"] == ["south"]
    assert state["sites"]["south"]["state"] == "awaited for 60 s of 90 s"
    assert state["sites"]["north"]["patients"] == 30
    assert state["sites"][HOSTILE]["state"] == "takes no part"
    reply = {"event": "reply", "site": "south", "ok": True, "waiting": 0, "phase": "train", "round": 3}
    progress.handle(reply)
    progress.handle({"event": "of another version"})
    assert progress.describe()["awaited"] == []
    progress.handle({"event": "done", "status": "failed", "error": "no site"})
    assert progress.describe()["messages"][-1] == "no site"
    assert progress.describe()["seconds_left"] is None


def test_the_page_follows_the_file_and_is_for_this_machine_only(tmp_path: Path) -> None:
    recorder = Recorder()
    with serve_live_page(recorder) as (page, address):
        assert address.startswith("http://127.0.0.1:")
        page.handle(start(tmp_path))
        page.handle(handshake() | {"event": "handshake"})  # not from the command: only the file counts
        assert json.loads(read(f"{address}state.json")[1])["sites"] == {}
        append(tmp_path, handshake(), round_event(1, 1.0))
        state = json.loads(read(f"{address}state.json")[1])
        assert (state["title"], state["round"], state["rounds"], state["synthetic"]) == (TITLE, 1, 4, True)
        port = int(address.rstrip("/").rpartition(":")[2])
        assert read(address, Host=f"localhost:{port}")[0] == 200
        assert read(address, Host="attacker.example")[0] == 403
        assert read(f"{address}../events.jsonl")[0] == 404
        assert read(f"{address}etc/passwd")[0] == 404
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for own in others:
            with socket.socket() as connection, pytest.raises(OSError, match="refused"):
                connection.connect((own, port))
        with pytest.raises(EngineError, match=f"cannot listen on 127.0.0.1:{port}"), serve_live_page(recorder, port):
            pass
    assert [event["event"] for event in recorder.events] == ["start", "handshake"]
    with pytest.raises(urllib.error.URLError):
        read(address)


def test_the_command_serves_it_only_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []

    def run(config: Any, root: Path, watcher: Any) -> Path:
        used.append(watcher)
        return root

    monkeypatch.setattr("experiments.runs.run.run_experiment", run)
    for options in ([], ["--watch"]):
        result = CliRunner().invoke(main.app, ["run", "synthetic", "-q", "--runs", str(tmp_path), *options])
        assert result.exit_code == 0, result.output
        assert ("watch the run: http://127.0.0.1:" in result.stderr) == bool(options)
    assert [isinstance(watcher, LivePage) for watcher in used] == [False, True]


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def text(name: str) -> str:
        return str(browser.find_element("id", name).text)

    with serve_live_page(Recorder()) as (page, address):
        page.handle(start(tmp_path))
        append(tmp_path, handshake())
        browser.get(address)
        wait = WebDriverWait(browser, 180)
        wait.until(lambda _: text("round") == "0 of 4")
        assert text("title") == TITLE
        assert text("notices").startswith("SYNTHETIC")
        append(tmp_path, round_event(1, 1.0), round_event(2, 0.5))
        wait.until(lambda _: text("round") == "2 of 4")
        append(
            tmp_path,
            {"event": "awaited", "phase": "train", "round": 3, "sites": [HOSTILE], "seconds": 60, "limit": 90},
        )
        wait.until(lambda _: text("awaited") == HOSTILE)
        assert not browser.find_elements("css selector", "img")
        assert len(browser.find_elements("css selector", "#sites tr")) == 3
        for name in ("loss", "value"):
            assert len(browser.find_element("css selector", f"#{name} polyline").get_attribute("points").split()) == 2
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for width in (1400, 400):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert browser.execute_script(wide) == 0
        assert browser.get_log("browser") == []
    WebDriverWait(browser, 180).until(lambda _: text("status") == "no longer connected")
