"""PTB: its clinical summaries, its people, and bad files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import config
from sites import datasets, splits
from sites.datasets import Source, ptbdb
from sites.datasets.ptbdb import recordings as ptbdb_records
from tests.refusals import refused
from tests.sites.datasets.ptbdb.ptb_recordings import HEALTHY, INFARCTION, beat_train, options, put, read_all


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Five people: infarction, healthy, another diagnosis, none given, no such line."""
    lead = beat_train(10, 125, 0.8)
    put(tmp_path, "patient001/s0001_re", lead, INFARCTION)
    put(tmp_path, "patient002/s0002_re", lead, HEALTHY)
    put(tmp_path, "patient003/s0003_re", lead, ["age: 40", "Reason for admission: Dysrhythmia "])
    put(tmp_path, "patient004/s0004_re", lead, ["age: 50", "sex: n/a", "Reason for admission: n/a"])
    put(tmp_path, "patient005/s0005_re", lead, [])
    return tmp_path


@pytest.mark.parametrize(
    ("given", "labels", "excluded"),
    [
        ({}, [1, 0, 1, None, None], {"recordings without a diagnosis": 2}),
        (
            {"abnormal": "infarction"},
            [1, 0, None, None, None],
            {"recordings without a diagnosis": 2, "recordings of another diagnosis": 1},
        ),
        (
            {"task": "record", "rate": 125},
            [1, 0, None, None, None],
            {"recordings without a diagnosis": 2, "recordings of another diagnosis": 1},
        ),
    ],
)
def test_the_diagnosis_is_the_label_and_who_has_none_is_counted(
    five: Path, given: dict[str, Any], labels: list[int | None], excluded: dict[str, int]
) -> None:
    result = ptbdb.patients(five, options(**given), five / "store")
    cohort = read_all(five, five / "store", **given)
    size = 1 if given.get("task") else 11
    assert [item.examples for item in result] == [
        (0, 0) if label is None else (size, 0) if label == 0 else (0, size) for label in labels
    ]
    assert [set(cohort.y[cohort.patient == i]) for i in range(5)] == [
        set() if label is None else {label} for label in labels
    ]
    assert {why: n for why, n in cohort.excluded.items() if "diagnosis" in why} == excluded
    np.testing.assert_array_equal(cohort.age, np.asarray([61, np.nan, 40, 50, np.nan], np.float32))
    assert cohort.sex.tolist() == [1, 0, -1, -1, -1]
    assert not cohort.synthetic


@pytest.mark.parametrize("comment", ["age: 61 years", "age: -3", "age: 207", "sex: f"])
def test_a_summary_that_cannot_be_is_refused_without_its_value(tmp_path: Path, comment: str) -> None:
    put(tmp_path, "patient001/s0001_re", beat_train(10, 125, 0.8), [comment, *INFARCTION[2:]])
    name, value = comment.split(": ")
    text = refused(lambda: ptbdb.patients(tmp_path, options(), tmp_path), "s0001_re.hea", f"comment {name}")
    assert value not in text.replace("age in years", "").replace("female", "").split()


def test_recordings_are_those_of_the_list_or_of_all_folders(five: Path) -> None:
    every = [item.id for item in ptbdb.patients(five, options(), five / "store")]
    assert every == [f"patient00{i}/s000{i}_re" for i in range(1, 6)]
    (five / "RECORDS").write_text("patient002/s0002_re\npatient001/s0001_re\n")
    assert [item.id for item in ptbdb.patients(five, options(), five / "store")] == [every[1], every[0]]
    (five / "RECORDS").write_text("patient002/s0002_re\npatient009/s0001_re\n")
    refused(lambda: ptbdb.patients(five, options(), five / "store"), "names patient009/s0001_re, but")


def test_one_person_has_several_recordings_and_stays_on_one_side(made: Path, store: Path) -> None:
    source = Source(ptbdb, options(task="record"), made, store / "ptbdb")
    result = source.patients()
    assert len({item.person for item in result}) == 10 < len(result)
    run = config.parse_config({"sites": {"scheme": "even", "count": 2}})
    dealt, remaining, _ = datasets.assign_hospitals(source, run)
    for site, ids in dealt.items():
        done = splits.assign_split(source.read(ids), [p for p in remaining if p.id in ids], run.sites, run.seed, site)
        sides = [{done.persons[i] for i in np.unique(done.part(name).patient)} for name in ("train", "test")]
        assert not sides[0] & sides[1]


