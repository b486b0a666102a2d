"""Detectors of unusual beats on MIT-BIH's test people, streamed: AUROC, alerts an hour, and time a beat."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError
from experiments.bench.monitor_edge import auroc, list_recordings, load_sites
from experiments.monitor.decisions import UNUSUAL, Limits
from experiments.monitor.isolation_forest import NORMAL, find_near, grow_forest, write_forest
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.patient import PatientStream, Work
from sites.ecg.annotations import is_beat
from sites.ecg.recordings import Recording, read_recording

CHUNK_SECONDS, MIN_BEATS = 2.0, 10
"""Seconds of a packet, and normal and other beats of a person from which its own AUROC counts."""


def measure_anomaly(run: Path, autoencoders: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Return figures of an isolation forest, grown on the run's training people, and of autoencoders.

    Args:
        run: a run on MIT-BIH with data.options.causal=true; its test people are streamed.
        autoencoders: runs that were trained on none of these people.
        folder: the recordings.
    """
    sites = load_sites(run, folder)
    trained, tested = (list_recordings(getattr(site, part) for site in sites) for part in ("train", "test"))
    for path in autoencoders:
        own = set(list_recordings(site.train for site in load_sites(path, folder)))
        if own & set(tested):
            raise UsageError(f"{path}: it was trained on {len(own & set(tested))} of the recordings that are tested")
    model = open_beat_model(run)
    with tempfile.TemporaryDirectory() as scratch:
        forest = grow_forest(model, [read_recording(folder, name, "atr") for name in trained])
        detectors = {"isolation forest": write_forest(Path(scratch) / "forest.safetensors", forest)}
        detectors |= {f"autoencoder {path.name}": path for path in autoencoders}
        recordings = [read_recording(folder, name, "atr") for name in tested]
        return {title: _measure_detector(run, path, recordings) for title, path in detectors.items()}


def _measure_detector(run: Path, path: Path, recordings: Sequence[Recording]) -> dict[str, Any]:
    model = open_beat_model(run, anomaly=path)
    scores, events, alerts, hours, own, seconds = [], [], 0, 0.0, [], 0.0
    assert model.detector is not None
    for recording in recordings:
        size = round(CHUNK_SECONDS * recording.rate)
        work = Work(0, recording.rate, recording.leads, recording.signal[:0], 0, True, 0.0)
        stream = PatientStream(work, model, Limits())
        times: list[float] = []
        values: list[float] = []
        for start in range(0, len(recording.signal), size):
            beats = stream.push(recording.signal[start : start + size])
            started = time.perf_counter()
            scored = model.score(beats) if beats else None
            seconds += time.perf_counter() - started
            update = stream.decide(beats, scored, slice(0, len(beats)))
            alerts += sum(alert.kind == UNUSUAL for alert in update.alerts)
            times += [beat.seconds for beat in update.beats if beat.usable]
            values += [beat.unusual for beat in update.beats if beat.usable]
        hours += len(recording.signal) / recording.rate / 3600
        beat = is_beat(recording.symbol)
        normal = beat & np.isin(recording.symbol, NORMAL)
        where = np.asarray(times)
        near = [find_near(where, recording.sample[chosen] / recording.rate) for chosen in (normal, beat & ~normal)]
        known = near[0] != near[1]
        score, event = np.asarray(values)[known], near[1][known]
        scores.append(score)
        events.append(event)
        if min(event.sum(), (~event).sum()) >= MIN_BEATS:
            own.append(auroc(score, event))
    score, event = np.concatenate(scores), np.concatenate(events)
    return {
        "people": len(recordings),
        "beats": len(score),
        "auroc": round(auroc(score, event), 4),
        "auroc_mean_of_people": [round(float(np.mean(own)), 4), len(own)],
        "sensitivity": round(float((score[event] > 0.5).mean()), 4),
        "false_share_of_normal_beats": round(float((score[~event] > 0.5).mean()), 4),
        "alerts_an_hour": round(alerts / hours, 2),
        "ms_a_beat_with_the_classifier": round(1000 * seconds / max(len(score), 1), 3),
    }
