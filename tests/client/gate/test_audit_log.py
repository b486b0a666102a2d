"""The audit log as a file: what a reader is told about each way to tamper with it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from client.gate.audit_entry import INITIAL_HASH, AuditEntry
from client.gate.audit_log import AuditLog, Head
from common.errors import DataError

LINES = 6
Change = Callable[[list[bytes]], list[bytes]]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """Return a log of six lines: the first says that it was opened."""
    log = AuditLog(tmp_path / "north" / "audit.jsonl")
    for number in range(1, LINES):
        log.append(AuditEntry("admitted", kind="train", round=number, run="a" * 32))
    return log


def change(log: AuditLog, how: Change) -> None:
    log.path.write_bytes(b"".join(how(log.path.read_bytes().splitlines(keepends=True))))


def rewrite(line: bytes, **values: object) -> bytes:
    """Return a line with other content and the hash that fits it, as somebody who knows the format would write it."""
    content = {**json.loads(line), **values}
    content["hash"] = AuditEntry(**{**content, "hash": ""}).digest()
    return AuditEntry(**content).to_line()


def test_what_was_written_is_read(log: AuditLog) -> None:
    entries = log.read()
    assert [entry.number for entry in entries] == list(range(1, LINES + 1))
    assert [entry.event for entry in entries] == ["opened", *["admitted"] * (LINES - 1)]
    assert entries[0].previous == INITIAL_HASH
    assert [entry.previous for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]
    assert log.head.read_text() == f"{LINES} {entries[-1].hash}\n"
    assert [stat.S_IMODE(file.stat().st_mode) for file in (log.path, log.head)] == [0o600, 0o600]
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


def test_a_hash_is_that_of_the_line_without_it(log: AuditLog) -> None:
    """Computed here as the documentation says, from the file's own text."""
    import hashlib

    for line in log.path.read_text().splitlines():
        raw = json.loads(line)
        stated = raw.pop("hash")
        assert hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == stated


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b'"round":3', b'"round":9'), *lines[4:]], "line 4 was changed"),
        (lambda lines: [*lines[:3], rewrite(lines[3], round=9), *lines[4:]], "line 4 was replaced: line 5 follows"),
        (lambda lines: [*lines[:5], rewrite(lines[5], round=9)], "line 6 was replaced: the second file"),
        (lambda lines: [*lines[:2], b" " + lines[2], *lines[3:]], "line 3 was changed: it is no line of this log"),
        (lambda lines: [*lines[:2], b"\n", *lines[3:]], "line 3 was changed"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 was removed: line 4 stands there"),
        (lambda lines: [*lines[:2], *lines[4:]], "lines 3 to 4 were removed: line 5 stands there"),
        (lambda lines: lines[1:], "line 1 was removed"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "line 3 was moved: line 4 stands in its place"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "line 4 was inserted or moved: it is numbered 3"),
        (lambda lines: lines[:-1], "line 6 was cut off at the end"),
        (lambda lines: lines[:2], "lines 3 to 6 were cut off at the end"),
        (lambda lines: [*lines[:5], lines[5][:-9]], "line 6 was cut off at the end"),
        (lambda lines: [], "lines 1 to 6 were cut off at the end"),
        (lambda lines: [*lines[:3], b"\xff\xfe{" * 9, *lines[4:]], "line 4 was changed"),
    ],
)  # fmt: skip
def test_the_line_that_was_tampered_with_is_named(log: AuditLog, how: Change, fault: str) -> None:
    change(log, how)
    assert log.find_fault().startswith(fault)
    with pytest.raises(DataError, match="is not intact"):
        log.read()


def test_a_log_that_is_gone_is_missed(log: AuditLog) -> None:
    log.path.unlink()
    assert "it is gone" in log.find_fault()
    with pytest.raises(DataError, match="was tampered with, so nothing is answered"):
        log.append(AuditEntry("admitted"))


def test_a_head_that_is_gone_or_older_is_missed(log: AuditLog) -> None:
    entries = log.read()
    log.head.unlink()
    assert "its second file (.head) is gone" in log.find_fault()
    log.head.write_text(f"3 {entries[2].hash}\n")
    assert "older than the log" in log.find_fault()
    with pytest.raises(DataError, match="was tampered with"):
        log.append(AuditEntry("admitted"))


