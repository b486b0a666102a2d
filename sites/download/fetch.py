"""Fetching a published data set: its list of SHA-256 sums first, then the files of a run, a few at a time.

A file that exists and has the right checksum is kept; a partial file is continued (sites/download/http.py). A fetch
that was stopped, or whose process was killed, continues where it was when it is started again.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from common.errors import ConfigError, FetchError
from sites.cohort import DataCard
from sites.download.catalogue import SUMS_FILE, Download
from sites.download.destination import (
    file_sha256,
    file_size,
    lock_folder,
    partial_paths,
    report_disk_errors,
    require_space,
    resolve_inside,
)
from sites.download.http import DownloadStopped, FileUnavailable, HttpClient
from sites.download.retry_policy import RetryPolicy

RECORD = ".wardround-fetch.json"
"""File that records the patterns fetched, so that `verify_files` knows which files should be there."""

NOTE = "SOURCE.md"
NOTE_MARK = "<!-- written by wardround data fetch -->"
MAX_SIZE_REQUESTS = 200
"""Up to this many files, all sizes are requested; of more files, half as many, and their sum is an estimate."""

MAX_FAILED_FILES = 20
"""A fetch ends when this many files could not be fetched."""
T = TypeVar("T")
EventListener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FetchResult:
    """What a fetch did.

    Attributes:
        fetched: number of files fetched.
        present: number of files that existed with the right checksum.
        bytes: length of the fetched files together.
        failed: reason for each file that could not be fetched, by path.
    """

    fetched: int
    present: int
    bytes: int
    failed: Mapping[str, str]


def fetch_data_set(
    source: Download,
    card: DataCard,
    folder: Path,
    *,
    only: Sequence[str] = (),
    part: str | None = None,
    everything: bool = False,
    base: str | None = None,
    policy: RetryPolicy | None = None,
    on_event: EventListener = lambda event: None,
) -> FetchResult:
    """Fetch a data set into a folder.

    Args:
        source: the published data set.
        card: its data card, quoted in the folder's SOURCE.md.
        folder: created if it does not exist.
        only: patterns of paths; see `select_paths`.
        part: one of `source.parts`; see `select_paths`.
        everything: fetch all files; see `select_paths`.
        base: fetch from this URL, which may be http, and not from where the data set is published.
        policy: connections, timeouts and repeats.
        on_event: called from several threads, one at a time, with events `plan`, `bytes`, `file`, `retry`, `failed`.

    Raises:
        FetchError: the server cannot be reached, or its list of files cannot be read.
        ConfigError: `only` or `part` matches nothing.
        DataError: the disk is full or cannot be written, or another process fetches into the folder.
    """
    lock = threading.Lock()

    def report(event: str, **values: Any) -> None:
        with lock:
            on_event({"event": event, **values})

    client = HttpClient(
        base or source.files,
        policy or RetryPolicy(),
        insecure=base is not None,
        on_retry=lambda path, reason, wait: report("retry", path=path, why=reason, wait=wait),
    )
    with lock_folder(folder):
        sums = source.sums or _fetch_sums(client, folder)
        wanted = select_paths(source, sums, only, part, everything)
        targets = {path: resolve_inside(folder, path) for path in wanted}
        complete = _complete_files(client, targets, sums)
        todo = [path for path in wanted if path not in complete]
        total, exact = _total_size(client, todo)
        already = sum(file_size(partial_paths(targets[path])[0]) for path in todo)
        if total is not None:
            total = max(total, already)
            require_space(folder, total - already)
        replaced = sum(targets[path].exists() for path in todo)
        report(
            "plan", files=len(todo), present=len(complete), replaced=replaced, bytes=total, already=already, exact=exact
        )
        _write_notes(folder, source, card, client.base, _patterns(source, only, part, everything))
        client.on_bytes = lambda count: report("bytes", count=count)
        return _fetch_files(client, targets, todo, sums, len(complete), report)


def select_paths(
    source: Download, paths: Sequence[str] | Mapping[str, str], only: Sequence[str], part: str | None, everything: bool
) -> list[str]:
    """Return the paths to fetch: those that match `only`, or all, or else those that the data set's reader needs.

    `part` selects one of `source.parts`, such as one of PTB-XL's two sampling rates.

    Raises:
        ConfigError: no such part, or nothing matches.
    """
    patterns = _patterns(source, only, part, everything)
    for pattern in only:
        if not any(fnmatchcase(path, pattern) for path in paths):
            some = ", ".join(sorted(paths)[:3])
            raise ConfigError(
                f"--only {pattern}: none of the {len(paths)} files of {source.slug} is so named ({some}, ...)"
            )
    selected = sorted(path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns))
    if not selected:
        raise FetchError(f"the list of {source.slug} names none of the files that its reader needs: has it changed?")
    return selected


def parse_sums(text: str) -> dict[str, str]:
    """Return the SHA-256 of each path of a `sha256sum` list.

    Raises:
        FetchError: a line is not of that form, or names a path outside of the folder, or one path twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(\S.*)", line)
        if match is None:
            raise FetchError(f"line {number} of {SUMS_FILE} is not a SHA-256 and a path")
        path = match[2]
        resolve_inside(Path(), path)
        if sums.setdefault(path, match[1].lower()) != match[1].lower():
            raise FetchError(f"{SUMS_FILE} names {path} twice, with two sums")
    if not sums or not text.endswith("\n"):
        raise FetchError(f"{SUMS_FILE} is {'cut off' if sums else 'empty'}")
    return sums


