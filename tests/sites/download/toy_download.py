"""A toy data set on a server of this machine, and short calls that fetch it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sites.cohort import DataCard
from sites.download import fetch
from sites.download.catalogue import Download
from sites.download.http import HttpClient
from sites.download.retry_policy import RetryPolicy
from tests.webserver import FILES, Server, sha

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
POLICY = RetryPolicy(connect=60, read=60, attempts=3, backoff=0.001, max_wait=5)


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
