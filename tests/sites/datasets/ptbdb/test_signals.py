"""PTB: leads as wfdb reads them, beats as Kachuee 2018 cuts them by a slow loop, strips by a known sine."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from sites.ecg import filtering, r_peaks
from sites.ecg import recordings as records
from sites.ecg.headers import read_header
from sites.ecg.leads import FRANK, STANDARD
from sites.ecg.signals import read_leads
from tests.refusals import refused
from tests.sites.datasets.ptbdb.ptb_recordings import HEALTHY, INFARCTION, beat_train, put, read_all


def test_leads_read_as_wfdb_reads_them(made: Path, hospitals: Path, tmp_path: Path) -> None:
    header = read_header(next(made.glob("*/*_re.hea")))
    theirs = wfdb.rdrecord(str(header.path.with_suffix("")))
    assert header.leads == (*STANDARD, *FRANK)
    wanted = ("V2", "II", "vz")
    columns = [theirs.sig_name.index(name.lower()) for name in wanted]
    np.testing.assert_allclose(read_leads(header, wanted), theirs.p_signal[:, columns], atol=1e-6)
    packed = read_header(hospitals / "north" / "north-001.hea")  # format 212: read through wfdb
    theirs = wfdb.rdrecord(str(packed.path.with_suffix("")))
    np.testing.assert_allclose(read_leads(packed, packed.leads), theirs.p_signal, atol=1e-5)
    odd = tmp_path / "odd.hea"
    odd.write_text(
        "odd 3 250 4 12:00:00 01/02/1990\n"
        "odd.dat 16 200(10)/uV 16 5 1 0 0 I\nodd.dat 16 100 16 7 1 0 0 my lead\nodd.dat 16 0/mV 16 0 1 0 0 aVR\n"
    )
    np.arange(1, 13, dtype="<i2").tofile(tmp_path / "odd.dat")
    text = odd.read_text().replace(" 1 0 0 I", " 1 22 0 I").replace("1 0 0 my", "1 26 0 my")
    odd.write_text(text.replace("1 0 0 aVR", "1 30 0 aVR"))
    for first in ("odd 3 250 4 12:00:00 01/02/1990", "odd 3 250/250(0) 4"):
        odd.write_text(odd.read_text().replace("odd 3 250 4 12:00:00 01/02/1990", first))
        ours, theirs = read_header(odd), wfdb.rdrecord(str(tmp_path / "odd"))
        assert (ours.rate, ours.leads) == (250, ("I", "my lead", "aVR"))
        np.testing.assert_allclose(read_leads(ours, ours.leads), theirs.p_signal * [1e-3, 1, 1], rtol=1e-6)


def test_only_the_files_of_the_wanted_leads_are_needed(made: Path, tmp_path: Path) -> None:
    source = next(made.glob("*/*_re.hea"))
    for path in source.parent.glob(f"{source.stem}.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / f"{source.stem}.xyz").unlink()
    header = read_header(tmp_path / source.name)
    assert read_leads(header, STANDARD).shape[1] == 12
    refused(lambda: read_leads(header, ("I", "vx")), f"{source.stem}.xyz", "is not in")
    refused(lambda: read_leads(header, ("V7",)), "has no lead V7")


def test_a_damaged_signal_is_refused_and_a_missing_checksum_is_not(tmp_path: Path) -> None:
    path = put(tmp_path, "p/s", beat_train(3, 125, 0.8), HEALTHY)
    data = path.with_suffix(".dat")
    whole = data.read_bytes()
    data.write_bytes(whole[:-2])
    refused(lambda: read_leads(read_header(path), ("II",)), "s.dat is truncated, 8998 of 9000 bytes")
    data.write_bytes(whole[:2] + bytes([whole[2] ^ 1]) + whole[3:])
    refused(lambda: read_leads(read_header(path), ("II",)), "checksum of lead II", "fetch it again")
    read_leads(read_header(path), ("I",))
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], *(" ".join([*x.split()[:5], "0", "0", "0", x.split()[-1]]) for x in lines[1:13])])
    )
    assert not read_header(path).has_checksums
    read_leads(read_header(path), ("II",))
    refused(lambda: read_header(tmp_path / "none.hea"), "no header")
    path.write_text("nonsense")
    refused(lambda: read_header(path), "'nonsense' is not understood")


@pytest.mark.parametrize("rate", [100.0, 250.0, 360.0])
def test_the_detector_finds_the_beats_that_were_generated(hospitals: Path, rate: float) -> None:
    result = wrong = missed = 0
    for path in sorted(hospitals.glob("*/*.hea")):
        recording = records.read_recording(path.parent, path.stem)
        truth = recording.sample[np.isin(recording.symbol, list("NLRAVF"))] / recording.rate
        lead = filtering.resample_and_filter(recording.signal[:, :1], recording.rate, rate, None)[:, 0]
        ours = r_peaks.detect_qrs(lead, rate) / rate
        assert (np.diff(ours) >= 0.2 - 1e-9).all()
        apart = np.abs(ours[:, None] - truth).min(1)
        result += int((apart < 0.05).sum())
        wrong += int((apart >= 0.05).sum())
        missed += int((np.abs(truth[:, None] - ours).min(1) >= 0.15).sum())
    assert result > 150
    assert wrong <= 0.02 * result
    assert missed <= 0.02 * result


def test_the_detector_follows_a_beat_that_points_down_and_finds_none_in_a_flat_lead() -> None:
    lead = beat_train(9.8, 250, 0.8).astype(np.float32)
    up = r_peaks.detect_qrs(lead, 250)
    truth = np.arange(0.4, 9.8, 0.8) * 250
    np.testing.assert_allclose(up, truth, atol=1)
    np.testing.assert_allclose(r_peaks.detect_qrs(-lead + 3, 250), truth, atol=1)
    again = lead + 0.8 * np.roll(lead, 45)  # within the 200 ms in which no second beat can be
    np.testing.assert_allclose(r_peaks.detect_qrs(again, 250), truth, atol=1)
    again = 0.8 * lead + np.roll(lead, 45)
    np.testing.assert_allclose(r_peaks.detect_qrs(again, 250)[:-1], truth[:-1] + 45, atol=1)
    assert len(r_peaks.detect_qrs(np.zeros(2500, np.float32), 250)) == 0
    assert len(r_peaks.detect_qrs(lead[:100], 250)) == 0


def slow_kachuee(lead: np.ndarray) -> list[int]:
    """Return Kachuee's candidates, value by value, at 125 Hz."""
    result = []
    for start in range(0, len(lead) - 1249, 1250):
        window = lead[start : start + 1250]
        low, high = min(window), max(window)
        scaled = [(value - low) / max(high - low, 1e-6) for value in window]
        for i in range(1, 1249):
            if scaled[i - 1] < scaled[i] >= scaled[i + 1] and scaled[i] >= 0.9:
                result.append(start + i)
    return result


