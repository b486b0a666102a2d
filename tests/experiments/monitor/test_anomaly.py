"""Detectors of unusual beats in the monitor's work: the batch path's scores, alerts, and a choice between two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tornado")

from common.errors import DataError, UsageError
from experiments.bench.monitor_beats import watch_recording
from experiments.monitor.anomaly import open_detector
from experiments.monitor.decisions import UNUSUAL, Limits
from experiments.monitor.isolation_forest import MAX_STANDARDISED, Forest, grow_forest, read_forest, write_forest
from experiments.monitor.model_sources import open_beat_model
from experiments.monitor.patient import PatientStream, Work
from experiments.scoring.score import open_model, score_rows
from sites.ecg.recordings import Recording
from sites.ecg.streaming.whole import CausalBeats, cut_causal_beats, detect_beats
from sites.unlabelled_rows import ScorableRows, unlabelled_cohort
from tests.experiments.monitor.conftest import heartbeats
from tests.experiments.scoring.scored_runs import make_run_folder

AUTOENCODER = {
    "data": {"dataset": "mitdb", "options": {"leads": 1, "causal": True}},
    "model": {"name": "autoencoder", "options": {"latent": 4}},
}


def make_recording(seconds: float, seed: int = 0, wide: tuple[float, float] = (0, 0)) -> Recording:
    """Return a recording of noisy beats, of another shape between two times."""
    signal = heartbeats(seconds).astype(np.float64)
    clock = np.arange(len(signal)) / 250
    inside = (clock >= wide[0]) & (clock < wide[1])
    other = -1.5 * np.exp(-((((clock % 0.8) - 0.45) / 0.06) ** 2))
    signal[inside, 0] = other[inside]
    signal += 0.02 * np.random.default_rng(seed).normal(size=signal.shape)
    none = np.array([], dtype=int)
    return Recording(f"r{seed}", 250.0, ("II",), signal.astype(np.float32), none, none.astype(str), ())


@pytest.fixture(scope="module")
def autoencoder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run_folder(tmp_path_factory.mktemp("run") / "autoencoder", AUTOENCODER, threshold=-0.8)


@pytest.fixture(scope="module")
def forest(causal_run: Path) -> Forest:
    return grow_forest(open_beat_model(causal_run), [make_recording(60, seed) for seed in range(5)], seed=3)


def cut_whole(recording: Recording) -> CausalBeats:
    return cut_causal_beats(recording.signal, recording.rate, detect_beats(recording.signal, recording.rate), 1)


def stream_unusual(run: Path, detector: Path, recording: Recording, size: int) -> list[float]:
    model, out = open_beat_model(run, anomaly=detector), []
    stream = None
    for start in range(0, len(recording.signal), size):
        samples = recording.signal[start : start + size]
        work = Work(0, recording.rate, recording.leads, samples, start, False, 0.0)
        stream = stream or PatientStream(work, model, Limits())
        beats = stream.push(samples)
        update = stream.decide(beats, model.score(beats) if beats else None, slice(0, len(beats)))
        out += [beat.unusual for beat in update.beats]
    return out


@pytest.mark.parametrize("size", [61, 700])
def test_the_autoencoder_scores_beats_as_the_batch_path_does(
    causal_run: Path, autoencoder_run: Path, size: int
) -> None:
    recording = make_recording(60)
    streamed = stream_unusual(causal_run, autoencoder_run, recording, size)
    scoring, cut = open_model(autoencoder_run), cut_whole(recording)
    x = np.concatenate([cut.x, cut.x - cut.template], axis=1)
    columns = cut.features[:, : len(scoring.task.features)]
    batch = score_rows(scoring, ScorableRows(unlabelled_cohort(scoring.task, x, columns, ("a",), False), {}, ()))
    expected = 1 / (1 + np.exp(-(batch.odds[:, 1] + 0.8)))
    assert len(streamed) > 50
    np.testing.assert_allclose(streamed, expected[: len(streamed)], atol=1e-5)
    assert np.ptp(streamed) > 1e-3
    named = [name == scoring.task.classes[1] for name in batch.predicted[: len(streamed)].tolist()]
    assert [score > 0.5 for score in streamed] == named
    assert len(set(named)) == 2


@pytest.mark.parametrize("size", [61, 700])
def test_the_forest_scores_beats_as_scikit_learn_does(
    causal_run: Path, forest: Forest, tmp_path: Path, size: int
) -> None:
    from sklearn.ensemble import IsolationForest

    from experiments.monitor.isolation_forest import collect_normal_beats

    model, recording = open_beat_model(causal_run), make_recording(90, 7, (40, 60))
    rows = np.concatenate(collect_normal_beats(model, [make_recording(60, seed) for seed in range(5)]))
    spread = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
    grown = IsolationForest(n_estimators=200, max_samples=min(256, len(rows)), random_state=3)
    grown.fit(np.clip((rows - rows.mean(axis=0)) / spread, -10, 10))
    columns = model.score_cut(cut_whole(recording)).columns
    scaled = np.clip((columns - rows.mean(axis=0)) / spread, -MAX_STANDARDISED, MAX_STANDARDISED)
    np.testing.assert_allclose(forest.raw(columns), -grown.score_samples(scaled), atol=1e-9)
    path = write_forest(tmp_path / "forest.safetensors", forest)
    assert path.stat().st_mode & 0o077 == 0
    streamed = stream_unusual(causal_run, path, recording, size)
    usual = -grown.score_samples(np.clip((rows - rows.mean(axis=0)) / spread, -10, 10))
    low, high, start = np.quantile(usual, [0.25, 0.75, 0.95])
    expected = 1 / (1 + np.exp(-np.clip(4 * np.arcsinh((forest.raw(columns) - start) / (high - low)), -15.9, 15.9)))
    np.testing.assert_allclose(streamed, expected[: len(streamed)], atol=1e-5)


def test_unusual_beats_raise_one_alert(causal_run: Path, forest: Forest, tmp_path: Path) -> None:
    model = open_beat_model(causal_run, anomaly=write_forest(tmp_path / "forest.safetensors", forest))
    model = replace(model, compute_logits=lambda x, columns: np.tile([5.0, 0, 0, 0], (len(x), 1)))  # all are normal
    alerts = watch_recording(model, make_recording(120, 7, (60, 90)), Limits())[1]
    assert [alert.kind for alert in alerts if alert.kind == UNUSUAL] == [UNUSUAL]
    assert 60 < next(alert.seconds for alert in alerts if alert.kind == UNUSUAL) < 80
    calm = watch_recording(model, make_recording(120, 8), Limits())[1]
    assert [alert for alert in calm if alert.kind == UNUSUAL] == []


def test_a_detector_of_other_beats_is_refused(
    causal_run: Path, autoencoder_run: Path, forest: Forest, tmp_path: Path
) -> None:
    raw = json.loads(json.dumps(AUTOENCODER))
    raw["data"]["options"]["leads"] = 2
    other = make_run_folder(tmp_path / "two", raw, threshold=-0.8)
    with pytest.raises(UsageError, match="other leads"):
        open_beat_model(causal_run, anomaly=other)
    without = make_run_folder(tmp_path / "without", AUTOENCODER)
    with pytest.raises(UsageError, match="with a threshold"):
        open_detector(without)
    with pytest.raises(UsageError, match="autoencoder"):
        open_detector(causal_run)
    path = write_forest(tmp_path / "forest", forest)
    assert read_forest(path).start == forest.start
    looping = dict(forest.arrays)
    looping["left"] = np.zeros_like(looping["left"])  # a tree that never ends
    for bad in (b"", path.read_bytes()[:-20], b"x" * 100):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="wardround monitor forest"):
            read_forest(path)
    write_forest(path, replace(forest, arrays=looping))
    with pytest.raises(DataError, match="wardround monitor forest"):
        read_forest(path)
    with pytest.raises(DataError, match="at least are needed"):
        grow_forest(open_beat_model(causal_run), [make_recording(60)])
