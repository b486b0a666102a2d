"""Generated people in PTB-XL's layout, and the published recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sites.datasets.ptbxl import simulate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptbxl") / "made"
    simulate.generate(folder, patients=60, rate=100, seed=5)
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "made"
    simulate.generate(folder, patients=14, rate=100, seed=5)
    return folder


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(small, tmp_path / "copy")
    return tmp_path / "copy"