def test_bad_folders_are_named(five: Path, tmp_path: Path) -> None:
    refused(lambda: ptbdb.patients(tmp_path / "lost", options(), tmp_path), f"no data folder {tmp_path / 'lost'}")
    (tmp_path / "empty").mkdir()
    refused(lambda: ptbdb.patients(tmp_path / "empty", options(), tmp_path), "no recordings in", "patient001/s0010_re")
    shutil.copytree(five / "patient001", five / "patient006")
    refused(lambda: ptbdb.patients(five, options(), five), "s0001_re is in patient001 and in patient006")
    shutil.rmtree(five / "patient006")
    (five / "patient001" / "s0001_re.dat").unlink()
    refused(lambda: ptbdb.patients(five, options(), five), "names the signal file s0001_re.dat")
    flat = put(tmp_path / "flat", "s1", beat_train(10, 125, 0.8), HEALTHY)
    (flat.parent / "RECORDS").write_text("s1\n")
    refused(lambda: ptbdb.patients(flat.parent, options(), flat.parent), "must be in its patient's folder")
    refused(lambda: ptbdb.read(five, options(), [], five), "no recordings of")


def test_a_second_reading_opens_no_signal(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_all(made, tmp_path / "store", task="record")

    def never(*_: object) -> None:
        raise AssertionError("a signal was parsed again")

    monkeypatch.setattr(ptbdb_records, "read_leads", never)
    again = read_all(made, tmp_path / "store", task="record")
    np.testing.assert_array_equal(first.x, again.x)
    assert first.excluded == again.excluded
    with pytest.raises(AssertionError):
        read_all(made, tmp_path / "store", task="record", rate=125)


@pytest.mark.parametrize(
    "reason", ["healthy", "Healthy controls", "Control", "normal", "Gesund", "Myocardial infarct", "AMI", "not healthy"]
)
@pytest.mark.parametrize("task", ["beats", "record"])
def test_another_word_for_a_class_is_no_other_diagnosis(five: Path, tmp_path: Path, reason: str, task: str) -> None:
    put(five, "patient006/s0006_re", beat_train(10, 125, 0.8), ["age: 40", f"Reason for admission: {reason}"])
    refused(
        lambda: read_all(five, tmp_path, task=task, **({"rate": 125} if task == "record" else {})), "s0006_re.hea",
        "the reason for admission is like healthy control or myocardial infarction, but none of them",
    )  # fmt: skip


@pytest.mark.parametrize("again", ["age: 30", "Sex: female", "reason for admission: Healthy control"])
def test_a_comment_that_is_there_twice_is_refused(five: Path, tmp_path: Path, again: str) -> None:
    put(five, "patient006/s0006_re", beat_train(10, 125, 0.8), [*INFARCTION, again])
    refused(
        lambda: read_all(five, tmp_path), "s0006_re.hea", f"the comment {again.split(':')[0].lower()} is there twice"
    )


@pytest.mark.parametrize("name", ["s0006_re", "berlin/patient006/s0006_re"])
def test_a_recording_in_no_patients_folder_is_refused(five: Path, tmp_path: Path, name: str) -> None:
    put(five, name, beat_train(10, 125, 0.8), INFARCTION)
    refused(lambda: read_all(five, tmp_path), "s0006_re.hea is not in a patient's folder below")


def test_a_recording_shorter_than_a_strip_is_counted(five: Path, tmp_path: Path) -> None:
    put(five, "patient006/s0006_re", beat_train(2, 125, 0.8), INFARCTION)
    cohort = read_all(five, tmp_path, task="record", rate=125)
    assert cohort.excluded["ends of recordings shorter than 10 s"] == 1
    assert "patient006/s0006_re" not in {cohort.patients[i] for i in cohort.patient}
