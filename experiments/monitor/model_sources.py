"""Where the monitor's model comes from: a run's folder, computed by torch, or an exported one, by ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import UsageError
from experiments.monitor.beat_model import BeatModel
from experiments.monitor.edge import is_edge_folder, open_edge_model, read_about


def open_beat_model(
    run: Path, name: str = "federated", site: str | None = None, anomaly: Path | None = None
) -> BeatModel:
    """Return the model of a run, or of a folder of `wardround monitor export`; torch is loaded only for a run.

    Args:
        run: the folder.
        name: which of a run's models.
        site: the hospital whose layers complete it.
        anomaly: a run of an autoencoder, or a file of an isolation forest, that finds beats unusual; None: none.

    Raises:
        DataError: the folder holds no complete model.
        ConfigError: ONNX Runtime is not installed.
        UsageError: its inputs are not windows of beats, an exported model cannot be another one of its run, or
            the detector takes other beats.
    """
    model = _open_classifier(run, name, site)
    if anomaly is None:
        return model
    from experiments.monitor.anomaly import open_detector

    detector = open_detector(anomaly)
    detector.check_form(model.form, model.run)
    return replace(model, detector=detector)


def _open_classifier(run: Path, name: str, site: str | None) -> BeatModel:
    if is_edge_folder(run):
        if name != "federated" or site is not None:
            raise UsageError(f"{run}: --model and --site were chosen when it was exported: leave them out")
        return open_edge_model(run)
    from experiments.monitor.scoring import open_run_model

    return open_run_model(run, name, site)


def uses_torch(run: Path, anomaly: Path | None = None) -> bool:
    """Return whether torch computes a model or the detector of unusual beats."""
    return not is_edge_folder(run) or (anomaly is not None and anomaly.is_dir())


def describe_model(run: Path) -> str:
    """Return what must be said of a model, or "".

    Raises:
        DataError: the folder is neither a run nor an exported model.
    """
    if is_edge_folder(run):
        return str(read_about(run).get("notice", ""))
    from experiments.monitor.scoring import describe_run

    return describe_run(run)
