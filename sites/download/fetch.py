"""Fetch a published data set: its list of SHA-256 sums first, then the files that a run needs, a few at a time.

What is there already and right is kept; what broke off is continued (sites/download/http.py). A fetch that was stopped,
or whose process was killed, goes on where it was when it is started again.
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
from sites.download.http import DownloadStopped, FileUnavailable, HttpClient, RetryPolicy

RECORD = ".wardround-fetch.json"
"""What was asked for, so that `verify` knows what should be there."""

NOTE = "SOURCE.md"
NOTE_MARK = "<!-- written by wardround data fetch -->"
MAX_SIZE_REQUESTS = 200
"""Sizes are asked of so many files at most; beyond, of half as many, and the sum is an estimate."""

MAX_FAILED_FILES = 20
T = TypeVar("T")
EventListener = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FetchResult:
    """What a fetch did: counts of files, bytes that came, and why each file that is not there is not."""

    fetched: int
    kept: int
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
    manners: RetryPolicy | None = None,
    tell: EventListener = lambda event: None,
) -> FetchResult:
    """Bring a data set into a folder; see `choose` for `only`, `part` and `everything`.

    `base`: fetch from there, http allowed, in place of where the data set is published. `tell` is called from
    several threads, one at a time, with events: `plan`, `bytes`, `file`, `retry`, `failed`.

    Raises:
        FetchError: the server cannot be reached, or its list of files is none.
        ConfigError: `only` or `part` names nothing.
        DataError: the disk is full or cannot be written, or another process fetches into the folder.
    """
    lock = threading.Lock()

    def say(event: str, **values: Any) -> None:
        with lock:
            tell({"event": event, **values})

    client = HttpClient(
        base or source.files,
        manners or RetryPolicy(),
        insecure=base is not None,
        retry=lambda path, why, wait: say("retry", path=path, why=why, wait=wait),
    )
    with lock_folder(folder):
        sums = source.sums or _listing(client, folder)
        wanted = select_paths(source, sums, only, part, everything)
        targets = {path: resolve_inside(folder, path) for path in wanted}
        right = _right(client, targets, sums)
        todo = [path for path in wanted if path not in right]
        total, exact = _size(client, todo)
        already = sum(file_size(partial_paths(targets[path])[0]) for path in todo)
        if total is not None:
            total = max(total, already)
            require_space(folder, total - already)
        replaced = sum(targets[path].exists() for path in todo)
        say("plan", files=len(todo), kept=len(right), replaced=replaced, bytes=total, already=already, exact=exact)
        _note(folder, source, card, client.base, _patterns(source, only, part, everything))
        client.came = lambda count: say("bytes", count=count)
        return _bring(client, targets, todo, sums, len(right), say)


def select_paths(
    source: Download, paths: Sequence[str] | Mapping[str, str], only: Sequence[str], part: str | None, everything: bool
) -> list[str]:
    """Return the paths to fetch: those that match `only`, or all, or else what the reader needs.

    `part` chooses among `source.parts`, such as one of PTB-XL's two sampling rates.

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
    found = sorted(path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns))
    if not found:
        raise FetchError(f"the list of {source.slug} names none of the files that its reader needs: has it changed?")
    return found


def parse_sums(text: str) -> dict[str, str]:
    """Return the SHA-256 of each path of a `sha256sum` list.

    Raises:
        FetchError: a line is none of such a list, or names a path outside of the folder, or twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64})[ \t]+\*?(?:\./)?(\S.*)", line)
        if match is None:
            raise FetchError(f"line {number} of {SUMS_FILE} is not a SHA-256 and a path")
        path = match[2]
        resolve_inside(Path(), path)
        if found.setdefault(path, match[1].lower()) != match[1].lower():
            raise FetchError(f"{SUMS_FILE} names {path} twice, with two sums")
    if not found or not text.endswith("\n"):
        raise FetchError(f"{SUMS_FILE} is {'cut off' if found else 'empty'}")
    return found


def fetched_patterns(folder: Path) -> list[str] | None:
    """Return the patterns of what was fetched into a folder, none where it was not fetched by this program."""
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


def _listing(client: HttpClient, folder: Path) -> dict[str, str]:
    fresh = folder / f".{SUMS_FILE}"
    try:
        client.fetch(SUMS_FILE, fresh, None)
        found = parse_sums(fresh.read_text(encoding="utf-8"))
        with report_disk_errors(folder / SUMS_FILE):
            fresh.replace(folder / SUMS_FILE)
        return found
    except (FileUnavailable, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, UnicodeDecodeError) else error
        raise FetchError(f"cannot get the list of files from {client.base}: {why}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _right(client: HttpClient, targets: Mapping[str, Path], sums: Mapping[str, str]) -> set[str]:
    """Return the paths whose files are there already, as published."""
    found: set[str] = set()

    def look(path: str) -> None:
        if targets[path].is_file() and file_sha256(targets[path]) == sums[path]:
            found.add(path)

    _spread(client, list(targets), look)
    return found


def _size(client: HttpClient, paths: Sequence[str]) -> tuple[int | None, bool]:
    """Return how many bytes the files have together, and whether all were asked; none where the server says nothing."""
    some = (
        list(paths)
        if len(paths) <= MAX_SIZE_REQUESTS
        else [paths[i * len(paths) // (MAX_SIZE_REQUESTS // 2)] for i in range(MAX_SIZE_REQUESTS // 2)]
    )
    sizes: list[int] = []

    def ask(path: str) -> None:
        try:
            size = client.size(path)
        except FileUnavailable:
            return  # told when it is fetched
        if size is not None:
            sizes.append(size)

    _spread(client, some, ask)
    if paths and not sizes:
        return None, False
    exact = len(sizes) == len(paths)
    return (sum(sizes) if exact else round(sum(sizes) * len(paths) / len(sizes))), exact


def _bring(
    client: HttpClient,
    targets: Mapping[str, Path],
    todo: Sequence[str],
    sums: Mapping[str, str],
    kept: int,
    say: Callable[..., None],
) -> FetchResult:
    failed: dict[str, str] = {}
    done: list[int] = []

    def one(path: str) -> None:
        target = targets[path]
        with report_disk_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            client.fetch(path, target, sums[path])
        except FileUnavailable as error:
            failed[path] = str(error)
            say("failed", path=path, why=str(error))
            if len(failed) >= MAX_FAILED_FILES:
                raise FetchError(
                    f"{len(failed)} files could not be had; the first: {next(iter(failed.values()))}"
                ) from None
            return
        done.append(file_size(target))
        say("file", path=path, bytes=done[-1])

    _spread(client, todo, one)
    return FetchResult(len(done), kept, sum(done), dict(sorted(failed.items())))


def _spread(client: HttpClient, items: Sequence[T], work: Callable[[T], None]) -> None:
    """Work through the items with a few threads; the first error, or Ctrl-C, ends them all.

    The threads are daemons: what waits for a server that says nothing does not hold up the end of the program.
    """
    taken: Iterator[T] = iter(items)
    lock = threading.Lock()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            while True:
                with lock:
                    item = next(taken, None)
                if item is None:
                    ended.put(None)
                    return
                work(item)
        except BaseException as error:
            ended.put(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(client.manners.threads, len(items)))]
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
        pass  # one still waits for the server; it dies with the program
    except BaseException:
        client.interrupt()
        deadline = time.monotonic() + 3
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if first is not None:
        raise first


def _note(folder: Path, source: Download, card: DataCard, base: str, patterns: Sequence[str]) -> None:
    """Write down what was asked for, and for people where it comes from and under which licence."""
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
