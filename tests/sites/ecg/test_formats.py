"""Every storage format of WFDB, packed here by hand as signal(5) of the WFDB manual describes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import wfdb

from sites.ecg import recordings
from tests.sites.ecg.odd_record_checks import expect_all_beats, refusal, score
from tests.sites.ecg.odd_records import BEATS, RATE, SAMPLES, OddRecord, ecg

Values = npt.NDArray[np.int64]


def both() -> Values:
    """Return two leads frame by frame, `(samples, 2)`."""
    return np.stack([ecg(), ecg() // 2], axis=1)


def differences(values: Values) -> bytes:
    steps = np.diff(values, axis=0, prepend=values[:1])
    assert np.abs(steps).max() < 128
    return steps.astype(np.int8).tobytes()


def ten_bits(values: Values, shift: bool) -> bytes:
    flat = values.ravel() & 0x3FF
    flat = np.concatenate([flat, np.zeros(-len(flat) % 3, np.int64)]).reshape(-1, 3)
    out = bytearray()
    for a, b, c in flat.tolist():
        if shift:  # format 310
            out += (a << 1 | (c & 0x1F) << 11).to_bytes(2, "little") + (b << 1 | (c >> 5) << 11).to_bytes(2, "little")
        else:
            out += (a | b << 10 | c << 20).to_bytes(4, "little")
    return bytes(out)


PACKED: dict[str, tuple[Callable[[Values], bytes], int]] = {
    "61": (lambda values: values.astype(">i2").tobytes(), -(2**15)),
    "160": (lambda values: (values + 2**15).astype("<u2").tobytes(), -(2**15)),
    "80": (lambda values: (np.clip(values, -128, 127) + 2**7).astype(np.uint8).tobytes(), -(2**7)),
    "310": (lambda values: ten_bits(values, True), -(2**9)),
    "311": (lambda values: ten_bits(values, False), -(2**9)),
    "32": (lambda values: values.astype("<i4").tobytes(), -(2**31)),
}


def write(folder: Path, fmt: str, content: bytes, samples: int = SAMPLES) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "r.dat").write_bytes(content)
    first = both()[0]
    lines = [f"r.dat {fmt} 200/mV 16 0 {first[k]}" for k in range(2)]
    (folder / "r.hea").write_text("\n".join([f"r 2 {RATE} {samples}", *lines]) + "\n")
    OddRecord(folder).annotate()


@pytest.mark.parametrize("fmt", PACKED)
def test_a_format_is_read_to_the_last_unit(tmp_path: Path, fmt: str) -> None:
    pack, missing = PACKED[fmt]
    values = both()
    write(tmp_path, fmt, pack(values))
    expected = np.clip(values, -128, 127) if fmt == "80" else values
    np.testing.assert_allclose(recordings.read_recording(tmp_path, "r").signal * 200, expected, atol=1e-3)
    values[1000:1300] = missing
    write(tmp_path, fmt, pack(values))
    signal = recordings.read_recording(tmp_path, "r").signal
    assert np.flatnonzero(np.isnan(signal).any(1)).tolist() == list(range(1000, 1300))


def test_the_format_of_differences_is_read(tmp_path: Path) -> None:
    write(tmp_path, "8", differences(both()))
    np.testing.assert_allclose(recordings.read_recording(tmp_path, "r").signal * 200, both(), atol=1e-3)
    expect_all_beats(tmp_path)


@pytest.mark.parametrize("fmt", ["0", "17", "216", "999"])
def test_an_unknown_format_is_named(tmp_path: Path, fmt: str) -> None:
    write(tmp_path, fmt, both().astype("<i2").tobytes())
    text = refusal(lambda: score(tmp_path))
    assert f"format {fmt}, which is none of 8, 16, 24" in text
    assert "damaged" not in text


@pytest.mark.parametrize("fmt", [*PACKED, "8"])
def test_a_file_that_lacks_its_last_frame_is_truncated(tmp_path: Path, fmt: str) -> None:
    content = differences(both()) if fmt == "8" else PACKED[fmt][0](both())
    write(tmp_path, fmt, content[: -len(content) // SAMPLES - 4])
    assert "truncated" in refusal(lambda: score(tmp_path))


@pytest.mark.parametrize(("fmt", "bits"), [("24", 22), ("32", 30), ("524", 22)])
def test_small_signals_far_from_zero_keep_their_shape(tmp_path: Path, fmt: str, bits: int) -> None:
    if fmt == "524":
        pytest.importorskip("soundfile")
    wfdb.wrsamp(
        "r", fs=RATE, units=["mV"] * 2, sig_name=["II", "V5"], d_signal=both() + 2**bits, fmt=[fmt] * 2,
        adc_gain=[200.0] * 2, baseline=[2**bits] * 2, write_dir=str(tmp_path),
    )  # fmt: skip
    OddRecord(tmp_path).annotate()
    np.testing.assert_allclose(recordings.read_recording(tmp_path, "r").signal, both() / 200, atol=1e-6)
    expect_all_beats(tmp_path)


@pytest.mark.parametrize("formats", [("61", "212"), ("212", "16"), ("16", "24"), ("160", "508")])
def test_files_of_several_formats_in_one_record(tmp_path: Path, formats: tuple[str, str]) -> None:
    if "508" in formats:
        pytest.importorskip("soundfile")
    values = np.clip(both(), -127, 127) if "508" in formats else both()
    lines = []
    for k, (name, fmt) in enumerate(zip(("a", "b"), formats, strict=True)):
        if fmt in PACKED:
            (tmp_path / f"{name}.dat").write_bytes(PACKED[fmt][0](values[:, k]))
        else:
            wfdb.wrsamp(
                name, fs=RATE, units=["mV"], sig_name=["II"], d_signal=values[:, k : k + 1], fmt=[fmt],
                adc_gain=[200.0], baseline=[0], write_dir=str(tmp_path),
            )  # fmt: skip
            (tmp_path / f"{name}.hea").unlink()
        lines.append(f"{name}.dat {fmt} 200/mV 16 0 {values[0, k]} {values[:, k].sum() & 0xFFFF} 0 {('II', 'V5')[k]}")
    (tmp_path / "r.hea").write_text("\n".join([f"r 2 {RATE} {SAMPLES}", *lines]) + "\n")
    signal = recordings.read_recording(tmp_path, "r", None).signal
    np.testing.assert_allclose(signal * 200, values, atol=1e-3)
    assert len(BEATS) < SAMPLES
