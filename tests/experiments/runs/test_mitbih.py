"""The main job on the published recordings, shortened: the whole path from WFDB files to the run's folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import wfdb

from common import config
from experiments.cli import run_progress
from experiments.runs import run
from sites.datasets import mitdb
from sites.ecg import beats

ROOT = Path(__file__).parents[3]


@pytest.mark.realdata
@pytest.mark.slow
def test_the_main_job_on_real_recordings(mitdb_folder: Path, tmp_path: Path) -> None:
    settings = [
        f"data.path={mitdb_folder}",
        "sites.limit=400",
        "federation.rounds=2",
        "evaluation.bootstrap=100",
        "training.augment=0",
    ]
    wanted = config.load_config(ROOT / "experiments" / "mitbih.yaml", settings)
    folder = run.run_experiment(wanted, tmp_path, run_progress.QuietPrinter())

    names = {"config.yaml", "run.json", "rounds.jsonl", "report.json", "report.html", "sites.csv", "model.safetensors"}
    assert names <= {path.name for path in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    assert report["run"]["status"] == "complete"
    assert not any(notice["level"] == "synthetic" for notice in report["notices"])
    kinds = Counter(model["kind"] for model in report["models"])
    assert kinds == {"federated": 1, "pooled": 1, "local": 5}

    truth: Counter[str] = Counter()
    for name in mitdb.DS2:
        symbols = wfdb.rdann(str(mitdb_folder / name), "atr").symbol
        truth.update(beats.AAMI_CLASSES[symbol] for symbol in symbols if symbol in beats.AAMI_CLASSES)
    for model in report["models"]:
        pooled = model["pooled"]
        assert pooled["patients"] == 22
        assert {c: pooled["classes"][c]["examples"] for c in "NSVF"} == {c: truth[c] for c in "NSVF"}
        assert pooled["resamples"] == 100
        sums = [sum(item["examples"] for item in model["sites"].values()), pooled["examples"]]
        assert sums[0] == sums[1]
