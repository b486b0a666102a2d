"""A run's network or trees as an ONNX file that takes inputs in their own units and gives probabilities.

Scaling is part of the file. After it is written, ONNX Runtime computes inputs that it was not made from, and the
outputs are compared with the program's own; a file that does not agree is not kept. ONNX: https://onnx.ai.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client.input_scaling import resolve_scaling
from common.config import load_config
from common.errors import ConfigError, DataError
from common.files import write_atomically
from common.run_folder import RunFolder
from common.scaling import ASINH_SCALE, MAX_DEVIATIONS, RANK_BINS, Scaling
from common.task import Task
from common.trees import grows_trees
from experiments import restore
from experiments.tree_files import flatten_in_units
from experiments.tree_onnx import build_tree_graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-5
"""Largest difference of a probability between the file and the program."""
CHECKED_ROWS = 257
"""Examples that are compared; the file is made from two."""
INPUTS, OUTPUT = ("signal", "features"), "probabilities"
Floats = npt.NDArray[np.float32]


class ScaledModel(nn.Module):
    """A model with its input scaling before it (common/scaling.py), and probabilities behind it."""

    def __init__(self, model: nn.Module, task: Task, scaling: Scaling | None) -> None:
        super().__init__()
        self.model, self.task, self.scaled = model, task, scaling is not None
        if scaling is not None:
            self.register_buffer("centre", torch.from_numpy(scaling.centre.astype(np.float64)))
            self.register_buffer("spread", torch.from_numpy(scaling.spread.astype(np.float64)))
            self.register_buffer("ranks", torch.from_numpy(np.ascontiguousarray(scaling.ranks)))

    def forward(self, signal: Tensor, features: Tensor) -> Tensor:
        """Return probabilities `(n, classes)` from inputs in their own units; NaN: not measured."""
        if self.scaled:
            width = len(self.task.features)
            features = self._scale(features, 0, width)
            if self.task.channels:
                signal = self._scale(signal.transpose(1, 2), width, self.task.channels).transpose(1, 2)
        logits = self.model(signal, features)
        return torch.sigmoid(logits) if self.task.kind == "multilabel" else torch.softmax(logits, -1)

    def _scale(self, values: Tensor, first: int, count: int) -> Tensor:
        """Return values whose last axis is `count` columns, of which the scaling's first is `first`."""
        centre = self.get_buffer("centre")[first : first + count]
        spread = self.get_buffer("spread")[first : first + count]
        ranks = self.get_buffer("ranks")
        measured = ~torch.isnan(values)
        z = (torch.where(measured, values, torch.zeros_like(values)).double() - centre) / spread
        scaled = z.float()
        if len(ranks):
            size = ASINH_SCALE * z.abs()
            asinh = torch.sign(z) * torch.log(size + torch.sqrt(size * size + 1))
            position = (asinh / float(np.arcsinh(ASINH_SCALE * MAX_DEVIATIONS)) + 1) * (RANK_BINS / 2)
            bins = position.clamp(0, RANK_BINS - 1).long()
            scaled = ranks[torch.arange(first, first + count), bins]
        return torch.where(measured, scaled, torch.zeros_like(scaled))


