"""A run whose model scores beats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.scoring.scored_runs import make_run_folder


@pytest.fixture
def beats_run(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path / "run", {"data": {"dataset": "mitdb", "options": {"leads": 1}}})
