"""Generated hospitals of the sepsis challenge."""

from __future__ import annotations

from pathlib import Path

import pytest

from sites.datasets.sepsis import simulate


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated hospitals of 14 patients."""
    folder = tmp_path_factory.mktemp("sepsis") / "generated"
    simulate.generate(folder, patients=14, seed=3)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")
