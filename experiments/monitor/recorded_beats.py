"""Beats of a whole recording as the monitor would detect and describe them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.monitor.beat_model import BeatModel, Floats, build_inputs
from sites.ecg.recordings import Recording
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.whole import cut_causal_beats, detect_beats


@dataclass(frozen=True)
class RecordedBeats:
    """Beats of one recording.

    Attributes:
        seconds: when each R peak is, `(beats,)`.
        x: unscaled signals `(beats, channels, samples)`.
        columns: unscaled features `(beats, features)`.
    """

    seconds: npt.NDArray[np.float64]
    x: Floats
    columns: Floats


def read_recorded_beats(model: BeatModel, recording: Recording, fewest: int) -> RecordedBeats | None:
    """Return a recording's beats on a model's leads; None if it lacks these leads or has fewer beats than `fewest`."""
    chosen = model.choose_leads(recording.leads)
    if len(chosen) < model.form.count:
        return None
    signal = hold_gaps(recording.signal[:, chosen])[0]
    seconds = detect_beats(signal, recording.rate)
    if len(seconds) < fewest:
        return None
    cut = cut_causal_beats(signal, recording.rate, seconds, model.form.shape)
    return RecordedBeats(seconds, *build_inputs(cut, model.form, len(model.task.features)))
