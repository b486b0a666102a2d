"""One file from a server that breaks off, truncates, lies, and asks for patience."""

from __future__ import annotations

import socket
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from common.errors import FetchError
from sites.download import catalogue
from sites.download.http import CHUNK, FileUnavailable, HttpClient
from sites.download.retry_policy import RetryPolicy
from tests.sites.download.toy_download import POLICY, files, get, one
from tests.webserver import BIG, FILES, Server, certificate

NOW = 1_800_000_000.0


@pytest.mark.parametrize("known", [True, False], ids=["sha-256", "etag"])
def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, tmp_path: Path, known: bool) -> None:
    server.faults["100.dat"] = ["break"] * 4  # each brings half of the rest
    said = one(server, tmp_path, known=known, attempts=1)
    assert files(tmp_path) == {"100.dat": BIG}
    assert said == ["the connection broke off"] * 4
    starts = [int(headers.get("Range", "bytes=0-")[6:-1]) for headers in server.list_requests("100.dat")]
    assert starts[0] == 0
    for before, after in pairwise(starts):
        half = before + (len(BIG) - before) // 2
        assert half - CHUNK <= after <= half
    assert [headers.get("If-Range") for headers in server.list_requests("100.dat")] == [
        None,
        *[server.etags["100.dat"]] * 4,
    ]


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
    assert server.list_requests("100.dat")[0]["If-Range"] == '"an older one"'


def test_a_part_of_unknown_version_is_not_continued_without_a_sum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "100.dat.part").write_bytes(b"\xff" * 1000)
    one(server, tmp_path, known=False)
    assert files(tmp_path) == {"100.dat": BIG}
    assert "Range" not in server.list_requests("100.dat")[0]


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
    assert len(server.list_requests("100.dat")) == (2 if extra else 1)


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
    assert len(server.list_requests("100.dat")) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again_when_it_says(
    server: Server, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.time", lambda: NOW)
    soon = formatdate(NOW + 2, usegmt=True)
    server.faults["100.hea"] = [(status, {}), (status, {"Retry-After": "0"}), (status, {"Retry-After": soon})]
    client = HttpClient(server.base, POLICY, True, on_retry=lambda path, why, wait: waits.append(wait))
    client._stop.wait = lambda seconds: None  # type: ignore[method-assign,assignment,return-value]
    client.fetch("100.hea", tmp_path / "100.hea", None)
    assert files(tmp_path) == {"100.hea": FILES["100.hea"]}
    assert waits == [0, 0, 2]


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
    assert len(server.list_requests("100.hea")) == 1


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_agreed(server: Server, tmp_path: Path) -> None:
    server.faults["100.dat"] = ["pause"]
    assert one(server, tmp_path, read=0.1) == ["no answer within 0.1 s"]
    assert files(tmp_path) == {"100.dat": BIG}
    assert len(BIG) // 2 - CHUNK <= int(server.list_requests("100.dat")[1]["Range"][6:-1]) <= len(BIG) // 2


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
