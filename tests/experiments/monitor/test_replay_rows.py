"""Patients' hours streamed over HTTP get the risks of the batch path."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tornado")

from common.errors import EngineError
from experiments.monitor.replay_rows import read_stays, replay_stays
from experiments.scoring.score import open_model, score_rows
from sites import datasets
from sites.datasets.sepsis import simulate
from sites.datasets.sepsis.unlabelled import read_unlabelled
from tests.experiments.monitor.conftest import Client
from tests.experiments.scoring.scored_runs import make_run_folder


@pytest.mark.processes
def test_hours_over_http_have_the_risks_of_the_batch_path(monitor: Client, tmp_path: Path) -> None:
    raw = {"data": {"dataset": "sepsis", "scaling": "none"}, "model": {"name": "mlp"}}  # the model of the fixture
    scoring = open_model(make_run_folder(tmp_path / "run", raw))
    simulate.generate(tmp_path / "data", patients=6, seed=3)
    batch: dict[tuple[str, int], float] = {}
    for part in read_unlabelled(datasets.open_source(scoring.config, tmp_path / "data")):
        scored = score_rows(scoring, part)
        rows = scored.rows.columns
        names = [f"bed-{record}" for record in rows["record"]]
        batch |= dict(zip(zip(names, rows["hour"].tolist(), strict=True), scored.probability[:, 1], strict=True))
    stays = read_stays(tmp_path / "data", tmp_path / "cache", 6)
    assert len(stays) == 6
    assert len({name for name, _ in stays}) == 6
    counts = asyncio.run(replay_stays(monitor.running.url, monitor.token("device"), stays, 1e6))
    assert counts.rows + counts.empty == sum(len(rows) for _, rows in stays)
    given = {(device, hour): risk for device, hours in counts.risks.items() for hour, risk in hours.items()}
    both = sorted(set(given) & set(batch))
    assert len(both) == len(given) > 100
    np.testing.assert_allclose([given[key] for key in both], [batch[key] for key in both], atol=2e-6)
    assert np.ptp([given[key] for key in both]) > 1e-3
    with pytest.raises(EngineError, match="refuses rows"):
        asyncio.run(replay_stays(monitor.running.url, "wrong", stays[:1], 1e6))
