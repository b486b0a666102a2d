"""A digest of the data that a ledger is bound to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from common.files import write_text


def digest_folder(folder: Path, known: Path | None = None) -> str:
    """Return a digest of the content of all files in a folder; dates and the run's settings do not change it.

    Args:
        folder: files whose name starts with a dot are ignored.
        known: a cache file of digests by size and modification time, so that only changed files are read again.
    """
    try:
        remembered = json.loads(known.read_text(encoding="utf-8")) if known else {}
    except (OSError, ValueError):
        remembered = {}
    digests: dict[str, list[object]] = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file() and not item.name.startswith(".")):
        name, about = path.relative_to(folder).as_posix(), path.stat()
        stamp: list[object] = [about.st_size, about.st_mtime_ns]
        old = remembered.get(name)
        if isinstance(old, list) and old[:2] == stamp and len(old) == 3:
            digests[name] = old
            continue
        with path.open("rb") as file:
            digests[name] = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
    if known and digests != remembered:
        known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_text(known, json.dumps(digests))
    text = json.dumps([(name, item[2]) for name, item in digests.items()])
    return hashlib.sha256(text.encode()).hexdigest()
