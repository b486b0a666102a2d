"""Generated people in PTB's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from sites.datasets.ptbdb import simulate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptbdb") / "made"
    simulate.generate(folder, patients=10, seconds=10, seed=3)
    return folder
