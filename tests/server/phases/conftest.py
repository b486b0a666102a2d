"""Two small sites of different sizes, in memory."""

from __future__ import annotations

import pytest

from client.site import Site
from tests import tiny


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    """Two sites of different sizes, opened by name."""
    north = tiny.site("north", 1)
    south = tiny.site("south", 2, parts=(0, 0, 0, 0, 0, 1, 2, 2))
    result = {"north": north, "south": south}
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[str(context.site)])
    return result
