"""Generated hospitals in eICU's layout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sites.datasets.eicu import simulate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulated hospitals in five regions, the last one's unknown, of about 50 stays each."""
    folder = tmp_path_factory.mktemp("eicu") / "made"
    simulate.generate(folder, hospitals=5, stays=50, seed=3)
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")
