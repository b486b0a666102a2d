"""Annotations as they occur outside of the well-known databases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from sites.datasets import mitdb
from sites.datasets.mitdb import Options
from sites.ecg import beats
from tests.sites.ecg.odd_record_checks import expect_all_beats, read, refusal, score
from tests.sites.ecg.odd_records import BEATS, RATE, SAMPLES, OddRecord


@pytest.mark.parametrize("clock", [125, 250, 500, 1000])
def test_the_time_resolution_of_an_annotation_file_is_honoured(tmp_path: Path, clock: int) -> None:
    record = OddRecord(tmp_path)
    record.write()
    even = BEATS // 2 * 2
    record.annotate(even * clock // RATE, fs=clock)
    seconds = score(tmp_path).columns["seconds"]
    np.testing.assert_allclose(seconds, even / RATE)


def test_a_beat_that_is_annotated_twice_counts_once_and_is_reported(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.sort(np.concatenate([BEATS, BEATS[3:9]])))
    rows = expect_all_beats(tmp_path)
    assert [(item.reason, item.rows) for item in rows.exclusions] == [("beats that are annotated more than once", 6)]
    plain = OddRecord(tmp_path, "plain")
    plain.write()
    plain.annotate()
    np.testing.assert_array_equal(rows.cohort.features, score(tmp_path, name="plain").cohort.features)
    cut = beats.cut_beats(read(tmp_path), "window", 2)
    assert cut.excluded == {"beats that are annotated more than once": 6}


def test_beats_that_are_annotated_on_two_channels_count_once(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    sample = np.stack([BEATS, BEATS + 4], axis=1).ravel()
    record.annotate(sample, chan=np.tile([0, 1], len(BEATS)))
    rows = expect_all_beats(tmp_path)
    assert sum(item.rows for item in rows.exclusions) == len(BEATS)


def test_of_two_annotations_of_one_beat_the_one_with_a_class_counts(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate(np.sort(np.concatenate([BEATS, BEATS[3:4]])), ["N"] * 3 + ["?", "V"] + ["N"] * (len(BEATS) - 4))
    assert score(tmp_path).columns["reference"].tolist() == ["N"] * 3 + ["V"] + ["N"] * (len(BEATS) - 4)


def test_a_beat_after_the_end_is_dropped_and_reported(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    for late in (SAMPLES, SAMPLES + 50):
        record.annotate(np.append(BEATS, late))
        rows = expect_all_beats(tmp_path)
        assert [(item.reason, item.rows) for item in rows.exclusions] == [
            ("beats annotated after the end of the signal", 1)
        ]
    record.annotate(np.append(BEATS, SAMPLES), ["N"] * len(BEATS) + ["+"], aux_note=[""] * len(BEATS) + ["(N"])
    assert expect_all_beats(tmp_path).exclusions == ()
    record.annotate(BEATS * 4)
    text = refusal(lambda: score(tmp_path))
    assert f"beyond the {SAMPLES} samples" in text
    assert "do not belong together" in text


AAMI = {"N": "NLRBej", "S": "AaJSn", "V": "VEr", "F": "F", "Q": "/fQ", "?": "?"}


@pytest.mark.parametrize(("label", "codes"), AAMI.items())
def test_every_beat_code_of_wfdb_has_a_class_or_is_a_beat_without_one(tmp_path: Path, label: str, codes: str) -> None:
    record = OddRecord(tmp_path)
    record.write()
    for code in codes:
        record.annotate(BEATS, ["N"] * 4 + [code] + ["N"] * (len(BEATS) - 5))
        cut = beats.cut_beats(read(tmp_path), "window", 2)
        assert "".join(cut.label) == "NNNN" + label + "N" * (len(BEATS) - 5)
        rows = expect_all_beats(tmp_path)
        assert rows.columns["reference"][4] == ("" if label == "?" else label)


def test_all_beats_of_wfdb_are_known() -> None:
    # ecgmap.h's isqrs: these annotation codes of the WFDB library are beats.
    known = {
        item.symbol
        for item in wfdb.io.annotation.ann_labels
        if item.label_store in {*range(1, 14), 25, 30, 34, 35, 38, 41}
    }
    assert known == set("".join(AAMI.values()))


def test_a_beat_without_a_class_is_counted_and_stays_in_the_intervals(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate()
    plain = mitdb.read(tmp_path, Options(), ["r"], tmp_path / "store")
    record.annotate(BEATS, ["N"] * 4 + ["?"] + ["N"] * (len(BEATS) - 5))
    cohort = mitdb.read(tmp_path, Options(), ["r"], tmp_path / "store")
    assert cohort.excluded == {"beats without a class": 1}
    assert mitdb.patients(tmp_path, Options(), tmp_path / "store")[0].examples == (len(BEATS) - 1, 0, 0, 0)
    np.testing.assert_array_equal(cohort.features, np.delete(plain.features, 4, axis=0))


def test_annotations_without_a_beat_or_an_end_mark_are_refused(tmp_path: Path) -> None:
    record = OddRecord(tmp_path)
    record.write()
    (tmp_path / "r.atr").write_bytes(b"")
    assert "no end mark" in refusal(lambda: score(tmp_path))
    record.annotate()
    (tmp_path / "r.atr").write_bytes((tmp_path / "r.atr").read_bytes()[:-2])
    assert "no end mark" in refusal(lambda: score(tmp_path))


@pytest.mark.parametrize("content", [b"\0\0", None], ids=["an end mark alone", "a rhythm mark alone"])
def test_beats_are_detected_where_annotations_hold_none(tmp_path: Path, content: bytes | None) -> None:
    record = OddRecord(tmp_path)
    record.write()
    record.annotate([20], ["+"], aux_note=["(AFIB"])
    if content is not None:
        (tmp_path / "r.atr").write_bytes(content)
    assert expect_all_beats(tmp_path, tolerance=0.02).about["beats"].startswith("R peaks found")
    record.annotate(np.append(20, BEATS), ["+"] + ["N"] * len(BEATS), aux_note=["(AFIB"] + [""] * len(BEATS))
    assert expect_all_beats(tmp_path).about["beats"].startswith("reference annotations")
