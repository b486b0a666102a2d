"""Annotation files byte by byte: read as annot(5) of the WFDB manual says, or refused; never without end."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import wfdb

from common.errors import DataError
from sites.ecg import recordings
from sites.ecg.annotation_file import AnnotationFile, list_symbols, read_annotation_file
from tests.sites.ecg.odd_records import BEATS, RATE, OddRecord

NOTE, SKIP, NUM, SUB, CHN, AUX = 22, 59, 60, 61, 62, 63
STEPS = np.diff(BEATS, prepend=0).tolist()


def word(code: int, value: int = 0) -> bytes:
    return struct.pack("<H", code << 10 | value)


def text(note: str) -> bytes:
    return word(AUX, len(note)) + note.encode("latin-1") + b"\0" * (len(note) % 2)


def skip(ticks: int) -> bytes:
    return word(SKIP) + struct.pack("<HH", (ticks >> 16) & 0xFFFF, ticks & 0xFFFF)


def beats(scale: int = 1) -> bytes:
    return b"".join(word(1, step * scale) if step * scale < 1024 else skip(step * scale) + word(1) for step in STEPS)


def write(folder: Path, *parts: bytes, end: bytes = b"\0\0") -> Path:
    OddRecord(folder).write()
    path = folder / "r.atr"
    path.write_bytes(b"".join(parts) + end)
    return path


def beat_seconds(folder: Path) -> list[float]:
    recording = recordings.read_recording(folder, "r")
    return (recording.sample[recording.symbol == "N"] / recording.rate).tolist()


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        recordings.read_recording(folder, "r")
    return str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_reads_as_wfdb_reads_it(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = 60
    sample = np.sort(draw.choice(np.arange(1, 2_000_000), count, replace=False))
    symbols = draw.choice([symbol for symbol in list_symbols().values() if symbol != '"'], count)
    notes = [str(draw.choice(["", "(AFIB", "(N\0", "a longer note", "M\u00fcller"])) for _ in range(count)]
    channels = draw.integers(0, 3, count)
    wfdb.wrann(
        "r", "atr", sample, symbols.tolist(), aux_note=notes, chan=channels, subtype=draw.integers(-3, 4, count),
        num=draw.integers(0, 3, count), fs=360, write_dir=str(tmp_path),
    )  # fmt: skip
    ours, theirs = read_annotation_file(tmp_path / "r.atr"), wfdb.rdann(str(tmp_path / "r"), "atr")
    assert ours.time.tolist() == theirs.sample.tolist() == sample.tolist()
    assert ours.symbol.tolist() == theirs.symbol == symbols.tolist()
    assert ours.channel.tolist() == theirs.chan.tolist()
    assert list(ours.note) == theirs.aux_note == notes
    assert ours.resolution == theirs.fs == 360


def test_numbers_subtypes_channels_and_notes_of_any_length_do_not_move_a_beat(tmp_path: Path) -> None:
    extra = [word(SUB, 255), word(NUM, 3), word(CHN, 1), text("abc"), text("x" * 255), text("")]
    path = write(tmp_path, *(word(1, step) + extra[i % len(extra)] for i, step in enumerate(STEPS)))
    content: AnnotationFile = read_annotation_file(path)
    assert content.time.tolist() == BEATS.tolist()
    assert content.channel.tolist() == [0, 0] + [1] * (len(BEATS) - 2)
    assert (content.note[3], content.note[4], content.note[5]) == ("abc", "x" * 255, "")


@pytest.mark.parametrize("before", [b"", skip(70_000) + skip(-70_000)], ids=["at once", "there and back"])
def test_beats_may_follow_a_skip(tmp_path: Path, before: bytes) -> None:
    write(tmp_path, before, *(skip(step) + word(1) for step in STEPS))
    assert beat_seconds(tmp_path) == (BEATS / RATE).tolist()


@pytest.mark.parametrize(
    "start",
    [
        word(NOTE) + text("## time resolution: 500"),
        word(28) + text("(N") + word(NOTE) + text("## time resolution: 500"),
        word(NOTE) + text("## made by a program") + word(NOTE) + text("## time resolution: 500"),
        word(NOTE) + text("## Time Resolution:  5e2 Hz"),
        word(NOTE) + text("## time resolution: 500.0\0"),
    ],
    ids=["first", "after a rhythm", "after a note", "in other letters", "with a fraction"],
)
def test_the_time_resolution_is_honoured_wherever_it_stands(tmp_path: Path, start: bytes) -> None:
    write(tmp_path, start, beats(scale=2))
    assert beat_seconds(tmp_path) == (BEATS / RATE).tolist()


@pytest.mark.parametrize("note", ["## made by a program", "## annotation type definitions", "time resolution: 500"])
def test_another_note_at_the_start_changes_nothing(tmp_path: Path, note: str) -> None:
    write(tmp_path, word(NOTE), text(note), beats())
    assert beat_seconds(tmp_path) == (BEATS / RATE).tolist()


@pytest.mark.parametrize("stated", ["-250", "0", "abc", "", "250,5", "250 or 500"])
def test_a_time_resolution_that_is_not_understood_is_refused(tmp_path: Path, stated: str) -> None:
    write(tmp_path, word(NOTE), text(f"## time resolution: {stated}"), beats())
    assert "time resolution is not understood" in refusal(tmp_path)


def test_two_time_resolutions_are_refused_and_a_coarse_one_too(tmp_path: Path) -> None:
    note = word(NOTE) + text("## time resolution: 500")
    write(tmp_path, note, word(NOTE), text("## time resolution: 250"), beats(2))
    assert "stated twice" in refusal(tmp_path)
    write(tmp_path, note, note, beats(2))
    assert len(beat_seconds(tmp_path)) == len(BEATS)
    write(tmp_path, word(NOTE), text("## time resolution: 1"), word(1, 1), word(1, 1), word(1, 1))
    assert "1 Hz is too coarse" in refusal(tmp_path)


@pytest.mark.parametrize(
    "last",
    [b"", text("(N\0\0"), skip(0), word(SKIP), word(SKIP) + b"\0\0", word(AUX, 9)],
    ids=["after a beat", "after a note", "after a skip", "within a skip", "within a skip of 0", "within a note"],
)
def test_a_truncated_file_is_refused_also_where_it_happens_to_end_with_zeros(tmp_path: Path, last: bytes) -> None:
    write(tmp_path, beats(), last, end=b"")
    assert "no end mark" in refusal(tmp_path)


def test_zeros_after_the_end_mark_are_padding_and_anything_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path, beats(), end=b"\0" * 40)
    assert beat_seconds(tmp_path) == (BEATS / RATE).tolist()
    write(tmp_path, beats(), b"\0\0", beats())
    assert "more after its end mark" in refusal(tmp_path)


def test_codes_that_are_not_defined_are_counted_and_are_no_beats(tmp_path: Path) -> None:
    others = [word(code, 20) for code in (0, 15, 17, 42, 49, 58)]
    write(tmp_path, beats(), *others)
    recording = recordings.read_recording(tmp_path, "r")
    assert (recording.symbol == "N").sum() == len(BEATS)
    assert dict(recording.dropped) == {"annotations of a code that WFDB does not define": 5}


@pytest.mark.parametrize("gap", [1, 5, 25, 49])
@pytest.mark.parametrize("channels", [(0, 0), (0, 1)])
def test_annotations_within_the_refractory_time_are_of_one_beat(
    tmp_path: Path, gap: int, channels: tuple[int, int]
) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.stack([BEATS, BEATS + gap], axis=1).ravel(), chan=np.tile(channels, len(BEATS)))
    assert beat_seconds(tmp_path) == (BEATS / RATE).tolist()
    assert dict(recordings.read_recording(tmp_path, "r").dropped) == {
        "beats that are annotated more than once": len(BEATS)
    }


def test_beats_further_apart_than_the_refractory_time_are_two(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.stack([BEATS, BEATS + 50], axis=1).ravel())
    assert len(beat_seconds(tmp_path)) == 2 * len(BEATS)
