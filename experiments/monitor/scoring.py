"""A run's model as the monitor uses it, computed by torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import load_config
from common.errors import UsageError
from common.run_folder import RunFolder, read_run
from experiments.monitor.beat_model import BeatModel, Floats
from experiments.scoring.score import open_model
from sites import datasets
from sites.unlabelled.recordings import input_form
from sites.unlabelled_rows import unlabelled_cohort


def open_run_model(run: Path, name: str = "federated", site: str | None = None) -> BeatModel:
    """Return the model of a run that classifies beats.

    Raises:
        DataError: the folder holds no complete model.
        UsageError: its inputs are not windows of beats.
    """
    scoring = open_model(run, name, site)
    source = datasets.open_source(scoring.config, Path())
    form = input_form(source)
    if form.kind != "window" or scoring.task.anomaly:
        raise UsageError(f"{run}: the monitor needs a classifier of beats (data.options.view=window)")

    def compute_logits(x: Floats, columns: Floats) -> npt.NDArray[np.floating]:
        scaled = scoring.scale(unlabelled_cohort(scoring.task, x, columns, ("stream",), False))
        return np.asarray(scoring.predict(scaled))

    options: Any = source.options
    causal = bool(getattr(options, "causal", False))
    return BeatModel(scoring.run, scoring.task, form, causal, compute_logits, scoring.threshold)


def describe_run(run: Path) -> str:
    """Return what must be said of a run's model, or "".

    Raises:
        DataError: the folder is no run.
    """
    if bool(read_run(run).get("data", {}).get("synthetic")):
        return "SYNTHETIC: the model was trained on generated data: no score says anything about a patient"
    config = load_config(RunFolder(run).config)
    if not config.data.options.get("causal"):
        return "the model was trained with data.options.causal=false: it knew later beats, and is less certain here"
    return ""
