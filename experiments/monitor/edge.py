"""A model of beats as a folder for a small machine: an ONNX file and what must be known of it; torch is not loaded.

`edge_export.py` writes such a folder. ONNX Runtime: https://onnxruntime.ai.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, DataError
from common.task import Task
from experiments.monitor.beat_model import BeatModel, Floats
from sites.unlabelled.recordings import InputForm

ABOUT, WEIGHTS, SCHEMA = "edge.json", "model.onnx", "wardround.edge/1"
INPUTS, OUTPUT = ("signal", "features"), "probabilities"
SMALLEST = 1e-30
"""Probability that a smaller one counts as, so that its logarithm is finite."""


def is_edge_folder(folder: Path) -> bool:
    """Return whether a folder holds an exported model."""
    return (folder / ABOUT).is_file()


def describe_form(form: InputForm) -> dict[str, Any]:
    """Return how beats become inputs, ready for JSON; the task is not in it."""
    leads = list(form.leads) if isinstance(form.leads, tuple) else form.leads
    return {"kind": form.kind, "leads": leads, "relative": form.relative, "shape": form.shape}


def read_about(folder: Path) -> dict[str, Any]:
    """Return what an exported model's folder says of it.

    Raises:
        DataError: it cannot be read, or the model's file is another one.
    """
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        if about["schema"] != SCHEMA:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder}: no exported model: make it again with wardround monitor export") from None
    if about.get("sha256") != digest:
        raise DataError(f"{folder / WEIGHTS}: not the file that was exported: copy the whole folder again")
    return about


def open_session(path: Path) -> Any:
    """Return an ONNX Runtime session on one thread: each worker has a core.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        DataError: it cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("ONNX Runtime is not installed: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime has no common class of its errors
        raise DataError(f"{path}: ONNX Runtime cannot load it: export it again") from None


def open_edge_model(folder: Path) -> BeatModel:
    """Return an exported model.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        DataError: the folder holds none.
    """
    about = read_about(folder)
    session = open_session(folder / WEIGHTS)
    try:
        task, made = Task.from_dict(about["task"]), about["form"]
        leads = tuple(made["leads"]) if isinstance(made["leads"], list) else int(made["leads"])
        form = InputForm(task, made["kind"], leads, bool(made["relative"]), shape=int(made["shape"]))
        run, causal, threshold = str(about["run"]), bool(about["causal"]), about["threshold"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / ABOUT}: malformed: make it again with wardround monitor export") from None
    taken = {each.name for each in session.get_inputs()}

    def compute_logits(x: Floats, columns: Floats) -> npt.NDArray[np.floating]:
        given = {name: np.ascontiguousarray(part) for name, part in zip(INPUTS, (x, columns), strict=True)}
        (output,) = session.run([OUTPUT], {name: part for name, part in given.items() if name in taken})
        return np.log(np.maximum(np.asarray(output, dtype=np.float64), SMALLEST))

    return BeatModel(run, task, form, causal, compute_logits, threshold)
