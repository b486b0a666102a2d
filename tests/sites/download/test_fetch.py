"""Fetching a data set: which files come, and what is found on the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError, DataError, FetchError, WardroundError
from sites.download import destination, fetch
from sites.download.retry_policy import RetryPolicy
from tests.sites.download.toy_download import CARD, POLICY, SOURCE, files, get
from tests.webserver import BIG, FILES, Server, sha


def test_what_the_reader_needs_comes_and_says_where_from(server: Server, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    done = get(server, tmp_path / "new", events, part="100")
    needed = set(FILES) - {"extra/notes.html"}
    there = files(tmp_path / "new")
    assert set(there) == needed | {"SHA256SUMS.txt", "SOURCE.md", fetch.RECORD}
    assert all(there[path] == FILES[path] for path in needed)
    size = sum(len(FILES[path]) for path in needed)
    assert (done.fetched, done.present, done.bytes, done.failed) == (4, 0, size, {})
    plan, *rest = [event for event in events if event["event"] != "retry"]
    assert plan == {
        "event": "plan",
        "files": 4,
        "present": 0,
        "replaced": 0,
        "bytes": size,
        "already": 0,
        "exact": True,
    }
    assert sum(event["count"] for event in rest if event["event"] == "bytes") == size
    assert {event["path"] for event in rest if event["event"] == "file"} == needed
    note = there["SOURCE.md"].decode()
    assert "ODC-By 1.0" in note
    assert "Moody GB" in note
    assert server.base in note
    assert "sub/*" in note
    assert fetch.fetched_patterns(tmp_path / "new") == ["*.hea", "*.dat", "LICENSE.txt", "sub/*"]
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in server.log)
    assert all("wardround" in headers["User-Agent"] for _, _, headers in server.log)


def test_the_second_fetch_repairs_only_what_is_wrong(server: Server, tmp_path: Path) -> None:
    get(server, tmp_path)
    (tmp_path / "100.hea").write_text("edited")
    (tmp_path / "SOURCE.md").write_text("my own note")
    server.log.clear()
    events: list[dict[str, Any]] = []
    done = get(server, tmp_path, events, everything=True)
    assert (done.fetched, done.present) == (1, 4)
    assert events[0]["replaced"] == 1
    assert (tmp_path / "100.hea").read_bytes() == FILES["100.hea"]
    assert (tmp_path / "SOURCE.md").read_text() == "my own note"
    assert {path for how, path, _ in server.log if how == "GET"} == {"SHA256SUMS.txt", "100.hea"}
    assert "*" in (fetch.fetched_patterns(tmp_path) or [])


def test_one_file_that_cannot_be_had_does_not_keep_the_others(server: Server, tmp_path: Path) -> None:
    server.always["100.dat"] = "other bytes"
    del server.files["sub/deep/x.csv"]
    done = get(server, tmp_path)
    assert set(done.failed) == {"100.dat", "sub/deep/x.csv"}
    assert "(404)" in done.failed["sub/deep/x.csv"]
    assert done.fetched == 3
    assert not (tmp_path / "100.dat").exists()


def test_many_that_cannot_be_had_end_it(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_FAILED_FILES", 2)
    for path in FILES:
        del server.files[path]
    with pytest.raises(FetchError, match=r"2 files could not be had; the first: .* \(404\)"):
        get(server, tmp_path)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "a//b", "./a/.", "a\\..\\x", "c:x", "a\x00b", "..", "", "a/", "~/\n"]
)
def test_a_list_that_leads_out_of_the_folder_is_refused(server: Server, tmp_path: Path, path: str) -> None:
    with pytest.raises(FetchError, match="is not a path inside the folder"):
        destination.resolve_inside(tmp_path, path)
    if path.strip() == path and path and "\x00" not in path and "\n" not in path and not path.startswith("./"):
        server.files["SHA256SUMS.txt"] += f"{sha(b'')}  {path}\n".encode()
        with pytest.raises(FetchError, match="is not a path inside the folder"):
            get(server, tmp_path / "new")
        assert files(tmp_path) == {}


def test_links_are_neither_followed_nor_written_through(server: Server, tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "mine").write_text("mine")
    for name in ("100.hea", "100.dat.part", "100.dat.part.tag"):
        (folder / name).symlink_to(outside / "mine")
    get(server, folder, part="500")
    (folder / "100.dat").unlink()
    (folder / "100.dat.part").symlink_to(outside / "mine")
    get(server, folder, part="500")
    assert files(outside) == {"mine": b"mine"}
    assert (folder / "100.dat").read_bytes() == BIG
    (folder / "sub").symlink_to(outside)
    with pytest.raises(FetchError, match="sub is a link"):
        get(server, folder)
    assert files(outside) == {"mine": b"mine"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<html>please log in</html>\n", "line 1 of SHA256SUMS.txt is not a SHA-256 and a path"),
        ("\n", "is empty"),
        (f"{sha(b'')}  100.hea\n{sha(b'x')[:20]}", "line 2 of"),
        (f"{sha(b'')}  100.hea\n{sha(b'x')}  100.d", "is cut off"),
        (f"{sha(b'')}  100.hea\n{sha(b'x')}  100.hea\n", "names 100.hea twice"),
    ],
)
def test_a_list_that_is_none(server: Server, tmp_path: Path, text: str, why: str) -> None:
    server.files["SHA256SUMS.txt"] = text.encode()
    with pytest.raises(FetchError, match=why):
        get(server, tmp_path)
    assert files(tmp_path) == {}


def test_the_forms_of_a_list() -> None:
    text = f"{sha(b'1').upper()} *a b.csv\n\n{sha(b'2')}  ./c/d\n{sha(b'2')}  c/d\n"
    assert fetch.parse_sums(text) == {"a b.csv": sha(b"1"), "c/d": sha(b"2")}


def test_no_list_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    del server.files["SHA256SUMS.txt"]
    with pytest.raises(FetchError, match=r"cannot get the list of files from http.*does not have it \(404\)"):
        get(server, tmp_path)


def test_at_most_the_agreed_number_of_connections(server: Server, tmp_path: Path) -> None:
    server.files = {f"{i:03}.hea": b"x" * i for i in range(30)}
    server.sums()
    here, most, lock, three = set(), [0], threading.Lock(), threading.Event()
    plain = server.answer

    def count(request: BaseHTTPRequestHandler, body: bool) -> None:
        with lock:
            here.add(request)
            most[0] = max(most[0], len(here))
            if most[0] == 3:
                three.set()
        if request.command == "GET" and request.path.endswith(".hea"):
            three.wait(60)  # until there are as many as are agreed
        time.sleep(0.005)  # another one would come by now
        with lock:
            here.discard(request)  # before the answer: only then may the next one ask
        plain(request, body)

    server.answer = count  # type: ignore[method-assign]
    done = get(server, tmp_path, policy=RetryPolicy(**{**vars(POLICY), "threads": 3}))
    assert done.fetched == 30
    assert most[0] == 3


def test_two_at_once_do_not_write_over_one_another(server: Server, tmp_path: Path) -> None:
    with destination.lock_folder(tmp_path), pytest.raises(DataError, match="another wardround fetches into"):
        get(server, tmp_path)
    get(server, tmp_path)


def test_what_to_fetch(server: Server, tmp_path: Path) -> None:
    def chosen(*only: str, part: str | None = None, everything: bool = False) -> list[str]:
        return fetch.select_paths(SOURCE, FILES, only, part, everything)

    assert chosen(everything=True) == sorted(FILES)
    assert chosen("sub/*") == ["LICENSE.txt", "sub/deep/x.csv"]
    assert chosen(part="500") == ["100.dat", "100.hea", "LICENSE.txt", "extra/notes.html"]
    with pytest.raises(ConfigError, match="--only nothing: none of the 5 files of toy"):
        chosen("nothing")
    with pytest.raises(ConfigError, match="--rate 250: choose one of 100, 500"):
        chosen(part="250")


@pytest.mark.parametrize("slow", ["pause", "silent"])
def test_an_interrupt_ends_it_at_once_and_keeps_what_came(server: Server, tmp_path: Path, slow: str) -> None:
    server.always["100.dat"] = slow
    server.always["100.hea"] = None
    done: list[BaseException | None] = []

    def report_event(event: dict[str, Any]) -> None:
        if event["event"] == "file" and not done:
            done.append(None)
            time.sleep(0.2)  # the other thread waits for bytes by now
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_data_set(
            SOURCE, CARD, tmp_path, base=server.base, on_event=report_event, policy=RetryPolicy(threads=2, read=120)
        )
    assert time.monotonic() - started < 30  # the server is silent for longer
    assert not (tmp_path / "100.dat").exists()
    server.always.clear()
    assert get(server, tmp_path).failed == {}
    assert (tmp_path / "100.dat").read_bytes() == BIG


SCRIPT = """
import sys
from pathlib import Path
from sites.download.catalogue import SOURCES
from sites.cohort import DataCard
from sites.download.fetch import fetch_data_set
fetch_data_set(SOURCES["mitdb"], DataCard(*"123456789"), Path(sys.argv[2]), base=sys.argv[1], everything=True)
"""


def test_a_process_that_is_killed_leaves_whole_files_and_the_next_goes_on(server: Server, tmp_path: Path) -> None:
    server.always["100.dat"] = "pause"
    folder = tmp_path / "new"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, server.base, str(folder)])
    part = folder / "100.dat.part"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 10_000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = files(folder)
    assert 10_000 < len(there["100.dat.part"]) < len(BIG)
    assert "100.dat" not in there
    assert all(there[path] == FILES[path] for path in FILES if path in there)
    server.always.clear()
    server.log.clear()
    assert get(server, folder).failed == {}
    assert {path: content for path, content in files(folder).items() if path in FILES} == FILES
    assert int(server.list_requests("100.dat")[0]["Range"][6:-1]) == len(there["100.dat.part"])


def test_errors_have_the_exit_codes_that_the_command_line_promises() -> None:
    assert issubclass(FetchError, WardroundError)
    assert (FetchError.exit_code, DataError.exit_code) == (1, 2)


def test_the_record_of_what_was_asked_for(tmp_path: Path) -> None:
    assert fetch.fetched_patterns(tmp_path) is None
    (tmp_path / fetch.RECORD).write_text(json.dumps({"patterns": ["a"]}))
    assert fetch.fetched_patterns(tmp_path) == ["a"]
