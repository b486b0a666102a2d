"""A server from which the commands of these tests download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webserver import Server, sha


@pytest.fixture
def server(hospitals: Path) -> Iterator[Server]:
    """A server that publishes a generated hospital as PhysioNet would publish mitdb."""
    made = Server()
    numbers = {f"north-{i:03}": f"{99 + i}" for i in (1, 2, 3)}
    made.files = {
        "LICENSE.txt": b"ODC-By\n",
        "RECORDS": "\n".join(numbers.values()).encode(),
        "x_mitdb/more.dat": b"x" * 99,
    }
    for path in (hospitals / "north").glob("north-*"):
        text = path.read_bytes()
        if path.suffix == ".hea":
            text = path.read_text().replace(path.stem, numbers[path.stem]).encode()
        made.files[f"{numbers[path.stem]}{path.suffix}"] = text
    made.etags = {path: f'"{sha(content)[:8]}"' for path, content in made.files.items()}
    made.sums()
    yield made
    made.close()
