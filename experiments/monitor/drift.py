"""Whether patients still look like those of training: histograms of inputs and scores, compared by PSI.

The unit is the patient: each patient's beats are a histogram of shares, and a group's histogram is the mean of its
patients', so that a long stay counts no more than a short one. The index and what it is by chance are those of the
report on domain shift (`common/distance.py`), with the number of patients as the number of independent rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.distance import HISTOGRAM_BINS, psi, psi_null_quantile
from common.errors import ConfigError
from common.files import write_json

FILE, SCHEMA = "reference.json", "wardround.monitor_reference/1"
REPLICATES, SEED = 100, 19
"""Resamples of the patients, and the seed of all."""
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
        drawn: the same sums over REPLICATES resamples of the patients, `(replicates, columns, HISTOGRAM_BINS + 1)`;
            none where uncertainty is not known.
    """

    shares: Floats
    patients: int
    drawn: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def __add__(self, other: GroupShares) -> GroupShares:
        """Return both groups together."""
        both = self.drawn.shape == other.drawn.shape
        drawn = self.drawn + other.drawn if both else self.drawn[:0]
        return GroupShares(self.shares + other.shares, self.patients + other.patients, drawn)


def resample_sums(shares: Mapping[int, Floats]) -> npt.NDArray[np.float32]:
    """Return the sums of patients' shares over REPLICATES resamples, `(replicates, columns, bins)`.

    Each patient counts in each resample as often as a Poisson variable of mean 1 says, which its number alone
    determines: so sums of several workers add up to those of all their patients (Chamandy et al. 2012).

    Args:
        shares: shares `(columns, bins)` by the patient's number.
    """
    weights = np.stack([np.random.default_rng([SEED, number]).poisson(1, REPLICATES) for number in shares])
    stacked = np.stack(list(shares.values()))
    return np.tensordot(weights, stacked, axes=(0, 0)).astype(np.float32)


@dataclass(frozen=True)
class ColumnDrift:
    """How far one column has moved.

    Attributes:
        name: the column.
        psi: population stability index.
        null_limit: what it is at most, 95 times of 100, if nothing has changed.
        low: lower end of its 95 % interval over resamples of both groups' patients; NaN: not known.
        high: its upper end.
    """

    name: str
    psi: float
    null_limit: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def interval(self) -> str:
        """Its interval in words, "" if it is not known."""
        return f", 95 % {self.low:.2f} to {self.high:.2f}" if np.isfinite(self.low) else ""

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
        enough = {
            number: np.asarray(counts / counts[0].sum(), dtype=np.float64)
            for number, counts in self.counts.items()
            if counts[0].sum() >= MIN_BEATS
        }
        if not enough:
            return None
        return GroupShares(np.sum(list(enough.values()), axis=0), len(enough), resample_sums(enough))


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
    low, high = _interval(before, after)
    parts = (reference.columns, values.tolist(), low.tolist(), high.tolist())
    rows = [ColumnDrift(name, value, limit, one, other) for name, value, one, other in zip(*parts, strict=True)]
    return sorted(rows, key=lambda row: -row.psi)


def _interval(before: GroupShares, after: GroupShares) -> tuple[Floats, Floats]:
    """Return the ends of each column's 95 % interval, NaN where a group has no resamples."""
    if before.drawn.shape != after.drawn.shape or not len(before.drawn):
        return np.full(len(before.shares), np.nan), np.full(len(before.shares), np.nan)
    pairs = zip(before.drawn.astype(np.float64), after.drawn.astype(np.float64), strict=True)
    drawn = np.asarray([psi(*(part / max(part[0].sum(), 1e-12) for part in pair)) for pair in pairs])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return low, high


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
        names = ", ".join(
            f"{row.name} (PSI {row.psi:.2f}{row.interval}; up to {row.null_limit:.2f} by chance)" for row in large[:3]
        )
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
    arrays = {"shares": np.round(group.shares, 6).tolist(), "drawn": np.round(group.drawn, 3).tolist()}
    path = write_json(state / FILE, content | arrays)
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
        drawn = np.asarray(content.get("drawn", []), dtype=np.float32)
        group = GroupShares(shares, int(content["patients"]), drawn.reshape(-1, *shares.shape))
        own = Reference(content["run"], tuple(content["columns"]), group)
        if content["schema"] != SCHEMA or shares.shape != (len(own.columns), HISTOGRAM_BINS + 1):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: it cannot be read; make it again with wardround monitor reference") from None
    return own if (own.run, own.columns) == (run, (*OWN_COLUMNS, *features)) else None
