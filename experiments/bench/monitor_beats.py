"""What a monitor detects on the MIT-BIH recordings: R peaks, in noise too, and the beats of streamed recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.monitor.beat_model import BeatModel
from experiments.monitor.decisions import Limits
from experiments.monitor.patient import PatientStream, Work
from experiments.monitor.quality import QualityWatch
from sites.ecg.annotations import is_beat
from sites.ecg.recordings import Recording, read_recording, recording_names
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.r_peaks import RATE, detect_streaming

PACED = ("102", "104", "107", "217")
TOLERANCE_SECONDS = 0.15
CHUNK_SECONDS = 2.0
Times = npt.NDArray[np.float64]


@dataclass
class Matches:
    """Detected against annotated beats.

    Attributes:
        annotated: annotated beats.
        detected: detected ones.
        matched: pairs of both.
    """

    annotated: int = 0
    detected: int = 0
    matched: int = 0

    def add(self, reference: Times, detected: Times) -> None:
        """Count the beats of a recording; each detection belongs to one annotation at most."""
        at = 0
        for time in reference.tolist():
            while at < len(detected) and detected[at] < time - TOLERANCE_SECONDS:
                at += 1
            if at < len(detected) and abs(detected[at] - time) <= TOLERANCE_SECONDS:
                self.matched, at = self.matched + 1, at + 1
        self.annotated, self.detected = self.annotated + len(reference), self.detected + len(detected)

    def shares(self) -> tuple[float, float]:
        """Return sensitivity and positive predictivity, in percent."""
        return (
            round(100 * self.matched / max(self.annotated, 1), 3),
            round(100 * self.matched / max(self.detected, 1), 3),
        )


def read_unpaced(folder: Path) -> list[Recording]:
    """Return the recordings of MIT-BIH without a pacemaker, with annotations."""
    return [read_recording(folder, name, "atr") for name in recording_names(folder) if name not in PACED]


def reference_beats(recording: Recording) -> Times:
    """Return the seconds of the annotated beats."""
    return np.asarray(recording.sample[is_beat(recording.symbol)] / recording.rate)


def flutter_spans(recording: Recording) -> list[tuple[float, float]]:
    """Return the seconds of ventricular flutter, in which no beat is annotated (`[` to `]`)."""
    starts = recording.sample[recording.symbol == "["] / recording.rate
    ends = recording.sample[recording.symbol == "]"] / recording.rate
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def outside(times: Times, spans: list[tuple[float, float]]) -> Times:
    """Return the times that are in none of some spans."""
    inside = np.zeros(len(times), dtype=np.bool_)
    for start, end in spans:
        inside |= (times >= start) & (times <= end)
    return times[~inside]


def measure_peaks(folder: Path) -> dict[str, Any]:
    """Return sensitivity and positive predictivity of the streaming detector on all unpaced recordings."""
    every, counted, same = Matches(), Matches(), True
    for number, recording in enumerate(read_unpaced(folder)):
        lead = hold_gaps(recording.signal[:, :1])[0][:, 0]
        chunks = (37, 360, len(lead)) if number < 4 else (360, len(lead))
        peaks = [[peak.sample for peak in detect_streaming(lead, recording.rate, chunk)] for chunk in chunks]
        same = same and all(other == peaks[0] for other in peaks[1:])
        times, spans, reference = np.asarray(peaks[0]) / RATE, flutter_spans(recording), reference_beats(recording)
        every.add(reference, times)
        counted.add(outside(reference, spans), outside(times, spans))
    return {
        "beats": every.annotated,
        "without_flutter": counted.shares(),
        "with_flutter": every.shares(),
        "same_whatever_the_chunks": same,
    }


def measure_noise(folder: Path, names: tuple[str, ...], decibels: tuple[float, ...], seconds: float) -> dict[str, Any]:
    """Return the same in white noise, with wfdb's xqrs on the same signals.

    Args:
        folder: the recordings.
        names: which of them.
        decibels: signal-to-noise ratios; the signal's power is that of the lead without its mean.
        seconds: of each recording.
    """
    from wfdb.processing import xqrs_detect

    out: dict[str, Any] = {}
    for level in decibels:
        ours, theirs, usable, total = Matches(), Matches(), 0, 0
        for number, name in enumerate(names):
            recording = read_recording(folder, name, "atr")
            count = int(seconds * recording.rate)
            lead = hold_gaps(recording.signal[:count, :1])[0][:, 0].astype(np.float64)
            draw = np.random.default_rng([number, round(level)])
            lead = lead + draw.normal(size=count) * np.sqrt(lead.var() / 10 ** (level / 10))
            reference = reference_beats(recording)
            reference = reference[reference < seconds]
            ours.add(reference, np.asarray([peak.sample for peak in detect_streaming(lead, recording.rate)]) / RATE)
            theirs.add(reference, xqrs_detect(lead, recording.rate, verbose=False) / recording.rate)
            judged = QualityWatch(recording.rate, 1).push(lead[:, None])
            usable, total = usable + sum(not faults[0] for _, faults in judged), total + len(judged)
        out[f"{level:g} dB"] = {
            "streaming": ours.shares(),
            "xqrs": theirs.shares(),
            "usable_percent": round(100 * usable / max(total, 1), 1),
        }
    return out


def watch_recording(model: BeatModel, recording: Recording, limits: Limits) -> tuple[list[str], list[Any]]:
    """Return the classes of all beats, and the alerts, of a recording that is streamed in packets."""
    size, names, alerts = round(CHUNK_SECONDS * recording.rate), [], []
    stream: PatientStream | None = None
    for start in range(0, len(recording.signal), size):
        samples = recording.signal[start : start + size]
        work = Work(0, recording.rate, recording.leads, samples, start, False, 0.0)
        stream = stream or PatientStream(work, model, limits)
        beats = stream.push(samples)
        scores = model.score(beats) if beats else None
        names += list(scores.names) if scores else []
        alerts += stream.decide(beats, scores, slice(0, len(beats))).alerts
    return names, alerts


def list_runs(recording: Recording, limits: Limits) -> list[tuple[float, float]]:
    """Return the seconds of the annotated runs of ventricular beats of the rate that raises an alarm."""
    beat = is_beat(recording.symbol)
    times, wide = recording.sample[beat] / recording.rate, np.isin(recording.symbol[beat], ["V", "E"])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wide, [False]])))
    runs = []
    for first, last in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
        if last - first + 1 >= limits.run and 60 * (last - first) / (times[last] - times[first]) >= limits.run_rate:
            runs.append((float(times[first]), float(times[last])))
    return runs + flutter_spans(recording)
