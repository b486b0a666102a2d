"""Alarms of the monitor on the MIT-BIH recordings: runs that were alarmed, false alarms, and classes equal to batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.policy import SIMULATION_POLICY
from client.site import load_site
from client.site_context import SiteContext
from common.config import load_config
from common.run_folder import RunFolder
from experiments.bench.monitor_beats import list_runs, read_unpaced, watch_recording
from experiments.monitor.beat_model import BeatModel
from experiments.monitor.decisions import RUN, Limits
from experiments.monitor.model_sources import open_beat_model
from sites.datasets.mitdb import SAME_PERSON
from sites.ecg.annotations import is_beat
from sites.ecg.persons import recording_persons
from sites.ecg.recordings import Recording
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.whole import cut_causal_beats, detect_beats

REPORTED = ("208", "200", "233")
NORMAL = 20
"""The recordings with the smallest shares of abnormal beats, over which false alarms are counted."""


def list_trained_people(run: Path, folder: Path) -> set[str]:
    """Return the people that a run on MIT-BIH trained on."""
    config = load_config(RunFolder(run).config)
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(folder)})})
    count = config.sites.count
    sites = [load_site(SiteContext(SIMULATION_POLICY, index=i, count=count), config) for i in range(count)]
    return {name for site in sites for name in site.train.people_names}


def count_alarms(given: Sequence[float], runs: Sequence[tuple[float, float]], limits: Limits) -> tuple[int, int]:
    """Return how many runs were alarmed, and how many alarms were false.

    Args:
        given: seconds of the alarms.
        runs: first and last second of each annotated run.
        limits: a run is alarmed by an alarm during it, within a second of it, or in the refractory time before it.
    """
    times = np.asarray(given)
    alarmed = sum(bool(((times >= a - 1 - limits.refractory) & (times <= b + 1)).any()) for a, b in runs)
    return alarmed, sum(not any(a - 1 <= time <= b + 1 for a, b in runs) for time in given)


def compare_classes(model: BeatModel, recording: Recording, streamed: Sequence[str]) -> tuple[int, int]:
    """Return the number of beats that stream and batch both have, and how many classes differ."""
    signal = hold_gaps(recording.signal[:, model.choose_leads(recording.leads)])[0]
    seconds = detect_beats(signal, recording.rate)
    batch = model.score_cut(cut_causal_beats(signal, recording.rate, seconds, model.form.shape)).names
    return min(len(streamed), len(batch)), sum(a != b for a, b in zip(streamed, batch, strict=False))


def measure_alarms(models: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Return the runs that were alarmed and the false alarms, by group of recordings, and beats of another class.

    Each recording is scored by the first model that was trained on nobody of it. The limits of alarms were chosen on
    the recordings of the group "limits were chosen on these" alone.

    Args:
        models: runs on MIT-BIH.
        folder: the recordings.
    """
    limits, recordings = Limits(), read_unpaced(folder)
    persons = recording_persons(folder, [recording.name for recording in recordings])
    trained = [list_trained_people(path, folder) for path in models]
    opened = [open_beat_model(path) for path in models]
    rows: dict[str, dict[str, float]] = {}
    compared = different = 0
    for recording in recordings:
        person = SAME_PERSON.get(recording.name, persons[recording.name])
        unseen = [model for model, people in zip(opened, trained, strict=True) if person not in people]
        if not unseen:
            continue
        names, alerts = watch_recording(unseen[0], recording, limits)
        both, unequal = compare_classes(unseen[0], recording, names)
        compared, different = compared + both, different + unequal
        runs = list_runs(recording, limits)
        given = [alert.seconds for alert in alerts if alert.kind == RUN]
        alarmed, false = count_alarms(given, runs, limits)
        abnormal = float((~np.isin(recording.symbol[is_beat(recording.symbol)], list("NLRej"))).mean())
        hours = len(recording.signal) / recording.rate / 3600
        rows[recording.name] = {
            "runs": len(runs), "alarmed": alarmed, "false": false, "hours": hours, "abnormal": abnormal
        }  # fmt: skip
    normal = sorted(rows, key=lambda name: rows[name]["abnormal"])[:NORMAL]
    groups = {f"record {name}": [name] for name in REPORTED if name in rows}
    groups[f"{NORMAL} most normal"] = normal
    groups["limits were chosen on these"] = [name for name in rows if name not in {*REPORTED, *normal}]
    out: dict[str, Any] = {
        "recordings": len(rows),
        "without_a_model_that_is_independent": sorted({recording.name for recording in recordings} - set(rows)),
        "classes": {"compared": compared, "different": different},
    }
    for title, members in groups.items():
        sums = {key: sum(rows[name][key] for name in members) for key in ("runs", "alarmed", "false", "hours")}
        rate = round(sums["false"] / sums["hours"], 2)
        out[title] = {"records": len(members), "runs": sums["runs"], "alarmed": sums["alarmed"], "false_an_hour": rate}
    return out
