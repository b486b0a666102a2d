"""The reference of drift: a model's training patients, streamed as patients are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.monitor.decisions import Limits
from experiments.monitor.drift import OWN_COLUMNS, BeatHistograms, GroupShares, Reference
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.patient import PatientStream, Work
from sites.ecg.recordings import Recording

PACKET_SECONDS = 10.0
FIRST_NUMBER = 10**9
"""Number of the first patient: no stream has it, so that resamples of both groups are independent."""


def make_reference(
    run: Path, recordings: Iterable[Recording], name: str = "federated", site: str | None = None
) -> Reference:
    """Return the histograms of recordings, each of one patient, as a monitor with this model would see them.

    Raises:
        DataError: the folder holds no complete model.
        UsageError: its inputs are not windows of beats.
    """
    model, histograms = open_beat_model(run, name, site), BeatHistograms()
    features = tuple(model.task.features)
    for number, recording in enumerate(recordings):
        size = round(PACKET_SECONDS * recording.rate)
        work = Work(number, recording.rate, recording.leads, recording.signal[:0], 0, True, 0.0)
        stream = PatientStream(work, model, Limits())
        for start in range(0, len(recording.signal), size):
            beats = stream.push(recording.signal[start : start + size])
            if not beats:
                continue
            scores = model.score(beats)
            rows = [i for i, beat in enumerate(beats) if stream.is_usable(beat)]
            if rows:
                rate = np.asarray([beats[i].rate for i in rows])
                histograms.add(FIRST_NUMBER + number, rate, scores.alarm[rows], scores.columns[rows])
    columns = (*OWN_COLUMNS, *features)
    group = histograms.summarise() or GroupShares(np.zeros((len(columns), 1)), 0)
    return Reference(model.run, columns, group)
