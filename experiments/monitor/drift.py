"""Whether patients still look like those of training: histograms of inputs and scores, compared by PSI.

The unit is the patient: each patient's beats are a histogram of shares, and a group's histogram is the mean of its
patients', so that a long stay counts no more than a short one. The index and what it is by chance are those of the
report on domain shift (`common/distance.py`), with the number of patients as the number of independent rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.distance import HISTOGRAM_BINS, psi, psi_null_quantile
from common.errors import ConfigError
from common.files import write_json

FILE, SCHEMA = "reference.json", "wardround.monitor_reference/1"
MIN_BEATS, MIN_PATIENTS = 50, 5
"""Beats from which a patient counts, and patients from which groups are compared."""
MAX_BEATS = 20_000
"""Beats, about four hours, at which a patient's earlier ones lose half of their weight."""
LARGE = 0.25
"""PSI over which the report calls a column's shift large."""
OWN_COLUMNS = ("heart rate", "probability of an alarm")
MAX_RATE, MAX_FEATURE = 240.0, 10.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupShares:
    """Histograms of a group of patients.

    Attributes:
        shares: sum over patients of the shares of their beats in each bin, `(columns, HISTOGRAM_BINS + 1)`.
        patients: how many there are.
    """

    shares: Floats
    patients: int

    def __add__(self, other: GroupShares) -> GroupShares:
        """Return both groups together."""
        return GroupShares(self.shares + other.shares, self.patients + other.patients)


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        name: the column.
        psi: population stability index.
        null_limit: what it is at most, 95 times of 100, if nothing has changed.
    """

    name: str
    psi: float
    null_limit: float

    @property
    def large(self) -> bool:
        """Whether it is large, and larger than by chance."""
        return self.psi > LARGE and self.psi > self.null_limit


@dataclass
class BeatHistograms:
    """Histograms of the beats of each stream.

    Attributes:
        counts: beats in each bin by stream, `(columns, HISTOGRAM_BINS + 1)`.
    """

    counts: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def add(self, stream: int, rate: Floats, alarm: Floats, features: npt.NDArray[np.floating]) -> None:
        """Add beats of a stream: their heart rates, probabilities and the model's inputs `(beats, features)`."""
        scaled = np.column_stack([rate / MAX_RATE, alarm, features / (2 * MAX_FEATURE) + 0.5])
        known = np.isfinite(scaled)
        bins = np.clip(np.where(known, scaled, 0.0) * HISTOGRAM_BINS, 0, HISTOGRAM_BINS - 1).astype(np.int64)
        bins = np.where(known, bins, HISTOGRAM_BINS)
        width = scaled.shape[1]
        cells = bins + np.arange(width) * (HISTOGRAM_BINS + 1)
        added = np.bincount(cells.ravel(), minlength=width * (HISTOGRAM_BINS + 1)).reshape(width, -1)
        before = self.counts.get(stream)
        if before is None or before.shape != added.shape:
            before = np.zeros(added.shape, np.float32)
        weight = np.float32(0.5 if before[0].sum() > MAX_BEATS else 1.0)
        self.counts[stream] = (weight * before + added).astype(np.float32)

    def summarise(self) -> GroupShares | None:
        """Return the shares of the patients with enough beats; None: there is none."""
        enough = [counts for counts in self.counts.values() if counts[0].sum() >= MIN_BEATS]
        if not enough:
            return None
        return GroupShares(np.sum([item / item[0].sum() for item in enough], axis=0, dtype=np.float64), len(enough))


@dataclass(frozen=True)
class Reference:
    """The patients that a model was trained on.

    Attributes:
        run: the run.
        columns: names of the columns.
        group: their histograms.
    """

    run: str
    columns: tuple[str, ...]
    group: GroupShares


def compare_groups(reference: Reference, now: GroupShares | None) -> list[ColumnDrift]:
    """Return how far each column has moved, the farthest first; nothing with too few patients."""
    if now is None or min(now.patients, reference.group.patients) < MIN_PATIENTS:
        return []
    before, after = reference.group, now
    values = psi(before.shares / before.patients, after.shares / after.patients)
    limit = psi_null_quantile(before.patients, after.patients)
    rows = [ColumnDrift(name, float(value), limit) for name, value in zip(reference.columns, values, strict=True)]
    return sorted(rows, key=lambda row: -row.psi)


def describe_drift(reference: Reference | None, now: GroupShares | None, run: str) -> str:
    """Return one line for the page: whether the model of a run still fits, as far as its inputs can say."""
    if reference is None or reference.run != run:
        return "drift: no reference of the training patients (wardround monitor reference)"
    count = now.patients if now is not None else 0
    rows = compare_groups(reference, now)
    if not rows:
        return f"drift: cannot be judged yet: {count} of {MIN_PATIENTS} patients with {MIN_BEATS} beats"
    counts = f"{reference.group.patients} patients of training and {count} now"
    if large := [row for row in rows if row.large]:
        names = ", ".join(f"{row.name} (PSI {row.psi:.2f}; up to {row.null_limit:.2f} by chance)" for row in large[:3])
        return f"drift: patients differ from those of training, the model may no longer fit: {names}; {counts}"
    return f"drift: no column has a PSI over {LARGE} that is larger than by chance; {counts}"


def write_reference(state: Path, reference: Reference) -> Path:
    """Write a reference to a state folder; shares of fewer than MIN_PATIENTS patients are refused.

    Raises:
        ConfigError: there are too few patients.
    """
    group = reference.group
    if group.patients < MIN_PATIENTS:
        raise ConfigError(f"{group.patients} patients with {MIN_BEATS} beats: {MIN_PATIENTS} at least are needed")
    state.mkdir(parents=True, exist_ok=True)
    content = {"schema": SCHEMA, "run": reference.run, "columns": reference.columns, "patients": group.patients}
    path = write_json(state / FILE, content | {"shares": np.round(group.shares, 6).tolist()})
    path.chmod(0o600)
    return path


def load_reference(state: Path, run: str, features: Sequence[str]) -> Reference | None:
    """Return the reference in a state folder; None: there is none, or it is of another model.

    Raises:
        ConfigError: the file is malformed.
    """
    path = state / FILE
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        shares = np.asarray(content["shares"], dtype=np.float64)
        own = Reference(content["run"], tuple(content["columns"]), GroupShares(shares, int(content["patients"])))
        if content["schema"] != SCHEMA or shares.shape != (len(own.columns), HISTOGRAM_BINS + 1):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: it cannot be read; make it again with wardround monitor reference") from None
    return own if (own.run, own.columns) == (run, (*OWN_COLUMNS, *features)) else None
