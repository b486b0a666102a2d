"""An isolation forest of beats (Liu, Ting, Zhou 2008, ICDM 413-422) as arrays: scored by NumPy, read without pickle.

scikit-learn grows it on the normal beats of a hospital's own recordings, as many of each patient as of any other. Its
features are the model's, each standardised; a value that is missing counts as the median.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.arrays import unpack_arrays
from common.errors import DataError
from common.files import write_arrays
from common.sections.anomaly_baselines import AnomalyConfig
from common.task import Task
from experiments.monitor.beat_model import BeatModel
from experiments.monitor.recorded_beats import read_recorded_beats
from sites.ecg.recordings import Recording
from sites.unlabelled.recordings import InputForm

ARRAYS = ("median", "centre", "spread", "feature", "cut", "left", "right", "depth", "about")
NORMAL, NEAR_SECONDS = tuple("NLRej"), 0.15
"""Codes of normal beats (AAMI's N), and how near to one of them a detected beat is that beat."""
BEATS_OF_A_PATIENT, MIN_PATIENTS = 400, 5
STRETCH, LARGEST = 4.0, 15.9
"""As for the detectors of a run's report (experiments/baselines/anomaly_detectors.py)."""
MAX_STANDARDISED = 10.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """A grown forest.

    Attributes:
        form: how beats become its inputs.
        arrays: medians, means and deviations of the features; for every node of every tree `(trees, nodes)` its
            feature (-1: a leaf), where it cuts, its children, and the length of the path that ends there.
        start: score from which a beat is unusual, and `scale` the interquartile range of normal beats' scores.
        scale: see `start`.
        unit: expected length of a path among the rows of a tree.
    """

    form: InputForm
    arrays: dict[str, npt.NDArray[Any]]
    start: float
    scale: float
    unit: float

    def raw(self, columns: npt.NDArray[np.floating]) -> Floats:
        """Return scores `(rows,)` of features `(rows, features)`, from 0 to 1, higher for the more unusual."""
        own = self.arrays
        values = np.where(np.isfinite(columns), columns, own["median"])
        scaled = np.clip((values - own["centre"]) / own["spread"], -MAX_STANDARDISED, MAX_STANDARDISED)
        scaled = scaled.astype(np.float32)  # as scikit-learn's trees compare
        feature, cut, left, right = (own[name] for name in ("feature", "cut", "left", "right"))
        trees, rows = np.arange(len(feature))[None], np.arange(len(scaled))[:, None]
        node = np.zeros((len(scaled), len(feature)), dtype=np.int64)
        while True:
            chosen = feature[trees, node]
            inner = chosen >= 0
            if not inner.any():
                break
            lower = scaled[rows, np.where(inner, chosen, 0)] <= cut[trees, node]
            node = np.where(inner, np.where(lower, left[trees, node], right[trees, node]), node)
        return np.asarray(2.0 ** (-own["depth"][trees, node].mean(axis=1) / self.unit), dtype=np.float64)

    def score(self, columns: npt.NDArray[np.floating]) -> Floats:
        """Return log odds `(rows,)` of being unusual; 0 is the threshold."""
        values = STRETCH * np.arcsinh((self.raw(columns) - self.start) / self.scale)
        return np.asarray(np.clip(values, -LARGEST, LARGEST), dtype=np.float64)


def path_length(rows: float) -> float:
    """Return the expected length of a path among some rows (equation 1 of the paper, exact for 1 and 2).

    >>> round(path_length(256), 3)
    10.245
    """
    if rows <= 1:
        return 0.0
    return 1.0 if rows <= 2 else float(2 * (np.log(rows - 1) + np.euler_gamma) - 2 * (rows - 1) / rows)


def collect_normal_beats(model: BeatModel, recordings: Sequence[Recording]) -> list[Floats]:
    """Return features of each recording's normal beats as the monitor would detect them; of one without annotations
    all beats count as normal.
    """
    out = []
    for recording in recordings:
        beats = read_recorded_beats(model, recording, 3)
        if beats is None:
            continue
        columns = beats.columns
        normal = recording.sample[np.isin(recording.symbol, NORMAL)] / recording.rate
        if len(recording.sample):
            columns = columns[find_near(beats.seconds, normal)]
        step = max(1, len(columns) // BEATS_OF_A_PATIENT)
        if len(columns):
            out.append(np.asarray(columns[::step], dtype=np.float64))
    return out


def find_near(seconds: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Return which times have another one within NEAR_SECONDS; both are in order."""
    if not len(others):
        return np.zeros(len(seconds), dtype=np.bool_)
    after = np.searchsorted(others, seconds)
    nearest = np.minimum(
        np.abs(others[np.clip(after, 0, len(others) - 1)] - seconds), np.abs(others[np.maximum(after - 1, 0)] - seconds)
    )
    return np.asarray(nearest <= NEAR_SECONDS)


def grow_forest(model: BeatModel, recordings: Sequence[Recording], seed: int = 0) -> Forest:
    """Return a forest grown on the normal beats of recordings, each of one patient.

    Raises:
        DataError: there are too few patients.
    """
    from sklearn.ensemble import IsolationForest

    parts = collect_normal_beats(model, recordings)
    if len(parts) < MIN_PATIENTS:
        raise DataError(f"{len(parts)} recordings with normal beats: {MIN_PATIENTS} at least are needed")
    rows, config = np.concatenate(parts), AnomalyConfig()
    median = np.nan_to_num(np.nanmedian(np.where(np.isfinite(rows), rows, np.nan), axis=0))
    rows = np.where(np.isfinite(rows), rows, median)
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = np.clip((rows - centre) / spread, -MAX_STANDARDISED, MAX_STANDARDISED)
    most = min(config.rows, len(rows))
    grown = IsolationForest(n_estimators=config.trees, max_samples=most, random_state=seed).fit(scaled)
    trees = [tree.tree_ for tree in grown.estimators_]
    nodes = max(tree.node_count for tree in trees)
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.full((len(trees), nodes), fill, dtype=kind)
        for name, fill, kind in (
            ("feature", -1, np.int32), ("cut", 0, np.float64), ("left", 0, np.int32), ("right", 0, np.int32),
            ("depth", 0, np.float64),
        )
    }  # fmt: skip
    for i, tree in enumerate(trees):
        count = tree.node_count
        arrays["feature"][i, :count] = np.maximum(tree.feature, -1)
        arrays["cut"][i, :count] = tree.threshold
        arrays["left"][i, :count], arrays["right"][i, :count] = tree.children_left, tree.children_right
        arrays["depth"][i, :count] = _measure_paths(tree)
    arrays |= {"median": median, "centre": centre, "spread": spread}
    forest = Forest(model.form, arrays, 0.0, 1.0, path_length(most))
    usual = forest.raw(rows)
    low, high = np.quantile(usual, [0.25, 0.75])
    return Forest(
        model.form,
        arrays,
        float(np.quantile(usual, 1 - config.contamination)),
        float(high - low) or 1.0,
        forest.unit,
    )


def _measure_paths(tree: object) -> Floats:
    """Return the length of the path that ends at each node of a tree of scikit-learn."""
    left, right, rows = (getattr(tree, name) for name in ("children_left", "children_right", "n_node_samples"))
    depth = np.zeros(len(left))
    for node in range(len(left)):  # a parent stands before its children
        for child in (left[node], right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return np.asarray([depth[i] + path_length(float(rows[i])) for i in range(len(left))])


def write_forest(path: Path, forest: Forest) -> Path:
    """Write a forest to a file that only its owner can read."""
    form = forest.form
    about = {
        "task": form.task.to_dict(), "leads": form.leads, "relative": form.relative, "shape": form.shape,
        "start": forest.start, "scale": forest.scale, "unit": forest.unit,
    }  # fmt: skip
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, forest.arrays | {"about": text})
    path.chmod(0o600)
    return path


def read_forest(path: Path) -> Forest:
    """Return the forest of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        arrays = unpack_arrays(path.read_bytes(), ARRAYS, "forest")
        about = json.loads(arrays.pop("about").tobytes())
        leads = tuple(about["leads"]) if isinstance(about["leads"], list) else int(about["leads"])
        task = Task.from_dict(about["task"])
        form = InputForm(task, "window", leads, bool(about["relative"]), shape=int(about["shape"]))
        nodes = arrays["feature"].shape
        same = all(arrays[name].shape == nodes for name in ("cut", "left", "right", "depth"))
        forward = (arrays["feature"] < 0) | (
            (np.minimum(arrays["left"], arrays["right"]) > np.arange(nodes[1])[None])
            & (np.maximum(arrays["left"], arrays["right"]) < nodes[1])
        )
        wide = len(task.features)
        if not (same and forward.all() and arrays["feature"].max() < wide and len(arrays["median"]) == wide):
            raise ValueError
        return Forest(form, dict(arrays), float(about["start"]), float(about["scale"]), float(about["unit"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise DataError(f"{path}: no isolation forest: grow it again with wardround monitor forest") from None