def export_onnx(run: Path, target: Path, name: str = "federated", site: str | None = None) -> float:
    """Write a run's model as an ONNX file; return the largest difference of a probability from the program's own.

    Args:
        run: the run folder.
        target: the file to write.
        name: the model, as `experiments.restore.model` takes it.
        site: the hospital whose own layers complete the model.

    Raises:
        ConfigError: the model reconstructs its inputs, or takes inputs scaled by each hospital; or ONNX is not
            installed.
        DataError: the folder holds no such model, or the file's outputs differ from the program's.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError:
        raise ConfigError("ONNX is not installed: pip install 'wardround[onnx]'") from None
    model, task = restore.model(run, name, site)
    config, scaling = load_config(RunFolder(run).config), restore.load_scaling(run, name)
    if task.anomaly or config.detecting:
        raise ConfigError(f"{run}: {config.model.name} reconstructs its inputs; only classifiers can be exported")
    if scaling is None and resolve_scaling(config.data, task) == "site":
        raise ConfigError(f"{run}: each hospital scales its own inputs (data.scaling=site), so one file cannot")
    if grows_trees(config.model.name):
        graph = _build_graph_of_trees(model, task, scaling)
    else:
        whole = ScaledModel(model, task, scaling).eval()
        graph = _build_graph(whole, draw_inputs(task, scaling, 2, seed=0))
    about = {
        "run": run.resolve().name, "model": name, "task": task.name, "classes": json.dumps(task.classes),
        "features": json.dumps(task.features), "channels": json.dumps(task.channel_names),
        "rate_hz": f"{task.rate_hz:g}", "synthetic": str(restore.has_synthetic_data(run)).lower(),
        "use": "research only, not for clinical use",
    }  # fmt: skip
    onnx.helper.set_model_props(graph, about)
    with write_atomically(target) as part:
        part.write_bytes(graph.SerializeToString())
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        difference = compare_outputs(session, model, task, scaling)
        if not difference <= TOLERANCE:
            raise DataError(
                f"{run}: the outputs of the ONNX file differ by {difference:.2g} (at most {TOLERANCE:g}): not written"
            )
    return difference


def _build_graph(whole: ScaledModel, example: tuple[Floats, Floats]) -> Any:
    """Return the ONNX graph of a model, for any number of examples."""
    rows = torch.export.Dim("examples", min=1)
    used = [index for index, value in enumerate(example) if value.shape[1]]
    own = whole if len(used) == len(INPUTS) else OneInput(whole, [value.shape[1:] for value in example], used[0])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            own,
            tuple(torch.from_numpy(example[index]) for index in used),
            dynamo=True,
            dynamic_shapes=tuple({0: rows} for _ in used),
            input_names=[INPUTS[index] for index in used],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _build_graph_of_trees(model: nn.Module, task: Task, scaling: Scaling | None) -> Any:
    """Return the ONNX graph of a model of trees, whose splits are in the inputs' own units."""
    assert scaling is not None  # trees have data.scaling=bins, or standard with privacy
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    return build_tree_graph(flatten_in_units(weights, scaling), task, INPUTS[1], OUTPUT)


class OneInput(nn.Module):
    """A model that is given its only input; the other one has no values."""

    def __init__(self, whole: nn.Module, shapes: Sequence[Sequence[int]], given: int) -> None:
        super().__init__()
        self.whole, self.shapes, self.given = whole, shapes, given

    def forward(self, values: Tensor) -> Tensor:
        """Return probabilities `(n, classes)`."""
        other = values.new_zeros((values.shape[0], *self.shapes[1 - self.given]))
        result: Tensor = self.whole(*((values, other) if self.given == 0 else (other, values)))
        return result


def draw_inputs(task: Task, scaling: Scaling | None, rows: int, seed: int) -> tuple[Floats, Floats]:
    """Return generated signals and features in the range of the training data; some missing where they may be."""
    rng = np.random.default_rng(seed)
    width, channels = len(task.features), task.channels
    centre = np.zeros(width + channels) if scaling is None else scaling.centre
    spread = np.ones(width + channels) if scaling is None else scaling.spread
    features = centre[:width] + spread[:width] * rng.standard_t(4, (rows, width))
    signal = rng.standard_t(4, (rows, task.samples, channels)) * spread[width:] + centre[width:]
    if task.missing:
        features[rng.random(features.shape) < 0.2] = np.nan
        signal[rng.random(signal.shape) < 0.2] = np.nan
    return signal.transpose(0, 2, 1).astype(np.float32), features.astype(np.float32)


def compare_outputs(session: InferenceSession, model: nn.Module, task: Task, scaling: Scaling | None) -> float:
    """Return the largest difference of a probability between a file and the program's own scaling and network."""
    signal, features = draw_inputs(task, scaling, CHECKED_ROWS, seed=1)
    taken = {each.name for each in session.get_inputs()}
    inputs = {key: value for key, value in zip(INPUTS, (signal, features), strict=True) if key in taken}
    (outputs,) = session.run([OUTPUT], inputs)
    if scaling is not None:
        features = scaling.apply(features)
    if scaling is not None and task.channels:
        steps = signal.transpose(0, 2, 1)
        rows = scaling.apply(steps.reshape(-1, task.channels), len(task.features))
        signal = rows.reshape(steps.shape).transpose(0, 2, 1).copy()
    with torch.no_grad():
        logits = model(torch.from_numpy(signal), torch.from_numpy(features))
    expected = torch.sigmoid(logits) if task.kind == "multilabel" else torch.softmax(logits, -1)
    return float(np.abs(np.asarray(outputs) - expected.numpy()).max())
