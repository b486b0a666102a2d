"""The stream gives all beats of ten published recordings the classes of the batch path."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tornado")

from experiments.bench.monitor_beats import watch_recording
from experiments.monitor.decisions import Limits
from experiments.monitor.model_sources import open_beat_model
from sites.ecg.recordings import read_recording
from sites.ecg.streaming.filtering import hold_gaps
from sites.ecg.streaming.whole import cut_causal_beats, detect_beats

RECORDS = ("100", "106", "119", "200", "203", "207", "208", "213", "222", "233")


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_batch_and_stream_give_the_same_classes(mitdb_folder: Path, causal_run: Path, name: str) -> None:
    model = open_beat_model(causal_run)
    recording = read_recording(mitdb_folder, name, "atr")
    streamed, _ = watch_recording(model, recording, Limits())
    signal = hold_gaps(recording.signal[:, model.choose_leads(recording.leads)])[0]
    cut = cut_causal_beats(signal, recording.rate, detect_beats(signal, recording.rate), model.form.shape)
    batch = list(model.score_cut(cut).names)
    assert len(batch) - 16 <= len(streamed) <= len(batch)  # the last ones wait for samples that never come
    assert len(streamed) > 1000
    assert streamed == batch[: len(streamed)]
    assert len(set(batch)) > 1