@pytest.mark.parametrize("how", [lambda lines: lines[:-1], lambda lines: [*lines[:5], rewrite(lines[5], round=9)]])
def test_nothing_is_appended_after_a_last_line_that_the_head_does_not_name(log: AuditLog, how: Change) -> None:
    change(log, how)
    with pytest.raises(DataError, match="was tampered with, so nothing is answered"):
        log.append(AuditEntry("admitted"))


def test_an_append_that_a_power_cut_interrupted_is_no_fault(log: AuditLog) -> None:
    entries = log.read()
    log.head.write_text(f"{LINES - 1} {entries[-2].hash}\n")  # the line was written, the head not yet
    assert log.find_fault() == ""
    log.append(AuditEntry("admitted"))
    with log.path.open("ab") as file:
        file.write(b'{"event":"adm')  # the line was not written whole
    assert log.find_fault() == ""
    assert log.append(AuditEntry("released")).number == LINES + 2
    assert [entry.event for entry in log.read()][-2:] == ["admitted", "released"]


def test_a_log_that_was_written_anew_differs_from_what_was_noted(log: AuditLog, tmp_path: Path) -> None:
    noted = Head.from_text(f"{LINES}:{log.read()[-1].hash}")
    log.append(AuditEntry("released"))
    assert log.find_fault(noted=noted) == ""
    other = AuditLog(tmp_path / "other.jsonl")
    for _ in range(LINES + 1):
        other.append(AuditEntry("admitted"))
    assert other.find_fault() == ""
    assert "line 6 is not the one that was noted" in other.find_fault(noted=noted)
    assert "ends with line 8" in other.find_fault(noted=Head(9, noted.hash))
    for text in ("", "x", f"1:{'g' * 64}", f"-1:{noted.hash}"):
        with pytest.raises(DataError, match="NUMBER:HASH"):
            Head.from_text(text)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_what_cannot_be_written_leaves_the_log_as_it_was(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = log.path.read_bytes(), log.head.read_text()
    real = getattr(os, call)

    def fail(file: int, *rest: object) -> object:
        if call == "write":
            real(file, b'{"half')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DataError, match="cannot be written: No space left"):
            log.append(AuditEntry("admitted"))
    assert (log.path.read_bytes(), log.head.read_text()) == before
    assert log.append(AuditEntry("admitted")).number == LINES + 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the names of open files")
def test_a_line_is_on_the_disk_before_the_head_names_it(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, str]] = []
    sync = os.fsync

    def watch(file: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{file}")).name, log.head.read_text()))
        sync(file)

    before = log.head.read_text()
    monkeypatch.setattr(os, "fsync", watch)
    log.append(AuditEntry("admitted"))
    assert synced[0] == ("audit.jsonl", before)
    assert synced[1][0].startswith(".audit.jsonl.head.")
    assert synced[1][1] == before


def test_a_head_that_cannot_be_written_takes_its_line_back(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    before = log.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EDQUOT, "quota")))
        with pytest.raises(DataError, match="cannot be written"):
            log.append(AuditEntry("admitted"))
    assert log.path.read_bytes() == before
    assert log.find_fault() == ""


def append_many(path: str, name: str, count: int) -> None:
    for _ in range(count):
        AuditLog(Path(path)).append(AuditEntry("admitted", name=name))


@pytest.mark.slow
def test_processes_take_turns(tmp_path: Path) -> None:
    path, context = tmp_path / "audit.jsonl", multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(str(path), str(i), 20)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    entries = AuditLog(path).read()
    assert sorted(entry.name for entry in entries[1:]) == sorted([*"012"] * 20)


def test_threads_take_turns(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    log = AuditLog(tmp_path / "audit.jsonl")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: log.append(AuditEntry("admitted", round=i)), range(1, 41)))
    assert sorted(entry.round for entry in log.read()) == list(range(41))


def test_a_long_last_line_is_found(log: AuditLog) -> None:
    log.append(AuditEntry("failed", reason="x" * 200_000))
    assert log.append(AuditEntry("admitted")).number == LINES + 2
    assert log.find_fault() == ""
