"""Recordings without labels: the same inputs as for training, and nothing made up where they are bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.config import parse_config
from common.errors import ConfigError, DataError
from sites import datasets
from sites.datasets import Source
from sites.unlabelled import recordings
from sites.unlabelled.recordings import FLAT, MISSING, RAIL, InputForm, read_rows

RATE, SECONDS = 250, 30
AT = np.arange(60, RATE * SECONDS - 60, 200)
LOW = -(2**15)


def source(folder: Path, dataset: str = "mitdb", **options: object) -> Source:
    return datasets.open_source(parse_config({"data": {"dataset": dataset, "options": options}}), folder)


def form(leads: int = 1, **options: object) -> InputForm:
    return recordings.input_form(source(Path(), leads=leads, **options))


def ecg(leads: int = 1, seconds: float = SECONDS) -> np.ndarray:
    """Return converter values `(samples, leads)`, 1000 a mV: a narrow QRS of 1 mV at AT, a slow wave and noise."""
    n = int(seconds * RATE)
    time = np.arange(n)
    wave = 100 * np.sin(time / 40) + np.random.default_rng(3).normal(0, 8, n)
    for at in AT[n > AT]:
        wave += 1000 * np.exp(-0.5 * ((time - at) / 4) ** 2)
    return np.rint(np.stack([wave * (1 - 0.4 * k) for k in range(leads)], axis=1))


@pytest.fixture
def put(tmp_path: Path, write_recording: Callable[..., None]) -> Callable[..., Path]:
    def write(digital: np.ndarray, beats: np.ndarray | None = AT, **more: object) -> Path:
        at = [] if beats is None else [int(directory) for directory in beats if directory < len(digital)]
        write_recording(tmp_path, "r", digital, at or [0], ["N"] * len(at) or ["+"], rate=RATE, **more)
        if beats is None:
            (tmp_path / "r.atr").unlink()
        return tmp_path

    return write


@pytest.mark.parametrize(
    "options", [{}, {"leads": 2}, {"relative": False}, {"view": "kachuee"}, {"leads": 2, "shape": 1}], ids=str
)
def test_inputs_are_those_of_training(hospitals: Path, store: Path, options: dict[str, object]) -> None:
    trained = replace(source(hospitals / "north", "synthetic", **options), store=store)
    wanted = recordings.input_form(trained)
    for name in recordings.find_recordings(trained.folder):
        result, theirs = read_rows(trained.folder, name, wanted), trained.read([name])
        assert np.array_equal(result.cohort.x, theirs.x)
        assert np.array_equal(result.cohort.features, theirs.features)
        assert [theirs.task.classes[k] for k in theirs.y] == result.columns["reference"].tolist()
        assert result.cohort.synthetic
        assert result.about["beats"] == "reference annotations (.atr)"
        np.testing.assert_allclose(result.columns["seconds"], result.columns["sample"] / 360)


def test_beats_are_found_where_nobody_marked_them(put: Callable[..., Path]) -> None:
    folder = put(ecg(), None)
    result = read_rows(folder, "r", form())
    assert result.about["beats"] == "R peaks found by this program (qrs)"
    assert "reference" not in result.columns
    assert len(result.columns["sample"]) == len(AT)
    assert np.abs(result.columns["sample"] - AT).max() <= 1
    with pytest.raises(DataError, match=r"no beat annotations .*r\.atr"):
        read_rows(folder, "r", form(), "reference")


def test_the_detector_is_used_where_annotations_hold_no_beat_or_are_not_wanted(put: Callable[..., Path]) -> None:
    folder = put(ecg(), AT[:0])
    assert "found by this program" in read_rows(folder, "r", form()).about["beats"]
    with pytest.raises(DataError, match=r"r: fewer than three beats, by the reference annotations \(\.atr\)"):
        read_rows(folder, "r", form(), "reference")
    folder = put(ecg(), AT[::2])
    assert len(read_rows(folder, "r", form()).cohort.y) == len(AT[::2])
    assert len(read_rows(folder, "r", form(), "detect").cohort.y) == len(AT)


@pytest.mark.parametrize(
    ("spoil", "why", "end"),
    [
        (lambda x: x[2000:2100].fill(37), FLAT, 2100),
        (lambda x: x[2000:2600].__setitem__(slice(None), np.arange(600)[:, None] % 2), FLAT, 2600),
        (lambda x: x[2000:2015].fill(4000), RAIL, 2015),
        (lambda x: x[2000:2015].fill(-4000), RAIL, 2015),
        (lambda x: x[2000:2010].fill(LOW), MISSING, 2010),
    ],
    ids=["flat", "flat but for noise", "rail above", "rail below", "missing"],
)
def test_beats_on_a_bad_stretch_are_left_out_and_reported(
    put: Callable[..., Path], spoil: Callable, why: str, end: int
) -> None:
    digital = ecg()
    spoil(digital)
    result = read_rows(put(digital), "r", form())
    gone = np.asarray([item.sample for item in result.exclusions])
    assert {item.reason for item in result.exclusions} == {why}
    assert sorted([*gone, *result.columns["sample"]]) == AT.tolist()
    touched = AT[(AT + 0.48 * RATE >= 2000) & (end >= AT - 0.288 * RATE)]
    assert len(gone)
    assert set(gone) <= set(touched)
    assert end == 2600 or set(gone) >= set(touched[(touched < 2000) | (touched >= end)])
    assert {item.seconds for item in result.exclusions} == {directory / RATE for directory in gone}
    assert np.isfinite(result.cohort.x).all()


def test_a_beat_at_the_record_s_own_peak_is_not_saturated(put: Callable[..., Path]) -> None:
    assert read_rows(put(ecg()), "r", form()).exclusions == ()


def test_a_quiet_line_below_all_else_is_no_rail(put: Callable[..., Path]) -> None:
    time = np.arange(RATE * SECONDS)
    beat = 1000 * np.exp(-0.5 * ((time % 200 - 60) / 6) ** 2) + 200 * np.exp(-0.5 * ((time % 200 - 130) / 14) ** 2)
    digital = 50 * np.rint(beat[:, None] / 50) + 20 * ((time[:, None] // 9) % 2)  # coarse: runs of 36 ms, at least
    quiet = np.where(digital > 20, digital, 20 * ((time[:, None] // 20) % 2))
    assert read_rows(put(quiet), "r", form()).exclusions == ()


@pytest.mark.parametrize(("seconds", "spoilt"), [(0.06, False), (0.2, True)])
def test_the_end_of_a_slow_wave_is_a_rail_only_if_it_lasts(
    put: Callable[..., Path], seconds: float, spoilt: bool
) -> None:
    digital, length = ecg(), round(seconds * RATE)
    at = 3120  # between two beats
    fall = np.concatenate([np.linspace(0, -1200, 60), np.full(length, -1200), np.linspace(-1200, 0, 60)])
    digital[at : at + len(fall), 0] = np.rint(fall)
    result = read_rows(put(digital), "r", form())
    assert (RAIL in {item.reason for item in result.exclusions}) == spoilt


@pytest.mark.parametrize("value", [0, 500, LOW])
def test_a_lead_that_is_flat_or_lost_throughout(put: Callable[..., Path], value: int) -> None:
    what = "holds no sample" if value == LOW else "is flat throughout"
    with pytest.raises(DataError, match=f"r: lead MLII {what}"):
        read_rows(put(np.full((5000, 1), value)), "r", form())


def test_missing_leads(put: Callable[..., Path], tmp_path: Path) -> None:
    folder = put(ecg())
    with pytest.raises(DataError, match=r"r: 1 lead\(s\), but the model was trained on 2"):
        read_rows(folder, "r", form(2))
    strips = recordings.input_form(source(tmp_path, "ptbxl", leads=["II", "V1"]))
    with pytest.raises(DataError, match="r: no lead V1, which the model was trained on"):
        read_rows(folder, "r", strips)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_recordings_too_short(put: Callable[..., Path], seconds: float) -> None:
    why = "shorter than one window of 0.768 s" if seconds < 1 else "fewer than three beats"
    for where in ("reference", "detect"):
        with pytest.raises(DataError, match=why):
            read_rows(put(ecg(seconds=seconds)), "r", form(), where)  # type: ignore[arg-type]


def test_the_last_beat_has_no_next_one(put: Callable[..., Path]) -> None:
    result = read_rows(put(ecg()), "r", form(view="kachuee"))
    assert [(item.reason, item.sample) for item in result.exclusions] == [("last beat, which has no next one", AT[-1])]


def test_strips_follow_one_another(put: Callable[..., Path], tmp_path: Path) -> None:
    digital = ecg(2, 25)
    digital[2600:2610] = LOW
    wanted = replace(recordings.input_form(source(tmp_path, "ptbxl", leads=["II", "V1"], rate=500)))
    wanted = replace(wanted, task=replace(wanted.task, rate_hz=float(RATE), samples=10 * RATE))
    result = read_rows(put(digital), "r", wanted)
    assert np.array_equal(result.cohort.x[0], (digital[:2500].T / 1000).astype(np.float32))
    assert result.columns["sample"].tolist() == [0]
    assert [(item.reason, item.sample) for item in result.exclusions] == [
        (MISSING, 2500),
        ("end of the recording, shorter than 10 s", 5000),
    ]


def test_strips_at_another_rate_keep_the_signal(put: Callable[..., Path], tmp_path: Path) -> None:
    time = np.arange(RATE * 20) / RATE
    digital = np.rint(1000 * np.sin(2 * np.pi * 3 * time))[:, None]
    result = read_rows(put(digital), "r", recordings.input_form(source(tmp_path, "ptbxl", leads=["II"])))
    assert result.cohort.x.shape == (2, 1, 1000)
    expected = np.sin(2 * np.pi * 3 * np.arange(2000) / 100)
    assert np.abs(result.cohort.x[:, 0].ravel()[50:-50] - expected[50:-50]).max() < 0.01


def test_a_strip_with_a_flat_lead_is_left_out_and_one_with_a_flat_stretch_is_not(
    put: Callable[..., Path], tmp_path: Path
) -> None:
    digital = ecg(2, 20)
    digital[0:2500, 1] = 0
    digital[3000:3200, 1] = 7
    result = read_rows(put(digital), "r", recordings.input_form(source(tmp_path, "ptbxl", leads=["II", "V1"])))
    assert result.columns["sample"].tolist() == [2500]
    assert [(item.reason, item.sample) for item in result.exclusions] == [(FLAT, 0)]


def test_recordings_lie_in_the_folder_or_below_it(tmp_path: Path) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "x.hea").touch()
    assert recordings.find_recordings(tmp_path) == ("a/x", "b/x")
    with pytest.raises(DataError, match=r"neither it nor a folder below it holds a \.hea file"):
        recordings.find_recordings(_empty(tmp_path))
    with pytest.raises(DataError, match="no data folder"):
        recordings.find_recordings(tmp_path / "none")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_data_that_are_no_recordings() -> None:
    with pytest.raises(ConfigError, match="heart_disease has no recordings to score"):
        recordings.input_form(source(Path(), "heart_disease"))


def test_measures_of_a_lead_that_the_model_does_not_see_are_refused() -> None:
    assert form(leads=2, shape=2).shape == 2
    with pytest.raises(ConfigError, match="shape=2 measures leads that are not inputs of the model"):
        form(leads=1, shape=2)
