"""From scored beats to alerts: hysteresis, runs of beats, refractory times, and a bound on alarms an hour.

One engine serves one patient. A condition starts and ends at different levels, so that a score near a threshold does
not flicker; while it lasts, and for its refractory time after, it is not reported again. Each kind of alert is given at
most `Limits.per_hour` times in an hour; what is not given is counted, and the next alert, or the patient's state, says
how many. An unusable signal neither raises an alarm nor keeps silent: it ends no alarm, and is itself reported.

Decisions depend on the times of beats in the signal alone, never on the clock of the machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["alarm", "warning", "notice"]

RUN, ECTOPY, PAUSE, FAST, SLOW = "ventricular run", "frequent ectopic beats", "no beat", "fast rhythm", "slow rhythm"
IRREGULAR, UNUSABLE, UNUSUAL = "irregular rhythm", "signal not usable", "unusual beats"
LEVELS: dict[str, Level] = {
    RUN: "alarm",
    PAUSE: "alarm",
    FAST: "warning",
    SLOW: "warning",
    ECTOPY: "warning",
    UNUSUAL: "warning",
    IRREGULAR: "notice",
    UNUSABLE: "notice",
}
HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """When alerts start and end.

    Attributes:
        enter: probability from which a beat is counted as ectopic.
        mean: mean probability of the last `run` beats from which they are a run.
        hold: probability that each beat of a run has.
        run: beats of a run.
        run_rate: beats a minute that a run must have.
        ectopy: ectopic beats a minute that are frequent; half of it ends the state.
        pause: seconds without a beat.
        fast: beats a minute above which a rhythm is fast; nine tenths of it end the state.
        slow: beats a minute below which it is slow; eleven tenths of it end the state.
        rhythm_beats: beats over which the rate is averaged, and that a rhythm must stay irregular.
        unusable: seconds in a row without a usable lead.
        refractory: seconds after the end of a state in which the same kind is not reported again.
        per_hour: alerts of one kind an hour.
    """

    enter: float = 0.9
    mean: float = 0.8
    hold: float = 0.4
    run: int = 3
    run_rate: float = 100.0
    ectopy: int = 10
    pause: float = 4.0
    fast: float = 150.0
    slow: float = 35.0
    rhythm_beats: int = 8
    unusable: int = 10
    refractory: float = 60.0
    per_hour: int = 12


@dataclass(frozen=True)
class ScoredBeat:
    """A beat as the engine sees it.

    Attributes:
        seconds: its R peak, since the start of the stream.
        name: the predicted class.
        ventricular: probability of a ventricular beat; for a model without that class, of an abnormal one.
        usable: whether the signal around it could be used.
        irregular: whether the rhythm before it is irregular.
        anomaly: whether a detector finds it unusual.
    """

    seconds: float
    name: str
    ventricular: float
    usable: bool = True
    irregular: bool = False
    anomaly: bool = False


@dataclass(frozen=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        kind: one of LEVELS.
        level: its urgency.
        seconds: when it happened, since the start of the stream.
        text: one line.
        withheld: alerts of this kind that were not given in the last hour, because there were too many.
    """

    kind: str
    level: Level
    seconds: float
    text: str
    withheld: int = 0


@dataclass
class _State:
    """One kind of alert: whether it lasts, when it ended, when it was given, and what was withheld."""

    active: bool = False
    ended: float = float("-inf")
    given: deque[float] = field(default_factory=deque)
    withheld: deque[float] = field(default_factory=deque)


