"""Writing a run's model of beats for a small machine: ONNX, with weights and activations of 8 bits by choice.

Static quantisation with ONNX Runtime, per channel, calibrated with beats of recordings that the hospital names: they
should be of people that the model was trained on (https://onnxruntime.ai/docs/performance/model-optimizations/).
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import load_config
from common.errors import ConfigError, DataError
from common.files import write_bytes, write_json
from common.run_folder import RunFolder
from common.trees import grows_trees
from experiments.monitor.beat_model import BeatModel, Floats
from experiments.monitor.edge import ABOUT, INPUTS, SCHEMA, WEIGHTS, describe_form, open_edge_model
from experiments.monitor.recorded_beats import read_recorded_beats
from experiments.monitor.scoring import describe_run, open_run_model
from experiments.onnx_file import export_onnx
from sites.ecg.recordings import Recording

CALIBRATION_BEATS, CALIBRATION_BATCH = 4096, 256
"""Beats that 8-bit ranges are chosen on, spread evenly over the recordings, and how many are computed together."""
MIN_BEATS = 200
QUANTISED = ("Conv", "Gemm", "MatMul")
"""What is computed with 8 bits. Chosen by the AUROC of training people on MIT-BIH, class by class: with all nodes it
fell by up to 0.002, with these by up to 0.0002."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        size: bytes of the model's file.
        difference: largest difference of a probability from the program's own; for 8 bits over the calibration beats.
    """

    folder: Path
    size: int
    difference: float


def export_edge_model(
    run: Path, folder: Path, name: str = "federated", site: str | None = None, calibration: Sequence[Recording] = ()
) -> Exported:
    """Write a run's model of beats for ONNX Runtime.

    Args:
        run: the run.
        folder: where to write.
        name: which of its models.
        site: the hospital whose layers complete it.
        calibration: recordings that 8-bit ranges are chosen on; none: weights stay float32.

    Raises:
        ConfigError: ONNX is not installed, or the model cannot be exported, or not with 8 bits.
        DataError: the folder holds no complete model, or there are too few beats to calibrate with.
        UsageError: its inputs are not windows of beats.
    """
    model = open_run_model(run, name, site)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / WEIGHTS
        difference = export_onnx(run, path, name, site)
        if calibration:
            if grows_trees(load_config(RunFolder(run).config).model.name):
                raise ConfigError(f"{run}: trees have no weights to quantise: leave --int8 out")
            inputs = sample_inputs(model, calibration)
            path = quantise_file(path, inputs, Path(scratch))
        content = path.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)
    write_bytes(folder / WEIGHTS, content)
    about = {
        "schema": SCHEMA, "run": model.run, "model": name, "task": model.task.to_dict(),
        "form": describe_form(model.form), "causal": model.causal, "threshold": model.threshold,
        "bits": 8 if calibration else 32, "notice": describe_run(run), "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    write_json(folder / ABOUT, about)
    if calibration:
        edge = open_edge_model(folder)
        logits = [np.asarray(each.compute_logits(*inputs), dtype=np.float64) for each in (model, edge)]
        shares = [np.exp(values - values.max(axis=1, keepdims=True)) for values in logits]
        one, other = (values / values.sum(axis=1, keepdims=True) for values in shares)
        difference = float(np.abs(one - other).max())
    return Exported(folder, len(content), difference)


def sample_inputs(model: BeatModel, recordings: Sequence[Recording]) -> tuple[Floats, Floats]:
    """Return inputs of beats that are spread evenly over recordings.

    Raises:
        DataError: there are too few beats.
    """
    signals: list[Floats] = []
    columns: list[Floats] = []
    for recording in recordings:
        beats = read_recorded_beats(model, recording, MIN_BEATS)
        if beats is not None:
            step = max(1, len(beats.x) * len(recordings) // CALIBRATION_BEATS)
            signals.append(beats.x[::step])
            columns.append(beats.columns[::step])
    if sum(len(part) for part in signals) < MIN_BEATS:
        raise DataError(f"--calibration: fewer than {MIN_BEATS} beats on leads of the model: name more recordings")
    return np.concatenate(signals).astype(np.float32), np.concatenate(columns).astype(np.float32)


def quantise_file(path: Path, inputs: tuple[Floats, Floats], scratch: Path) -> Path:
    """Return a file of the same network with weights and activations of 8 bits, whose ranges are those of inputs."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready, out = scratch / "prepared.onnx", scratch / "quantised.onnx"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(path, ready, skip_symbolic_shape=True)
            quantization.quantize_static(
                ready,
                out,
                _build_reader(quantization.CalibrationDataReader, ready, inputs),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(QUANTISED),
            )
    finally:
        logging.disable(logging.NOTSET)
    return out


def _build_reader(base: Any, path: Path, inputs: tuple[Floats, Floats]) -> Any:
    """Return what hands ONNX Runtime the calibration's inputs, batch by batch."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = {each.name for each in session.get_inputs()}
    parts = {name: part for name, part in zip(INPUTS, inputs, strict=True) if name in taken}

    def iterate_batches() -> Iterator[dict[str, Floats]]:
        for start in range(0, len(inputs[0]), CALIBRATION_BATCH):
            yield {name: part[start : start + CALIBRATION_BATCH] for name, part in parts.items()}

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iterate_batches()

        def get_next(self) -> dict[str, Floats] | None:
            return next(self._batches, None)

    return Reader()
