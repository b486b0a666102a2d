"""The server from which the tests of downloads fetch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.webserver import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Server()
    yield made
    made.close()
