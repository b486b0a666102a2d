"""Sizes and the disk: what is too large is refused before or while it comes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from common.errors import DataError
from sites.download import destination, fetch
from sites.download.http import HttpClient
from tests.sites.download.toy_download import files, get, one
from tests.webserver import BIG, FILES, Server


def test_a_disk_that_is_too_small_is_reported_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(len(content) for path, content in FILES.items())
    for free, fits in ((destination.SPARE_BYTES + whole - 1, False), (destination.SPARE_BYTES + whole, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]
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
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, destination.SPARE_BYTES + 1000)
    )  # type: ignore[attr-defined]
    events: list[dict[str, Any]] = []
    done = get(server, tmp_path, events)
    assert done.fetched == 5
    assert events[0]["already"] == len(BIG) - 10
    assert server.list_requests("100.dat")[0]["Range"] == f"bytes={len(BIG) - 10}-"


def test_a_file_of_unknown_size_is_checked_when_it_comes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.head = False
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, destination.SPARE_BYTES + 1000)
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
