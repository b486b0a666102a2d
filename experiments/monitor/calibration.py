"""Whether probabilities are still right: outcomes that arrive later, compared with what was predicted.

An outcome says of an hour whether the event of the hourly model came, or of a beat whether it was ventricular. The
unit is the patient (a device's stream): the ratio of observed to expected events has an interval from resamples of
patients. Outcomes are kept with the probability that was given at the time, so that a new model changes none of them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from common.errors import DataError
from experiments.monitor.protocol import check_device

Kind = Literal["risk", "beat"]
TITLES: dict[Kind, str] = {"risk": "hourly risks", "beat": "ventricular beats"}
KEYS: dict[str, Kind] = {"hour": "risk", "seconds": "beat"}
MAX_OUTCOMES = 1000
"""Outcomes of one request."""
MIN_PATIENTS, MIN_EVENTS = 5, 5
"""Patients, and events (observed or expected), from which a ratio is given."""
RESAMPLES, SEED = 500, 20


@dataclass(frozen=True)
class Outcome:
    """What came of a prediction.

    Attributes:
        kind: of an hour, or of a beat.
        device: whose.
        at: hours in intensive care, or seconds since the start of the stream.
        event: whether it came.
    """

    kind: Kind
    device: str
    at: float
    event: bool


@dataclass(frozen=True)
class CalibrationSummary:
    """Observed and expected events.

    Attributes:
        kind: of what.
        patients: how many have outcomes.
        outcomes: how many there are.
        observed: events.
        expected: sum of the probabilities.
        low: of observed / expected, the lower end of the 95 % interval; NaN with too few patients or events.
        high: its upper end.
    """

    kind: Kind
    patients: int
    outcomes: int
    observed: float
    expected: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """Observed events for each expected one."""
        return self.observed / self.expected if self.expected > 0 else float("nan")

    @property
    def judged(self) -> bool:
        """Whether there are enough patients and events."""
        return bool(np.isfinite(self.low))

    @property
    def wrong(self) -> bool:
        """Whether the interval excludes that as many events came as were expected."""
        return self.judged and not self.low <= 1 <= self.high


class Calibration:
    """All outcomes so far, as sums by patient."""

    def __init__(self, known: Iterable[tuple[Outcome, float]] = ()) -> None:
        """Take outcomes with the probabilities that were given."""
        self._all: dict[tuple[Kind, str, float], tuple[float, bool]] = {}
        self._summaries: dict[Kind, CalibrationSummary | None] = {}
        self._lock = threading.Lock()  # outcomes come on another thread than summaries are asked for
        for outcome, probability in known:
            self.add(outcome, probability)

    def add(self, outcome: Outcome, probability: float) -> None:
        """Take an outcome; a later one of the same hour or beat replaces it."""
        with self._lock:
            self._all[outcome.kind, outcome.device, outcome.at] = (probability, outcome.event)
            self._summaries.pop(outcome.kind, None)

    def summarise(self, kind: Kind) -> CalibrationSummary | None:
        """Return what is known of one kind; None: nothing is."""
        with self._lock:
            if kind not in self._summaries:
                self._summaries[kind] = self._compute(kind)
            return self._summaries[kind]

    def _compute(self, kind: Kind) -> CalibrationSummary | None:
        sums: dict[str, list[float]] = {}
        for (own, device, _), (probability, event) in self._all.items():
            if own == kind:
                part = sums.setdefault(device, [0.0, 0.0, 0.0])
                part[0], part[1], part[2] = part[0] + 1, part[1] + event, part[2] + probability
        if not sums:
            return None
        table = np.asarray(list(sums.values()))
        count, observed, expected = table.sum(axis=0).tolist()
        low = high = float("nan")
        if len(table) >= MIN_PATIENTS and max(observed, expected) >= MIN_EVENTS:
            draw = np.random.default_rng(SEED)
            drawn = draw.multinomial(len(table), np.full(len(table), 1 / len(table)), RESAMPLES) @ table
            ratio = drawn[:, 1] / np.maximum(drawn[:, 2], 1e-12)
            low, high = np.quantile(ratio, [0.025, 0.975]).tolist()
        return CalibrationSummary(kind, len(table), int(count), observed, expected, low, high)


def describe_calibration(calibration: Calibration) -> str:
    """Return one line for the page."""
    parts = []
    for kind, title in TITLES.items():
        own = calibration.summarise(kind)
        if own is None:
            continue
        events = f"{own.observed:.0f} events observed, {own.expected:.1f} expected, {own.patients} patients"
        if not own.judged:
            parts.append(f"{title}: cannot be judged yet ({events})")
            continue
        interval = f"{events}; ratio {own.ratio:.2f}, 95 % {own.low:.2f} to {own.high:.2f}"
        if own.wrong:
            side = "low" if own.ratio > 1 else "high"
            parts.append(f"{title} are too {side}, the model may no longer fit ({interval})")
        else:
            parts.append(f"{title} agree with outcomes ({interval})")
    return "calibration: " + ("; ".join(parts) if parts else "no outcomes yet")


def read_outcomes(body: bytes) -> list[Outcome]:
    """Return the outcomes of a request: `{"device_id", "hour" or "seconds", "event"}`, or a list of them.

    Raises:
        DataError: one is malformed; the message quotes no value.
    """
    try:
        content = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise DataError("the body is no JSON: send an object with device_id, hour or seconds, and event") from None
    items = content if isinstance(content, list) else [content]
    if not 0 < len(items) <= MAX_OUTCOMES:
        raise DataError(f"a request holds 1 to {MAX_OUTCOMES} outcomes: send fewer at once")
    return [_read_outcome(item) for item in items]


def _read_outcome(item: Any) -> Outcome:
    given = [key for key in KEYS if isinstance(item, dict) and key in item]
    if len(given) != 1 or set(item) != {"device_id", given[0], "event"}:
        raise DataError("an outcome has device_id, either hour or seconds, and event")
    at, event = item[given[0]], item["event"]
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e9:
        raise DataError(f"{given[0]}: give a number, as in the risk or beat that is meant")
    if not isinstance(event, bool):
        raise DataError("event: give true or false")
    return Outcome(KEYS[given[0]], check_device(item["device_id"]), float(at), event)
