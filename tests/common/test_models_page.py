"""The page of the models in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common import models
from tests.common.model_checks import NETWORKS, build, made

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_documentation_gives_the_sizes_of_models() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+|none) \| ([\d,]+|none) \|$", PAGE.read_text(), re.MULTILINE)
    printed = {name: (beats, hours) for name, beats, hours in rows}
    tasks = (made("multiclass", 4, 2, 96, 14), made("multiclass", 2, 40, 24, 6))
    wanted = {
        name: tuple(f"{sum(p.numel() for p in build(name, task).parameters()):,}" for task in tasks)
        for name in models.list_models()
    }
    assert printed == wanted