def test_kachuees_peaks_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(4)
    lead = np.cumsum(rng.normal(size=4000)).astype(np.float32)
    ours = r_peaks.detect_kachuee(lead, 125)
    assert ours.tolist() == slow_kachuee(lead)
    assert len(ours) > 10
    assert ours.max() < 3750


def test_beats_are_those_of_a_slow_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lead = beat_train(25, 125, 0.83) + 0.05 * rng.normal(size=3125)
    path = put(tmp_path, "patient001/s0001_re", lead, INFARCTION)
    cohort = read_all(tmp_path, tmp_path / "store")
    signal = read_leads(read_header(path), ("II",))[:, 0]
    peaks = slow_kachuee(signal)
    truth = []
    for at in peaks[:-1]:
        window = at // 1250
        near = [peak for peak in peaks if peak // 1250 == window]
        length = min(round(1.2 * float(np.median(np.diff(near)))), 187, len(signal) - at)
        part = signal[at : at + length]
        scaled = (part - part.min()) / (part.max() - part.min())
        truth.append(np.concatenate([scaled, np.zeros(187 - length)]))
    assert len(truth) > 15
    np.testing.assert_allclose(cohort.x[:, 0], truth, atol=1e-4)
    assert cohort.y.tolist() == [1] * len(truth)
    assert cohort.excluded == {"last beat of a recording": 1, "ends of recordings shorter than 10 s": 1}
    every = read_all(tmp_path, tmp_path / "store", peaks="qrs")
    assert len(every.y) == len(np.arange(0.4, 25, 0.83)) - 1
    assert every.excluded == {"last beat of a recording": 1}


@pytest.mark.parametrize("rate", [100, 125])
def test_a_strip_is_the_filtered_signal_in_millivolts(tmp_path: Path, rate: int) -> None:
    t = np.arange(25_000) / 1000
    put(tmp_path, "p1/s1", np.sin(2 * np.pi * 5 * t) + 0.8, HEALTHY, rate=1000)
    cohort = read_all(tmp_path, tmp_path / "store", task="record", rate=rate, leads=["V1", "II"])
    assert cohort.x.shape == (2, 2, 10 * rate)
    gain = 1 / (1 + (0.5 / 5) ** 4) / (1 + (5 / 40) ** 4)
    for strip in range(2):
        at = 10 * strip + np.arange(10 * rate) / rate
        middle = slice(rate, -rate)
        for row, factor in enumerate((1 + 0.05 * 6, 1.05)):
            truth = factor * gain * np.sin(2 * np.pi * 5 * at)
            np.testing.assert_allclose(cohort.x[strip, row][middle], truth[middle], atol=5e-3)
    assert cohort.excluded == {"ends of recordings shorter than 10 s": 1}
    assert cohort.task.channel_names == ("V1", "II")


def test_missing_samples_leave_out_what_rests_on_them(tmp_path: Path) -> None:
    path = put(tmp_path, "p1/s1", beat_train(30, 125, 0.8), HEALTHY)
    clean = read_all(tmp_path, tmp_path / "store")
    values = np.fromfile(path.with_suffix(".dat"), dtype="<i2").reshape(-1, 12)
    values[1400:1403] = -(2**15)
    values.tofile(path.with_suffix(".dat"))
    sums = values.sum(0, dtype=np.int64) & 0xFFFF
    lines = path.read_text().splitlines()
    for i, total in enumerate(sums):
        cells = lines[1 + i].split()
        lines[1 + i] = " ".join([*cells[:6], str(total), *cells[7:]])
    path.write_text("\n".join(lines))
    strips = read_all(tmp_path, tmp_path / "store", task="record", rate=125)
    assert len(strips.y) == 2
    assert strips.excluded == {"strips with missing samples": 1}
    cohort = read_all(tmp_path, tmp_path / "store")
    assert cohort.excluded["beats with missing samples"] in (1, 2)
    assert len(cohort.y) == len(clean.y) - cohort.excluded["beats with missing samples"]
    assert np.isfinite(cohort.x).all()


@pytest.mark.parametrize("task", ["record", "beats"])
@pytest.mark.parametrize(("unit", "side"), [("uV", "less than 0.02"), ("V", "more than 50")])
def test_a_header_in_another_unit_than_the_samples_is_refused(tmp_path: Path, unit: str, side: str, task: str) -> None:
    for name, comments in (("patient001/s1", HEALTHY), ("patient002/s2", INFARCTION)):
        put(tmp_path / "data", name, beat_train(30, 125, 0.8), comments)
    assert len(read_all(tmp_path / "data", tmp_path, task=task).y) > 0
    header = tmp_path / "data" / "patient002" / "s2.hea"
    text = header.read_text()
    assert "/mV" in text
    header.write_text(text.replace("/mV", f"/{unit}"))
    refused(lambda: read_all(tmp_path / "data", tmp_path, task=task), "s2.hea", f"moves by {side} mV in a second")
