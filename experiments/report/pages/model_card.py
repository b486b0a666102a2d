"""The model card (Mitchell et al. 2019, arXiv:1810.03993): what a model is for, how good, how it fails and loads."""

from __future__ import annotations

from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.markdown import Verbatim, render_markdown

LOADING_PROGRAM = """\
from pathlib import Path

import numpy as np
import torch

{imports}from experiments import restore

folder = Path({folder!r})
model, task = restore.model(folder)  # {strategy}
scaling = restore.load_scaling(folder)  # None: the inputs are taken as they are
x = np.zeros((1, task.channels, task.samples), np.float32)  # an example: {signal}
features = np.zeros((1, len(task.features)), np.float32)  # {features}
if scaling is not None:
    wide = len(task.features)
    features = scaling.apply(features)
    steps = x.transpose(0, 2, 1)
    x = scaling.apply(steps.reshape(-1, task.channels), wide).reshape(steps.shape).transpose(0, 2, 1).copy()
with torch.no_grad():
    logits = model(torch.from_numpy(x), torch.from_numpy(features))
{read}
"""
OUTPUT_LINES = {
    "multiclass": "chances = torch.softmax(logits, dim=-1)  # of each of task.classes, which add up to 1",
    "multilabel": "chances = torch.sigmoid(logits)  # of each of task.classes, on its own",
    "anomaly": "errors = models.reconstruction_error_function(task)(logits)  # "
    "of what the model made of the inputs: higher is less normal",
}


def render_model_card(report: Report) -> str:
    """Return model_card.md."""
    return render_markdown(
        "model_card.md.j2",
        report,
        load=Verbatim(build_loading_program(report)),
        code=Verbatim,
        model=report.run.config.get("model", {}),
    )


def build_loading_program(report: Report, folder: str | None = None) -> str:
    """Return the program that loads the federated model of a run and asks it; `folder`: where the run lies."""
    task: dict[str, Any] = report.task
    names = [str(name) for name in task.get("channel_names", ())]
    channels, samples, rate = task.get("channels", 0), task.get("samples", 0), task.get("rate_hz", 0)
    signal = "no signal"
    if channels:
        listed = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
        signal = f"{channels} x {samples} samples" + (f" at {rate:g} Hz" if rate else "") + f" ({listed})"
    found = [str(name) for name in task.get("features", ())]
    features = ", ".join(found[:4]) + (" ..." if len(found) > 4 else "") if found else "none"
    read = OUTPUT_LINES.get("anomaly" if report.detecting else str(task.get("kind")), "scores = logits")
    imports = "from common import models\n" if report.detecting else ""
    strategy = report.run.config.get("federation", {}).get("strategy", {}).get("name", "fedavg")
    return LOADING_PROGRAM.format(
        strategy=f"if {_line(strategy)} keeps layers at each hospital: restore.model(folder, site=NAME)",
        folder=folder or f"runs/{report.run.id}",
        signal=_line(signal),
        features=_line(features),
        read=read,
        imports=imports,
    ).rstrip()


def _line(text: str) -> str:
    return " ".join(text.split())
