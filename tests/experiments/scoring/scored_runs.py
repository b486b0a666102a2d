"""Runs with a saved model, and the command that scores with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from typer.testing import CliRunner

from client import input_scaling
from common import detection, models
from common.config import RunConfig, config_to_json, parse_config
from common.scaling import Scaling
from common.task import Task
from experiments.cli import main
from experiments.scoring.score import ScoringModel
from sites import datasets

runner = CliRunner()


def make_run_folder(folder: Path, raw: dict[str, Any], *, synthetic: bool = False, **outcome: Any) -> Path:
    """Write a run's folder with an untrained model; where its inputs are scaled, by a mean of 0 and a spread of 1."""
    wanted: RunConfig = parse_config(raw)
    task = datasets.open_source(wanted, folder).task()
    if wanted.detecting:
        task = detection.to_detection_task(task, wanted.detection)
    folder.mkdir(parents=True, exist_ok=True)
    built = models.build_model(task, wanted.model, 1)
    (folder / "config.yaml").write_text(config_to_json(wanted))
    (folder / "run.json").write_text(json.dumps({"id": "trial-1", "status": "complete", "data": {}}))
    sites = {"north": {"synthetic": synthetic}}
    reported = {"task": task.to_dict(), "threshold": None, "chosen": 1, "sites": sites}
    (folder / "federated.json").write_text(json.dumps(reported | outcome))
    save_file({key: value.contiguous() for key, value in built.state_dict().items()}, folder / "model.safetensors")
    if input_scaling.resolve_scaling(wanted.data, task) not in ("none", "site"):
        width = len(task.features) + task.channels
        (folder / "scaling.safetensors").write_bytes(Scaling(np.zeros(width), np.ones(width)).to_bytes())
    return folder


def scored(*words: object) -> Any:
    return runner.invoke(main.app, ["score", *(str(word) for word in words)])


def make_model(task: Task, logits: np.ndarray, threshold: float | None = None, **more: Any) -> ScoringModel:
    return ScoringModel("r", "federated", parse_config({}), task, lambda given: logits, None, threshold, **more)
