"""The state folder of a hospital's client: for one site and one process, readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import files
from common.errors import ConfigError


def get_site_folder(runs: Path, site: str) -> Path:
    """Return the folder of a site's own files: ledger, register, audit log, approvals.

    Args:
        runs: the folder `runs` in the client's state folder.
        site: the site's name.
    """
    return runs / files.escape_file_name(site)


@contextmanager
def claim_state_folder(folder: Path, site: str) -> Iterator[None]:
    """Hold a state folder for a site while a client runs.

    The folder holds the privacy charges for the site's patients and what was answered about them. A site under another
    name, or a second client, would start with neither.

    Raises:
        ConfigError: the folder is another site's, or another client uses it now.
    """
    files.make_private_folder(folder)
    owner = folder / "site"
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        os.chmod(lock.fileno(), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            who = f" (process {number})" if (number := lock.read(20).strip()) else ""
            raise ConfigError(f"{folder} is in use by another client{who}: give each client its own --state") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        known = owner.read_text(encoding="utf-8").strip() if owner.is_file() else ""
        if known and known != site:
            raise ConfigError(f"{folder} belongs to the site {known}, not to {site}: give another --state")
        if not known:
            files.write_bytes(owner, f"{site}\n".encode())
        files.remove_leftovers(folder)
        yield
