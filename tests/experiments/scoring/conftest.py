"""A run whose model scores beats."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.scoring.scored_runs import run_of


@pytest.fixture
def beats_run(tmp_path: Path) -> Path:
    return run_of(tmp_path / "run", {"data": {"dataset": "mitdb", "options": {"leads": 1}}})
