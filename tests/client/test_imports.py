"""Directions of imports inside the client: privacy uses training; neither training nor evaluation uses privacy."""

from __future__ import annotations

from pathlib import Path

import pytest

import client
from tests.test_architecture import imported

ROOT = Path(client.__file__).parent
FORBIDDEN = {
    "training": ("client.privacy", "client.evaluation", "client.requests", "client.app"),
    "privacy": ("client.evaluation", "client.requests", "client.app"),
    "evaluation": ("client.privacy", "client.requests", "client.app"),
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_inside_the_client_point_one_way(folder: str) -> None:
    modules = sorted((ROOT / folder).glob("*.py"))
    assert len(modules) > 1
    wrong = {
        (path.name, name)
        for path in modules
        for name in imported(path.read_text(encoding="utf-8"), f"client.{folder}")
        if name.startswith(FORBIDDEN[folder])
    }
    assert wrong == set()