class DecisionEngine:
    """Decides on the alerts of one patient."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._states = {kind: _State() for kind in LEVELS}
        self._run: list[tuple[float, float]] = []
        self._ectopic: deque[float] = deque()
        self._times: deque[float] = deque(maxlen=self.limits.rhythm_beats + 1)
        self._irregular = 0
        self._unusual: deque[bool] = deque(maxlen=10)
        self._bad_seconds = 0
        self._quiet_since: float | None = None
        self._alerts: list[Alert] = []

    @property
    def active(self) -> tuple[str, ...]:
        """The kinds that last at present, the most urgent first."""
        return tuple(kind for kind in LEVELS if self._states[kind].active)

    @property
    def withheld(self) -> int:
        """Alerts that were not given in the last hour."""
        return sum(len(state.withheld) for state in self._states.values())

    def add_beats(self, beats: Iterable[ScoredBeat]) -> list[Alert]:
        """Take beats in order of time, and return new alerts."""
        for beat in beats:
            if not beat.usable:
                self._run = []
                self._times.clear()
                self._irregular = 0
                continue
            self._judge_run(beat)
            self._judge_ectopy(beat)
            self._judge_rate(beat)
            self._judge_rhythm(beat)
        return self._take()

    def add_second(self, second: int, usable: bool, certain: float, latest: float | None) -> list[Alert]:
        """Take the quality of one second of the signal.

        Args:
            second: its number; it ends at `second + 1`.
            usable: whether a lead can be used.
            certain: seconds up to which every beat is known.
            latest: seconds of the last beat that was detected, scored or not.
        """
        end = second + 1.0
        self._bad_seconds = 0 if usable else self._bad_seconds + 1
        text = f"no lead was usable for {self.limits.unusable} s: check electrodes and cables"
        if usable or self._bad_seconds >= self.limits.unusable:
            self._set(UNUSABLE, not usable, end, text)
        if not usable:
            self._quiet_since = None  # a pause is not judged across a signal that nobody can read
        else:
            self._quiet_since = max(end if self._quiet_since is None else self._quiet_since, latest or 0.0)
            pause = certain - self._quiet_since > self.limits.pause
            self._set(PAUSE, pause, self._quiet_since, f"no beat for {self.limits.pause:g} s")
        return self._take()

    def _judge_run(self, beat: ScoredBeat) -> None:
        limits = self.limits
        if beat.ventricular < limits.hold:
            self._run = []
            self._set(RUN, False, beat.seconds, "")
            return
        self._run = [*self._run[-63:], (beat.seconds, beat.ventricular)]
        last = self._run[-limits.run :]
        if len(last) == limits.run and sum(probability for _, probability in last) >= limits.mean * limits.run:
            rate = 60 * (limits.run - 1) / (last[-1][0] - last[0][0])
            if rate >= limits.run_rate:
                text = f"{len(self._run)} ventricular beats in a row at {rate:.0f}/min"
                self._set(RUN, True, self._run[0][0], text)

    def _judge_ectopy(self, beat: ScoredBeat) -> None:
        if beat.ventricular >= self.limits.enter:
            self._ectopic.append(beat.seconds)
        while self._ectopic and self._ectopic[0] <= beat.seconds - 60:
            self._ectopic.popleft()
        count = len(self._ectopic)
        limit = self.limits.ectopy / 2 if self._states[ECTOPY].active else self.limits.ectopy
        self._set(ECTOPY, count >= limit, beat.seconds, f"{count} ventricular beats in a minute")
        self._unusual.append(beat.anomaly)
        share = sum(self._unusual)
        start = share >= (3 if self._states[UNUSUAL].active else 6)
        self._set(UNUSUAL, start, beat.seconds, f"{share} of the last 10 beats are unusual")

    def _judge_rate(self, beat: ScoredBeat) -> None:
        if self._times and beat.seconds - self._times[-1] > self.limits.pause:
            self._times.clear()  # a pause is no slow rhythm
        self._times.append(beat.seconds)
        if len(self._times) <= self.limits.rhythm_beats:
            return
        rate = 60 * self.limits.rhythm_beats / (self._times[-1] - self._times[0])
        fast = self.limits.fast * (0.9 if self._states[FAST].active else 1)
        slow = self.limits.slow * (1.1 if self._states[SLOW].active else 1)
        self._set(FAST, rate > fast, beat.seconds, f"{rate:.0f} beats a minute")
        self._set(SLOW, rate < slow, beat.seconds, f"{rate:.0f} beats a minute")

    def _judge_rhythm(self, beat: ScoredBeat) -> None:
        step = 1 if beat.irregular else -1
        self._irregular = min(max(self._irregular + step, 0), 4 * self.limits.rhythm_beats)
        if self._irregular in (0, 4 * self.limits.rhythm_beats):
            text = "as in atrial fibrillation; classes of beats are less reliable"
            self._set(IRREGULAR, self._irregular > 0, beat.seconds, text)

    def _set(self, kind: str, active: bool, seconds: float, text: str) -> None:
        """Start or end a state; a start is reported unless it is refractory, and withheld beyond the bound."""
        state = self._states[kind]
        if not active:
            if state.active:
                state.active, state.ended = False, seconds
            return
        if state.active:
            return
        state.active = True
        for times in (state.given, state.withheld):
            while times and times[0] <= seconds - HOUR:
                times.popleft()
        if seconds - state.ended < self.limits.refractory:
            return
        if len(state.given) >= self.limits.per_hour:
            state.withheld.append(seconds)
            return
        state.given.append(seconds)
        self._alerts.append(Alert(kind, LEVELS[kind], seconds, text, len(state.withheld)))

    def _take(self) -> list[Alert]:
        out, self._alerts = self._alerts, []
        return out
