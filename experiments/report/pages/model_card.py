"""The model card (Mitchell et al. 2019, arXiv:1810.03993): use, performance and limits of a model, how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.report.document.report import Report
from experiments.report.pages.card_metadata import render_card_metadata
from experiments.report.pages.markdown import Verbatim, render_markdown
from experiments.report.text import method
from experiments.report.text.checklists import DECIDE_AI, TRIPOD_AI, fill_checklist

LOADING_PROGRAM = """\
from pathlib import Path

import numpy as np
import torch

{imports}from experiments import restore

folder = Path({folder!r})
model, task = restore.model(folder)  # {strategy}
scaling = restore.load_scaling(folder)  # None: the inputs are not scaled
x = np.zeros((1, task.channels, task.samples), np.float32)  # one example: {signal}
features = np.zeros((1, len(task.features)), np.float32)  # {features}
if scaling is not None:
    features = scaling.apply(features)
if scaling is not None and task.channels:
    steps = x.transpose(0, 2, 1)
    rows = scaling.apply(steps.reshape(len(x) * task.samples, task.channels), len(task.features))
    x = rows.reshape(steps.shape).transpose(0, 2, 1).copy()
with torch.no_grad():
    logits = model(torch.from_numpy(x), torch.from_numpy(features))
{output}
"""
OUTPUT_LINES = {
    "multiclass": "probabilities = torch.softmax(logits, dim=-1)  # of each of task.classes; they add up to 1",
    "multilabel": "probabilities = torch.sigmoid(logits)  # of each of task.classes, independent of each other",
    "anomaly": "errors = models.reconstruction_error_function(task)(logits)  # higher is less normal",
}
"""The last line of the program, by kind of task."""

NAN_NOTE = "; NaN where not measured"


def render_model_card(report: Report) -> str:
    """Return model_card.md."""
    return render_card_metadata(report) + render_markdown(
        "model_card.md.j2",
        report,
        loading_program=Verbatim(build_loading_program(report)),
        verbatim=Verbatim,
        checklists={
            name: [item for item in fill_checklist(report, items) if not item.known]
            for name, items in (("TRIPOD+AI", TRIPOD_AI), ("DECIDE-AI", DECIDE_AI))
        },
        method=method,
    )


def build_loading_program(report: Report, folder: str | None = None) -> str:
    """Return a Python program that loads the federated model of a run and applies it to one example.

    Args:
        report: the run's report.
        folder: the run's folder; None: runs/ID.
    """
    task: dict[str, Any] = report.task
    channels, samples, rate = task.get("channels", 0), task.get("samples", 0), task.get("rate_hz", 0)
    signal = "no signal"
    if channels:
        signal = f"{channels} x {samples} samples" + (f" at {rate:g} Hz" if rate else "")
        signal += f" ({_list_first(task.get('channel_names', ()))})"
    features = _list_first(task.get("features", ()))
    output = OUTPUT_LINES.get("anomaly" if report.detecting else str(task.get("kind")), "scores = logits")
    strategy = " ".join(str(report.run.config.get("federation", {}).get("strategy", {}).get("name", "fedavg")).split())
    return LOADING_PROGRAM.format(
        strategy=f"if {strategy} keeps layers at each {report.data.site_kind}: restore.model(folder, site=NAME)",
        folder=folder or f"runs/{report.run.id}",
        signal=signal,
        features=features + (NAN_NOTE if task.get("missing") else "") if features else "none",
        output=output,
        imports="from common import models\n" if report.detecting else "",
    ).rstrip()


def _list_first(names: Sequence[object]) -> str:
    """Return the first names on one line."""
    text = ", ".join(str(name) for name in names[:4]) + (" ..." if len(names) > 4 else "")
    return " ".join(text.split())
