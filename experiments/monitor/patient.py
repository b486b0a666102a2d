"""One patient's stream in a worker: samples in; beats, the signal's quality and alerts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from experiments.monitor.beat_model import BeatModel, BeatScores
from experiments.monitor.decisions import Alert, DecisionEngine, Limits, ScoredBeat
from experiments.monitor.quality import QualityWatch
from sites.ecg.beats import BEFORE, RATE, SAMPLES
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.stream import BeatStream, StreamedBeat

BEFORE_SECONDS, AFTER_SECONDS = BEFORE / RATE, (SAMPLES - BEFORE) / RATE
QUALITY_SECONDS = 30
UNUSUAL = 0.5
"""Score over which a detector finds a beat unusual."""


@dataclass(frozen=True)
class Work:
    """Samples of one stream, in order.

    Attributes:
        stream: number of the stream.
        rate: sampling rate, Hz.
        leads: names of the leads.
        samples: float32 `(samples, leads)`, NaN where missing.
        position: samples of the stream before these.
        restart: whether the stream starts anew.
        arrived: when the samples arrived, on the machine's monotonic clock.
    """

    stream: int
    rate: float
    leads: tuple[str, ...]
    samples: npt.NDArray[np.float32]
    position: int
    restart: bool
    arrived: float


@dataclass(frozen=True)
class BeatResult:
    """A scored beat.

    Attributes:
        seconds: its R peak, since the start of the stream.
        name: the predicted class, "" if the signal could not be used.
        alarm: probability of a ventricular (or abnormal) beat.
        rate: beats a minute; NaN of the first.
        usable: whether the signal around it could be used.
        irregular: whether the rhythm before it is irregular.
        unusual: from 0 to 1, a detector's score; NaN: there is none.
    """

    seconds: float
    name: str
    alarm: float
    rate: float
    usable: bool
    irregular: bool
    unusual: float = float("nan")


@dataclass
class Update:
    """What is new about a patient.

    Attributes:
        stream: number of the stream.
        beats: new beats.
        alerts: new alerts.
        active: states that last.
        withheld: alerts withheld in the last hour.
        faults: why each lead cannot be used, by the last second; "" if it can.
        learning: whether the patient's usual beat is not known yet.
        delays: seconds from the arrival of the last sample that each beat needed to its score.
    """

    stream: int
    beats: list[BeatResult] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    active: tuple[str, ...] = ()
    withheld: int = 0
    faults: tuple[str, ...] = ()
    learning: bool = True
    delays: list[float] = field(default_factory=list)


class PatientStream:
    """Everything that is remembered of one patient's signal."""

    def __init__(self, work: Work, model: BeatModel, limits: Limits) -> None:
        """Prepare the stream of which `work` is the first piece.

        Args:
            work: its first samples.
            model: which leads it takes decides which are filtered.
            limits: when alerts start and end.
        """
        self.stream, rate, leads = work.stream, work.rate, work.leads
        self._offset = work.position / rate
        self.chosen = model.choose_leads(list(leads))
        self.enough = len(self.chosen) == model.form.count
        self._beats = BeatStream(rate, max(1, len(self.chosen)))
        self._quality, self._engine = QualityWatch(rate, len(leads)), DecisionEngine(limits)
        self._held: npt.NDArray[np.floating] | None = None
        self._bad: dict[int, bool] = {}
        self._seconds: list[tuple[int, bool]] = []
        self._faults: tuple[str, ...] = ("",) * len(leads)
        self._scored = 0

    def push(self, samples: npt.NDArray[np.float32]) -> list[StreamedBeat]:
        """Take samples `(samples, leads)`, NaN where missing, and return the beats that are ready to be scored."""
        for second, faults in self._quality.push(samples):
            self._faults = faults
            used = [faults[i] for i in self.chosen]
            self._bad[second] = any(used) or not self.enough
            self._bad.pop(second - QUALITY_SECONDS, None)
            self._seconds.append((second, not self._bad[second]))
        if not self.enough:
            return []
        held, _ = hold_gaps(samples[:, self.chosen], self._held)
        if len(held):
            self._held = held[-1]
        return self._beats.push(held)

    def is_usable(self, beat: StreamedBeat) -> bool:
        """Return whether the seconds of a beat's window could be used; the one that is not complete counts as good."""
        first, last = int(max(0.0, beat.seconds - BEFORE_SECONDS)), int(beat.seconds + AFTER_SECONDS)
        return not any(self._bad.get(second, False) for second in range(first, last + 1))

    def decide(self, beats: Sequence[StreamedBeat], scores: BeatScores | None, rows: slice) -> Update:
        """Return the update that scored beats, and the seconds since the last one, lead to.

        Args:
            beats: the beats of the last push.
            scores: of a micro-batch; None if there are no beats.
            rows: where these beats are in it.
        """
        update = Update(self.stream, faults=self._faults)
        judged: list[ScoredBeat] = []
        if scores is not None:
            parts = (scores.names[rows], scores.alarm[rows].tolist(), scores.unusual[rows].tolist())
            for beat, name, alarm, unusual in zip(beats, *parts, strict=True):
                usable = self.is_usable(beat)
                judged.append(ScoredBeat(beat.seconds, name, alarm, usable, beat.irregular, unusual > UNUSUAL))
                label = name if usable else ""
                at = beat.seconds + self._offset
                update.beats.append(BeatResult(at, label, alarm, beat.rate, usable, beat.irregular, unusual))
            self._scored += len(judged)
        update.alerts = self._engine.add_beats(judged)
        for second, usable in self._seconds:
            update.alerts += self._engine.add_second(second, usable, self._beats.certain, self._beats.latest)
        update.alerts = [replace(alert, seconds=alert.seconds + self._offset) for alert in update.alerts]
        self._seconds = []
        update.active, update.withheld = self._engine.active, self._engine.withheld
        update.learning = self._scored == 0
        return update