def fetched_patterns(folder: Path) -> list[str] | None:
    """Return the patterns that were fetched into a folder, None if this program did not fetch it."""
    try:
        raw = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return [str(item) for item in raw["patterns"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _patterns(source: Download, only: Sequence[str], part: str | None, everything: bool) -> list[str]:
    if part is not None and part not in source.parts:
        known = f"choose one of {', '.join(source.parts)}" if source.parts else f"{source.slug} has only one"
        raise ConfigError(f"--rate {part}: {known}")
    if only:
        return [*only, "LICENSE.txt"]
    if everything:
        return ["*"]
    chosen = source.parts if part is None else {part: source.parts[part]}
    return [*source.wanted, *(pattern for patterns in chosen.values() for pattern in patterns)]


def _fetch_sums(client: HttpClient, folder: Path) -> dict[str, str]:
    fresh = folder / f".{SUMS_FILE}"
    try:
        client.fetch(SUMS_FILE, fresh, None)
        sums = parse_sums(fresh.read_text(encoding="utf-8"))
        with report_disk_errors(folder / SUMS_FILE):
            fresh.replace(folder / SUMS_FILE)
        return sums
    except (FileUnavailable, UnicodeDecodeError) as error:
        reason = "it is no text" if isinstance(error, UnicodeDecodeError) else error
        raise FetchError(f"cannot get the list of files from {client.base}: {reason}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _complete_files(client: HttpClient, targets: Mapping[str, Path], sums: Mapping[str, str]) -> set[str]:
    """Return the paths whose files are there already, as published."""
    complete: set[str] = set()

    def check(path: str) -> None:
        if targets[path].is_file() and file_sha256(targets[path]) == sums[path]:
            complete.add(path)

    _run_in_threads(client, list(targets), check)
    return complete


def _total_size(client: HttpClient, paths: Sequence[str]) -> tuple[int | None, bool]:
    """Return the bytes of all files, None if the server reports no sizes, and whether the number is exact."""
    step = MAX_SIZE_REQUESTS // 2
    some = list(paths) if len(paths) <= MAX_SIZE_REQUESTS else [paths[i * len(paths) // step] for i in range(step)]
    sizes: list[int] = []

    def request_size(path: str) -> None:
        try:
            size = client.size(path)
        except FileUnavailable:
            return  # reported when it is fetched
        if size is not None:
            sizes.append(size)

    _run_in_threads(client, some, request_size)
    if paths and not sizes:
        return None, False
    exact = len(sizes) == len(paths)
    return (sum(sizes) if exact else round(sum(sizes) * len(paths) / len(sizes))), exact


def _fetch_files(
    client: HttpClient,
    targets: Mapping[str, Path],
    todo: Sequence[str],
    sums: Mapping[str, str],
    present: int,
    report: Callable[..., None],
) -> FetchResult:
    failed: dict[str, str] = {}
    sizes: list[int] = []

    def fetch_one(path: str) -> None:
        target = targets[path]
        with report_disk_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            client.fetch(path, target, sums[path])
        except FileUnavailable as error:
            failed[path] = str(error)
            report("failed", path=path, why=str(error))
            if len(failed) >= MAX_FAILED_FILES:
                raise FetchError(
                    f"{len(failed)} files could not be had; the first: {next(iter(failed.values()))}"
                ) from None
            return
        sizes.append(file_size(target))
        report("file", path=path, bytes=sizes[-1])

    _run_in_threads(client, todo, fetch_one)
    return FetchResult(len(sizes), present, sum(sizes), dict(sorted(failed.items())))


def _run_in_threads(client: HttpClient, items: Sequence[T], work: Callable[[T], None]) -> None:
    """Apply `work` to all items in a few threads; the first error, or Ctrl-C, stops them all.

    The threads are daemons: one that waits for a silent server does not delay the end of the program.
    """
    pending: Iterator[T] = iter(items)
    lock = threading.Lock()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            while True:
                with lock:
                    item = next(pending, None)
                if item is None:
                    ended.put(None)
                    return
                work(item)
        except BaseException as error:
            ended.put(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(client.policy.threads, len(items)))]
    first: BaseException | None = None
    patience: float | None = None
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            error = ended.get(timeout=patience)
            if error is not None and not isinstance(error, DownloadStopped) and first is None:
                first, patience = error, 3.0
                client.interrupt()
    except queue.Empty:
        pass  # one thread still waits for the server; it ends with the program
    except BaseException:
        client.interrupt()
        deadline = time.monotonic() + 3
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if first is not None:
        raise first


def _write_notes(folder: Path, source: Download, card: DataCard, base: str, patterns: Sequence[str]) -> None:
    """Write the fetched patterns, and SOURCE.md with the source, the licence and the citation."""
    every = list(dict.fromkeys([*(fetched_patterns(folder) or []), *patterns]))
    record = {"name": source.name, "version": source.version, "from": base, "patterns": every}
    sums = (
        "its publisher's SHA256SUMS.txt"
        if not source.sums
        else "the sums that wardround holds, its publisher gives none"
    )
    lines = [
        NOTE_MARK,
        f"# {card.title}",
        "",
        f"- Licence: {card.licence}",
        f"- Cite: {card.citation}",
        f"- Page: {source.page}",
        f"- Files: {base} (version {source.version}), fetched {time.strftime('%Y-%m-%d', time.gmtime())}",
        f"- Fetched: {' '.join(every)}",
        f"- Each file's SHA-256 was compared with {sums}; check again with `wardround data verify {source.name}`.",
    ]
    with report_disk_errors(folder):
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        note = folder / NOTE
        if not note.exists() or note.read_text(encoding="utf-8", errors="replace").startswith(NOTE_MARK):
            note.write_text("\n".join(lines) + "\n", encoding="utf-8")
