"""Generated hospitals in UCI's layout, and the published files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sites.datasets.heart_disease import simulate


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heart") / "hospitals"
    simulate.generate(folder, hospitals=5, patients=300, seed=4)
    return folder
