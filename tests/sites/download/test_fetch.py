"""Fetching a data set from a server on this machine that breaks off, truncates, lies, and asks for patience."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError, DataError, FetchError, WardroundError
from sites import datasets
from sites.cohort import DataCard
from sites.download import catalogue, destination, fetch
from sites.download.catalogue import Download
from sites.download.http import CHUNK, FileUnavailable, HttpClient
from sites.download.retry_policy import RetryPolicy
from tests.webserver import BIG, FILES, Server, certificate, sha

CARD = DataCard("toy", "Toy 1.0", *["some"] * 4, "example.org", "Moody GB et al. 2001", "ODC-By 1.0")
SOURCE = Download(
    "mitdb",
    "toy",
    "1.0",
    "https://example.org/toy/",
    "little",
    files="https://example.org/files/toy/",
    wanted=("*.hea", "*.dat", "LICENSE.txt"),
    parts={"100": ("sub/*",), "500": ("extra/*",)},
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Server()
    yield made
    made.close()


POLICY = RetryPolicy(connect=2, read=2, attempts=3, backoff=0.001, max_wait=5)


def get(server: Server, folder: Path, events: list[dict[str, Any]] | None = None, **more: Any) -> fetch.FetchResult:
    given = {"base": server.base, "policy": POLICY, **more}
    return fetch.fetch_data_set(SOURCE, CARD, folder, on_event=(events if events is not None else []).append, **given)


def one(server: Server, folder: Path, path: str = "100.dat", known: bool = True, **changes: Any) -> list[str]:
    """Fetch one file; return why it was asked again."""
    said: list[str] = []
    client = HttpClient(
        server.base, RetryPolicy(**{**vars(POLICY), **changes}), True, on_retry=lambda p, why, w: said.append(why)
    )
    client.fetch(path, folder / Path(path).name, sha(FILES[path]) if known else None)
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_the_second_fetch_keeps_what_is_right_and_mends_what_is_not(server: Server, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("known", [True, False], ids=["sha-256", "etag"])
def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path, known: bool) -> None:
    server.faults["100.dat"] = ["break"] * 4  # each brings half of the rest
    said = one(server, tmp_path, known=known, attempts=1)
    assert files(tmp_path) == {"100.dat": BIG}
    assert said == ["the connection broke off"] * 4
    starts = [int(headers.get("Range", "bytes=0-")[6:-1]) for headers in server.asked("100.dat")]
    assert starts[0] == 0
    for before, after in pairwise(starts):
        half = before + (len(BIG) - before) // 2
        assert half - CHUNK <= after <= half
    assert [headers.get("If-Range") for headers in server.asked("100.dat")] == [None, *[server.etags["100.dat"]] * 4]


@pytest.mark.parametrize("known", [True, False], ids=["sha-256", "etag"])
def test_a_server_that_ignores_the_range_is_read_from_the_start(server: Server, tmp_path: Path, known: bool) -> None:
    server.faults["100.dat"] = ["break"]
    server.ranges = False
    one(server, tmp_path, known=known)
    assert files(tmp_path) == {"100.dat": BIG}


@pytest.mark.parametrize("fault", ["lie about the version", None], ids=["server-lies", "server-says-so"])
def test_another_version_on_resume_is_never_glued_to_the_old_one(server: Server, tmp_path: Path, fault: Any) -> None:
    (tmp_path / "100.dat.part").write_bytes(b"\xff" * 1000)
    (tmp_path / "100.dat.part.tag").write_text('"an older one"')
    server.faults["100.dat"] = [fault]
    one(server, tmp_path, known=False)
    assert files(tmp_path) == {"100.dat": BIG}
    assert server.asked("100.dat")[0]["If-Range"] == '"an older one"'


def test_a_part_of_unknown_version_is_not_continued_without_a_sum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "100.dat.part").write_bytes(b"\xff" * 1000)
    one(server, tmp_path, known=False)
    assert files(tmp_path) == {"100.dat": BIG}
    assert "Range" not in server.asked("100.dat")[0]


def test_a_part_with_wrong_bytes_is_found_out_by_the_sum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "100.dat.part").write_bytes(b"\xff" * 1000)
    said = one(server, tmp_path)
    assert files(tmp_path) == {"100.dat": BIG}
    assert said == ["its SHA-256 differs from the published one: from the start"]


@pytest.mark.parametrize("known", [True, False], ids=["sha-256", "etag"])
@pytest.mark.parametrize("extra", [0, 5], ids=["whole", "too-long"])
def test_416_where_all_or_more_of_it_had_come(server: Server, tmp_path: Path, extra: int, known: bool) -> None:
    (tmp_path / "100.dat.part").write_bytes(BIG + b"x" * extra)
    (tmp_path / "100.dat.part.tag").write_text(server.etags["100.dat"])
    one(server, tmp_path, known=known)
    assert files(tmp_path) == {"100.dat": BIG}
    assert len(server.asked("100.dat")) == (2 if extra else 1)


@pytest.mark.parametrize("fault", ["says more", "says less", "wrong place"])
def test_a_server_that_lies_about_lengths_and_places(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults["100.dat"] = ["break", fault]
    one(server, tmp_path, known=False)
    assert files(tmp_path) == {"100.dat": BIG}


def test_a_file_cut_short_with_a_length_that_fits_is_found_out_by_its_sum(server: Server, tmp_path: Path) -> None:
    server.faults["100.dat"] = ["says less"]
    assert "SHA-256" in one(server, tmp_path)[0]
    assert files(tmp_path) == {"100.dat": BIG}


def test_what_has_another_sum_twice_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.faults["100.dat"] = ["other bytes"] * 2
    with pytest.raises(
        FileUnavailable, match=r"100\.dat: what the server sends has another SHA-256 than was published"
    ):
        one(server, tmp_path)
    assert files(tmp_path) == {}
    assert len(server.asked("100.dat")) == 2


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


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again_when_it_says(server: Server, tmp_path: Path, status: int) -> None:
    waits: list[float] = []
    soon = formatdate(time.time() + 2, usegmt=True)
    server.faults["100.hea"] = [(status, {}), (status, {"Retry-After": "0"}), (status, {"Retry-After": soon})]
    client = HttpClient(server.base, POLICY, True, on_retry=lambda path, why, wait: waits.append(wait))
    client._stop.wait = lambda seconds: None  # type: ignore[method-assign,assignment,return-value]
    client.fetch("100.hea", tmp_path / "100.hea", None)
    assert files(tmp_path) == {"100.hea": FILES["100.hea"]}
    assert waits[:2] == [0, 0]
    assert 0.5 < waits[2] <= 2


def test_the_waits_grow(server: Server, tmp_path: Path) -> None:
    waits: list[float] = []
    server.always["100.hea"] = (503, {})
    policy = RetryPolicy(**{**vars(POLICY), "attempts": 6, "backoff": 0.5, "max_wait": 10.0})
    client = HttpClient(server.base, policy, True, on_retry=lambda path, why, wait: waits.append(wait))
    client._stop.wait = lambda seconds: None  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(FetchError, match=r"100\.hea: the server answers 503 .*; given up after 7 attempts"):
        client.fetch("100.hea", tmp_path / "100.hea", None)
    assert waits == pytest.approx([0, 1, 2, 4, 8, 10], abs=0.126)


def test_a_server_that_asks_for_hours_is_left_alone(server: Server, tmp_path: Path) -> None:
    server.always["100.hea"] = (429, {"Retry-After": "7200"})
    with pytest.raises(FetchError, match="asks to wait 120 minutes: go on later"):
        one(server, tmp_path, "100.hea")
    assert len(server.asked("100.hea")) == 1


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_agreed(server: Server, tmp_path: Path) -> None:
    server.faults["100.dat"] = ["pause"]
    assert one(server, tmp_path, read=0.1) == ["no answer within 0.1 s"]
    assert files(tmp_path) == {"100.dat": BIG}
    assert len(BIG) // 2 - CHUNK <= int(server.asked("100.dat")[1]["Range"][6:-1]) <= len(BIG) // 2


def test_no_server_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = HttpClient(f"http://127.0.0.1:{port}/", POLICY, True)
    with pytest.raises(FetchError, match=r"^x: the server refuses connections; given up after 4 attempts$"):
        client.fetch("x", tmp_path / "x", None)


def test_a_name_that_is_not_known_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(FetchError, match="the server's name is not known: is there a network"):
        HttpClient("https://physionet.org/files/", POLICY).fetch("x", tmp_path / "x", None)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ((403, {}), r"asks for a login \(403\)"),
        ((418, {}), "answers 418"),
        ((302, {"Location": "ftp://example.org/x"}), "redirects to ftp:, which is not followed"),
        ((301, {"Location": "file:///etc/passwd"}), "redirects to file:"),
        ((302, {"Location": "100.dat"}), "redirects in a circle"),
        ("gzip", "compressed"),
        ("no length", "does not say how long it is"),
    ],
    ids=str,
)
def test_what_is_not_accepted(server: Server, tmp_path: Path, fault: Any, why: str) -> None:
    server.always["100.dat"] = fault
    with pytest.raises(FileUnavailable, match=why):
        one(server, tmp_path, known=False)
    assert files(tmp_path) == {}


def test_a_redirect_to_another_place_is_followed_and_its_sum_checked(server: Server, tmp_path: Path) -> None:
    server.always["100.dat"] = (302, {"Location": "/files/toy/moved"})
    server.files["moved"] = BIG
    one(server, tmp_path)
    assert files(tmp_path) == {"100.dat": BIG}


def test_only_https_is_fetched_from(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not https"):
        HttpClient("http://physionet.org/files/")
    for base in ("file:///etc/", "ftp://example.org/"):
        with pytest.raises(FetchError, match="is not https"):
            HttpClient(base, insecure=True)
    assert all(item.files.startswith("https://") or item.by_hand for item in catalogue.SOURCES.values())


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


def test_a_disk_that_is_too_small_is_told_before_anything_comes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(len(content) for path, content in FILES.items())
    for free, fits in ((destination.SPARE_BYTES + whole - 1, False), (destination.SPARE_BYTES + whole, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
        if fits:
            get(server, tmp_path)
        else:
            with pytest.raises(
                DataError, match=r"307\.\d kB do not fit: .* has 67\.4 MB free, and 67\.1 MB should stay so"
            ):
                get(server, tmp_path)
            assert set(files(tmp_path)) == {"SHA256SUMS.txt"}


def test_what_had_come_needs_no_space_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "100.dat.part").write_bytes(BIG[:-10])
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, destination.SPARE_BYTES + 1000)
    )  # type: ignore[attr-defined]
    events: list[dict[str, Any]] = []
    done = get(server, tmp_path, events)
    assert done.fetched == 5
    assert events[0]["already"] == len(BIG) - 10
    assert server.asked("100.dat")[0]["Range"] == f"bytes={len(BIG) - 10}-"


def test_a_file_whose_size_none_told_before_is_checked_when_it_comes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.head = False
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, destination.SPARE_BYTES + 1000)
    )  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"307\.2 kB do not fit"):
        get(server, tmp_path)
    assert not (tmp_path / "100.dat.part").exists()


def test_a_disk_that_fills_up_is_one_clear_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    real = destination.partial_paths
    monkeypatch.setattr("sites.download.http.partial_paths", lambda target: (Path("/dev/full"), real(target)[1]))
    monkeypatch.setattr(HttpClient, "_discard", lambda self, part, tag: None)
    with pytest.raises(DataError, match="cannot write /dev/full: No space left on device"):
        one(server, tmp_path)


def test_sizes_of_many_files_are_estimated_from_some(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_SIZE_REQUESTS", 8)
    server.files = {f"{i:03}.hea": b"x" * (10 if i % 2 else 30) for i in range(40)}
    server.sums()
    events: list[dict[str, Any]] = []
    get(server, tmp_path, events)
    assert sum(how == "HEAD" for how, _, _ in server.log) == 4
    assert (events[0]["exact"], events[0]["files"]) == (False, 40)
    assert events[0]["bytes"] in (40 * 10, 40 * 30, 40 * 20, 40 * 25, 40 * 15)


def test_a_server_without_head_is_fetched_from_without_a_size(server: Server, tmp_path: Path) -> None:
    server.head = False
    events: list[dict[str, Any]] = []
    assert get(server, tmp_path, events).fetched == 5
    assert (events[0]["bytes"], events[0]["exact"]) == (None, False)


def test_a_list_in_chunks_that_breaks_off_is_not_taken_for_a_short_one(server: Server, tmp_path: Path) -> None:
    server.faults["SHA256SUMS.txt"] = ["broken chunks", "chunks"]
    events: list[dict[str, Any]] = []
    assert get(server, tmp_path, events).fetched == 5
    assert [event["why"] for event in events if event["event"] == "retry"] == ["the connection broke off"]


def test_a_certificate_that_no_one_knows_is_not_accepted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = certificate(tmp_path)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    base = server.base.replace("http:", "https:")
    with pytest.raises(FetchError, match=r"the certificate of 127\.0\.0\.1 is not accepted"):
        HttpClient(base, POLICY).fetch("100.hea", tmp_path / "100.hea", None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    HttpClient(base, POLICY).fetch("100.hea", tmp_path / "100.hea", None)
    assert (tmp_path / "100.hea").read_bytes() == FILES["100.hea"]
    server.always["100.dat"] = (302, {"Location": server.base + "100.hea"})
    with pytest.raises(FileUnavailable, match="redirects to http:, which is not followed"):
        HttpClient(base, POLICY).fetch("100.dat", tmp_path / "100.dat", None)


def test_at_most_the_agreed_number_of_connections(server: Server, tmp_path: Path) -> None:
    server.files = {f"{i:03}.hea": b"x" * i for i in range(30)}
    server.sums()
    here, most, lock = set(), [0], threading.Lock()
    plain = server.answer

    def count(request: BaseHTTPRequestHandler, body: bool) -> None:
        with lock:
            here.add(request)
            most[0] = max(most[0], len(here))
        time.sleep(0.005)
        with lock:
            here.discard(request)  # before the answer: only then may the next one ask
        plain(request, body)

    server.answer = count  # type: ignore[method-assign]
    done = get(server, tmp_path, policy=RetryPolicy(**{**vars(POLICY), "threads": 3}))
    assert done.fetched == 30
    assert 2 <= most[0] <= 3


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

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "file" and not done:
            done.append(None)
            time.sleep(0.2)  # the other thread waits for bytes by now
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_data_set(
            SOURCE, CARD, tmp_path, base=server.base, on_event=tell, policy=RetryPolicy(threads=2, read=30)
        )
    assert time.monotonic() - began < 2.5
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
    deadline = time.monotonic() + 20
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
    assert int(server.asked("100.dat")[0]["Range"][6:-1]) == len(there["100.dat.part"])


def test_the_catalogue_names_data_sets_and_where_they_are_published() -> None:
    assert {item.name for item in catalogue.SOURCES.values()} <= set(datasets.dataset_names())
    for item in catalogue.SOURCES.values():
        assert item.page.startswith("https://")
        assert catalogue.find_download(item.slug) is catalogue.find_download(item.name) is item
        assert bool(item.files) != bool(item.by_hand)
        assert all(len(value) == 64 for value in item.sums.values())
    assert catalogue.SOURCES["mitdb"].files == "https://physionet.org/files/mitdb/1.0.0/"
    with pytest.raises(DataError, match="Kaggle"):
        catalogue.require_download("heartbeat_csv")
    with pytest.raises(ConfigError, match="choose one of eicu, heart_disease, mitdb, ptbdb, ptbxl, sepsis"):
        catalogue.require_download("synthetic")


def test_which_files_of_the_published_ones_are_chosen() -> None:
    mit = ["100.hea", "100.dat", "100.atr", "100.xws", "102-0.atr", "mitdbdir/x.htm", "x_mitdb/x_100.dat", "RECORDS"]
    assert fetch.select_paths(catalogue.SOURCES["mitdb"], mit, (), None, False) == [
        "100.atr",
        "100.dat",
        "100.hea",
        "RECORDS",
    ]
    xl = ["ptbxl_database.csv", "records100/00000/00001_lr.hea", "records500/00000/00001_hr.hea", "RECORDS"]
    assert fetch.select_paths(catalogue.SOURCES["ptbxl"], xl, (), "100", False) == xl[:2]
    assert fetch.select_paths(catalogue.SOURCES["ptbxl"], xl, (), None, False) == xl[:3]


def test_errors_have_the_exit_codes_that_the_command_line_promises() -> None:
    assert issubclass(FetchError, WardroundError)
    assert (FetchError.exit_code, DataError.exit_code) == (1, 2)


@pytest.mark.realdata
def test_the_sums_of_the_heart_disease_files_are_those_of_the_files() -> None:
    folder = Path(__file__).resolve().parents[3] / "data" / "heart-disease"
    if not folder.is_dir():
        pytest.skip("no data/heart-disease")
    for path, value in catalogue.SOURCES["heart_disease"].sums.items():
        assert destination.file_sha256(folder / path) == value


def test_the_record_of_what_was_asked_for(tmp_path: Path) -> None:
    assert fetch.fetched_patterns(tmp_path) is None
    (tmp_path / fetch.RECORD).write_text(json.dumps({"patterns": ["a"]}))
    assert fetch.fetched_patterns(tmp_path) == ["a"]
