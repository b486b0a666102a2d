"""Described folders of recordings: EDF, rhythms, label tables, whose each is, and what a coordinator may not change."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

from common.errors import ConfigError, DataError
from common.settings import validate_settings
from sites.datasets import recordings as own
from sites.datasets.recordings.description import Description
from sites.datasets.recordings.guess import guess_description, holds_recordings
from sites.datasets.recordings.owners import NOT_LISTED
from sites.datasets.recordings.strips import NO_RHYTHM, OTHER_RHYTHM, TWO_RHYTHMS, rhythm_spans
from sites.datasets.recordings.write import render_description
from sites.ecg import recordings as wfdb_recordings

RATE = 125
BEATS = {"labels": "beats", "classes": [{"name": "N", "values": ["N"]}, {"name": "V", "values": ["V"]}]}


def ecg(seconds: int = 12, leads: int = 2) -> np.ndarray:
    """Return a signal in mV with a sharp wave each second, `(samples, leads)`."""
    signal = 0.02 * np.random.default_rng(3).normal(size=(seconds * RATE, leads))
    for beat in range(seconds):
        signal[beat * RATE + 60 : beat * RATE + 64] += 1.0
    return signal


def samples(seconds: int = 12) -> list[int]:
    return [beat * RATE + 62 for beat in range(seconds)]


def describe(**changes: Any) -> Description:
    return validate_settings(Description, {"leads": 2, **BEATS, **changes}, "test")


def write_edf(
    path: Path, signal: np.ndarray, marks: list[tuple[float, str]], code: str = "P7", name: str = "X"
) -> None:
    signals = [
        EdfSignal(column * 1000, RATE, label=f"ECG {name}", physical_dimension="uV", physical_range=(-5000, 5000))
        for column, name in zip(signal.T, ("II", "V1"), strict=True)
    ]
    person = Patient(code=code, name=name, sex="F", birthdate=datetime.date(1950, 1, 1))
    start = Recording(startdate=datetime.date(2020, 1, 2))
    notes = [EdfAnnotation(at, None, text) for at, text in marks]
    Edf(signals, patient=person, recording=start, annotations=notes).write(path)


def test_edf_gives_the_beats_of_the_same_wfdb_recording(tmp_path: Path, write_recording: Callable[..., None]) -> None:
    signal, codes = ecg(), ["N", "N", "V", "N", "N", "N", "V", "N", "N", "N", "N", "N"]
    (tmp_path / "wfdb").mkdir()
    (tmp_path / "edf").mkdir()
    write_recording(tmp_path / "wfdb", "r1", np.rint(signal * 1000), samples(), codes, leads=("II", "V1"))
    marks = [(at / RATE, code) for at, code in zip(samples(), codes, strict=True)]
    write_edf(tmp_path / "edf" / "r1.EDF", signal, [*marks, (0.5, "Lead off")])
    one = own.read(tmp_path / "wfdb", describe(), ["r1"], tmp_path / "store")
    described = describe(read={"files": "edf", "annotator": None})
    other = own.read(tmp_path / "edf", described, ["r1"], tmp_path / "store")
    np.testing.assert_array_equal(other.y, one.y)
    assert one.class_counts() == (10, 2)
    assert np.abs(other.x - one.x).max() < 0.01  # EDF's converter has other steps
    assert other.age is not None
    assert other.age[0] == pytest.approx(70.0, abs=0.01)
    assert other.sex is not None
    assert other.sex[0] == 0
    assert own.patients(tmp_path / "edf", described, tmp_path / "store")[0].person == "p7"


@pytest.mark.parametrize(("names", "people"), [(("Doe_J", "Doe_J"), 1), (("Doe_J", "Roe_K"), 2), (("X", "X"), 2)])
def test_edf_without_a_code_is_of_the_person_of_its_name_and_birth(
    tmp_path: Path, names: tuple[str, str], people: int
) -> None:
    described = describe(read={"files": "edf", "annotator": None})
    marks = [(0.5 + 0.8 * i, "N") for i in range(12)]
    for i, name in enumerate(names):
        write_edf(tmp_path / f"{'ab'[i]}.edf", ecg() * (1 + i / 10), marks, code="X", name=name)
    result = own.patients(tmp_path, described, tmp_path / "store")
    assert len({item.person for item in result}) == people


@pytest.mark.parametrize("name", ["b.edf.gz", "B.EDF.ZIP", "b.bdf"])
def test_recordings_that_are_packed_or_in_bdf_are_refused(tmp_path: Path, name: str) -> None:
    write_edf(tmp_path / "a.edf", ecg(), [(0.5 + 0.8 * i, "N") for i in range(12)])
    (tmp_path / name).write_bytes(b"packed")
    (tmp_path / f"._{name}").write_bytes(b"left by macOS")
    with pytest.raises(DataError, match="1 recordings are packed or in BDF"):
        own.patients(tmp_path, describe(read={"files": "edf", "annotator": None}), tmp_path / "store")


def test_edf_of_another_kind_is_one_clear_line(tmp_path: Path) -> None:
    described = describe(read={"files": "edf", "annotator": None})
    (tmp_path / "r1.edf").write_bytes(b"0       not an EDF file")
    with pytest.raises(DataError, match=r"cannot read .*r1.edf: damaged, truncated, or not EDF"):
        own.patients(tmp_path, described, tmp_path / "store")
    signals = [EdfSignal(ecg()[:, 0], RATE, label="EEG Fpz-Cz", physical_dimension="mV", physical_range=(-5, 5))]
    Edf(signals).write(tmp_path / "r1.edf")
    with pytest.raises(DataError, match="no signal is an ECG lead"):
        own.patients(tmp_path, described, tmp_path / "store")


def test_strips_have_the_class_of_their_rhythm(tmp_path: Path) -> None:
    marks = [(3.0, "AFIB"), (12.0, "sinus"), (21.0, "AFIB"), (30.0, "other")]
    write_edf(tmp_path / "r1.edf", ecg(42), marks)
    described = describe(
        read={"files": "edf", "annotator": None}, examples="strips", labels="rhythms", seconds=6, rate=100,
        classes=[{"name": "sinus", "values": ["sinus"]}, {"name": "AF", "values": ["AFIB"]}],
    )  # fmt: skip
    cohort = own.read(tmp_path, described, ["r1"], tmp_path / "store")
    # strips start at 0 (none yet), 6 (AFIB), 12 (sinus), 18 (two), 24 (AFIB), 30 and 36 (other)
    assert cohort.y.tolist() == [1, 0, 1]
    assert cohort.seconds is not None
    assert cohort.seconds.tolist() == [6.0, 12.0, 24.0]
    assert cohort.x.shape == (3, 1, 600)
    assert cohort.excluded == {NO_RHYTHM: 1, TWO_RHYTHMS: 1, OTHER_RHYTHM: 2}
    assert own.patients(tmp_path, described, tmp_path / "store")[0].examples == (1, 2)


def test_rhythms_in_wfdb_are_the_notes_of_the_code_plus(tmp_path: Path) -> None:
    recording = wfdb_recordings.Recording(
        "r", 125.0, ("II",), np.zeros((10, 1), np.float32), np.array([1, 2, 5]), np.array(["+", "N", "+"]), (),
        note=("(AFIB\0", "(N", ""),
    )  # fmt: skip
    assert rhythm_spans(recording, every=False) == [(1, "(AFIB")]


@pytest.fixture
def labelled(tmp_path: Path, write_recording: Callable[..., None]) -> Path:
    """Six recordings of two hospitals with a table of labels, and no beat annotation that is needed."""
    folder = tmp_path / "labelled"
    rows = ["file;person;clinic;age;sex;diagnosis"]
    for number in range(6):
        hospital = "north" if number < 3 else "south"
        (folder / hospital).mkdir(parents=True, exist_ok=True)
        write_recording(folder / hospital, f"r{number}", np.rint(ecg(12) * 1000), [9], ["N"], leads=("II", "V1"))
        (folder / hospital / f"r{number}.atr").unlink()
        rows.append(
            f"{hospital}/r{number}.hea;p{number // 2};{hospital};{60 + number},5;{'FM'[number % 2]};{number % 2}"
        )
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_label_table_says_what_and_whose_each_recording_is(labelled: Path, tmp_path: Path) -> None:
    assert holds_recordings(labelled)
    guessed, look = guess_description(labelled)
    file = labelled / "recordings.yaml"
    file.write_text(render_description(guessed, look))
    described = own.load_description(file)
    assert described == guessed
    assert (described.examples, described.labels) == ("strips", "table")
    assert described.strip_leads == ("II", "V1")
    result = own.patients(labelled, described, tmp_path / "store")
    assert [(item.person, item.site, item.examples) for item in result] == [
        (f"p{i // 2}", "north" if i < 3 else "south", (1, 0) if i % 2 == 0 else (0, 1)) for i in range(6)
    ]
    cohort = own.read(labelled, described, ["south/r4", "north/r1"], tmp_path / "store")
    assert cohort.y.tolist() == [0, 1]
    assert cohort.age is not None
    assert cohort.age.tolist() == [64.5, 61.5]
    assert cohort.sex is not None
    assert cohort.sex.tolist() == [0, 1]


def test_beats_of_labelled_recordings_are_found_without_annotations(labelled: Path, tmp_path: Path) -> None:
    guessed, _ = guess_description(labelled)
    described = guessed.model_copy(update={"examples": "beats"})
    cohort = own.read(labelled, described, ["north/r0", "north/r1"], tmp_path / "store")
    assert cohort.y.tolist() == [0] * 12 + [1] * 12
    assert cohort.seconds is not None
    np.testing.assert_allclose(cohort.seconds[:12], np.arange(12) + 0.5, atol=0.05)


def test_what_the_table_does_not_say_is_counted_or_named(labelled: Path, tmp_path: Path) -> None:
    described, _ = guess_description(labelled)
    table = labelled / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:4], lines[4].rpartition(";")[0] + ";", lines[5].rpartition(";")[0] + ";7"]))
    cohort = own.read(labelled, described, ["north/r0"], tmp_path / "store")
    assert cohort.excluded == {
        NOT_LISTED: 1,
        "recordings without a label": 1,
        "recordings of a label without a class": 1,
        "ends of recordings shorter than 10 s": 1,
    }
    table.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(DataError, match="rows 1 and 7 are of one recording"):
        own.patients(labelled, described, tmp_path / "store")
    table.write_text("\n".join([*lines[:2], lines[2].replace("p0", ""), *lines[3:]]))
    with pytest.raises(DataError, match="row 2, column person: no patient"):
        own.patients(labelled, described, tmp_path / "store")


def test_a_missing_table_of_labels_is_named_with_who_names_it(labelled: Path, tmp_path: Path) -> None:
    described, look = guess_description(labelled)
    assert described.read.table is not None
    (labelled / described.read.table.file).unlink()
    with pytest.raises(DataError, match=r"no file labels.csv in .*the run's read.table names it"):
        own.patients(labelled, described, tmp_path / "store")
    (labelled / "recordings.yaml").write_text(render_description(described, look))
    with pytest.raises(DataError, match=r"no file labels.csv in .*: read.table of recordings.yaml names it"):
        own.patients(labelled, described, tmp_path / "store")


def test_a_hospitals_own_description_holds(labelled: Path, tmp_path: Path) -> None:
    described, look = guess_description(labelled)
    with pytest.raises(ConfigError, match=r"no recordings.yaml: a run reads only"):
        own.check_site_folder(labelled, described)
    file = labelled / "recordings.yaml"
    file.write_text(render_description(described, look))
    own.check_site_folder(labelled, described)
    elsewhere = described.model_copy(update={"read": described.read.model_copy(update={"skip": ("north/r0",)})})
    own.check_site_folder(labelled, elsewhere)
    assert len(own.patients(labelled, elsewhere, tmp_path / "store")) == 6  # its own `read` holds, not the run's
    for changes, where in (
        ({"strip_leads": ("V1",)}, "strip_leads"),
        ({"seconds": 5}, "seconds"),
        ({"synthetic": not described.synthetic}, "synthetic"),  # a coordinator cannot have patients called generated
        ({"examples": "beats"}, "examples"),
        ({"classes": described.classes[::-1]}, r"classes.no diagnosis.name"),
    ):
        with pytest.raises(ConfigError, match=f"differs from the run's description in {where}"):
            own.check_site_folder(labelled, described.model_copy(update=changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": "strips"}, "a strip has the label of its rhythm"),
        ({"labels": "table"}, "from a table, which read.table names"),
        ({"classes": [{"name": "a", "values": ["N"]}, {"name": "b", "values": ["x"]}]}, "x is no code of a beat"),
        ({"classes": [{"name": "a", "values": ["N"]}, {"name": "b", "values": ["N"]}]}, "two hold the value N"),
        ({"band": [0.5, 80], "rate": 100}, "at most half of rate"),
        ({"read": {"annotator": "../x"}}, "annotator"),
    ],
)
def test_descriptions_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        describe(**changes)


def test_a_table_outside_of_the_folder_is_refused(labelled: Path, tmp_path: Path) -> None:
    described, _ = guess_description(labelled)
    assert described.read.table is not None
    outside = described.read.table.model_copy(update={"file": "../labels.csv"})
    described = described.model_copy(update={"read": described.read.model_copy(update={"table": outside})})
    with pytest.raises(ConfigError, match="leaves the data folder"):
        own.patients(labelled, described, tmp_path / "store")
