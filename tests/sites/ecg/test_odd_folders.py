"""Records of segments, lists of recordings, rates and persons as they occur: read rightly, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from sites.datasets import mitdb
from sites.datasets.mitdb import Options
from sites.ecg import recordings
from sites.ecg.headers import read_header
from sites.ecg.persons import read_age_and_sex, recording_persons
from sites.unlabelled.recordings import find_recordings
from tests.sites.ecg.odd_record_checks import refusal, score
from tests.sites.ecg.odd_records import BEATS, RATE, SAMPLES, Channel, OddRecord, ecg, pressure

PARTS = {"r_1": slice(0, 2000), "r_2": slice(2000, 3000), "r_3": slice(3000, SAMPLES)}
Write = Callable[[Path, str, slice], OddRecord]


def segment(folder: Path, name: str, part: slice, **more: str) -> OddRecord:
    return OddRecord(folder, name, [Channel(ecg()[part]), Channel((ecg() // 2)[part], "V5")], **more)


def segments(folder: Path, second: Write = segment, master: list[str] | None = None) -> None:
    for name, part in PARTS.items():
        (second if name == "r_2" else segment)(folder, name, part).write()
    lengths = [f"{name} {part.stop - part.start}" for name, part in PARTS.items()]
    (folder / "r.hea").write_text("\n".join(master or [f"r/3 2 {RATE} {SAMPLES}", *lengths]) + "\n")


def read(folder: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return recordings.read_recording(folder, "r", None).signal


@pytest.mark.parametrize(
    "second",
    [
        lambda folder, name, part: OddRecord(
            folder, name, [Channel(2 * ecg()[part], gain="400"), Channel(2 * (ecg() // 2)[part], "V5", gain="400")]
        ),
        lambda folder, name, part: OddRecord(folder, name, [Channel((ecg() // 2)[part], "V5"), Channel(ecg()[part])]),
    ],
    ids=["another gain", "another order of leads"],
)
def test_segments_may_differ_in_gain_and_order(tmp_path: Path, second: Write) -> None:
    segments(tmp_path, second)
    np.testing.assert_allclose(read(tmp_path), np.stack([ecg(), ecg() // 2], 1) / 200, atol=1e-4)


def test_a_segment_without_an_ecg_is_missing_like_a_gap(tmp_path: Path) -> None:
    segments(tmp_path, lambda folder, name, part: OddRecord(folder, name, [Channel(pressure()[part], "ABP", "mmHg")]))
    missing = np.isnan(read(tmp_path)).all(1)
    assert np.flatnonzero(missing).tolist() == list(range(2000, 3000))


@pytest.mark.parametrize(
    ("second", "master", "what"),
    [
        (lambda folder, name, part: segment(folder, name, part, first=f"{name} 2 125 1000"), None, "at 125 Hz, not"),
        (segment, ["r/2 2 250 6000", "r_1 2000", "r_3 2000"], "do not add up to its 6000"),
        (segment, ["r/2 2 250 3000", "r_1 2000", "r_3 2000"], "do not add up to its 3000"),
        (segment, ["r/2 2 250 4000", "r_1 1500", "r_3 2500"], "r_1 has 2000 samples at 250 Hz, not 1500"),
        (segment, ["r/1 2 250 5000", "r 5000"], "r is itself made of segments"),
        (segment, ["r/1 2 250 5000", "~ 5000"], "hold no ECG"),
        (
            lambda folder, name, part: OddRecord(folder, name, [Channel(ecg()[part]), Channel(ecg()[part], "ii")]),
            None,
            "names a lead twice",
        ),
    ],
)  # fmt: skip
def test_segments_that_do_not_fit_are_named(tmp_path: Path, second: Write, master: list[str] | None, what: str) -> None:
    segments(tmp_path, second, master)
    assert what in refusal(lambda: read(tmp_path))


@pytest.mark.parametrize("first", ["r 2 -250 5000", "r 2 /125 5000", "r 2 x 5000", "r 2 1e2 5000"])
def test_a_rate_that_is_not_understood_is_not_taken_for_the_default(tmp_path: Path, first: str) -> None:
    OddRecord(tmp_path, first=first).write()
    assert "is not understood" in refusal(lambda: score(tmp_path))


@pytest.mark.parametrize("rate", [0.5, 5, 30, 49])
def test_a_rate_that_shows_no_qrs_is_refused(tmp_path: Path, rate: float) -> None:
    record = OddRecord(tmp_path, first=f"r 2 {rate} {SAMPLES}")
    record.write()
    assert f"{rate:g} Hz is too low" in refusal(lambda: score(tmp_path))
    record.annotate()
    assert f"{rate:g} Hz is too low" in refusal(lambda: score(tmp_path))


@pytest.mark.parametrize("rate", [50, 128, 257.3, 360.5, 1000])
def test_other_rates_have_the_beats_at_their_seconds(tmp_path: Path, rate: float) -> None:
    time = np.arange(int(20 * rate)) / rate
    pulses = sum(1.2 * np.exp(-0.5 * ((time - beat / RATE) / 0.012) ** 2) for beat in BEATS)
    noise = np.random.default_rng(2).normal(0, 2, len(time))
    values = np.rint(200 * pulses + noise).astype(np.int64)
    record = OddRecord(tmp_path, channels=[Channel(values), Channel(values // 2, "V5")], first=f"r 2 {rate}")
    record.write()
    for tolerance in (0.02, 0.5 / rate + 1e-9):
        seconds = score(tmp_path).columns["seconds"]
        assert len(seconds) == len(BEATS)
        assert np.abs(seconds - BEATS / RATE).max() <= tolerance
        record.annotate(np.rint(BEATS / RATE * rate).astype(int))


# Lists of recordings


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfr\nw/r\n", b"# recordings\nr\nw/r\n", b"r.hea\nw/r.hea\n", b"./r\nw//r\n", b"r\nw\\r\n",
        b"r\nw\n", b"r\r\n\r\nw/\r\n", b"  r \n w\\\n",
    ],
)  # fmt: skip
def test_a_list_may_be_written_in_several_ways(tmp_path: Path, content: bytes) -> None:
    OddRecord(tmp_path).write()
    OddRecord(tmp_path / "w").write()
    (tmp_path / "RECORDS").write_bytes(content)
    assert find_recordings(tmp_path) == recordings.recording_names(tmp_path) == ("r", "w/r")


@pytest.mark.parametrize("name", ["../other/q", "/etc/q", "w/../../other/q", "../other/", "./", "..\\other\\q"])
def test_a_list_names_nothing_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    OddRecord(tmp_path / "in").write()
    OddRecord(tmp_path / "other", "q").write()
    (tmp_path / "in" / "RECORDS").write_text(f"r\n{name}\n")
    for names in (find_recordings, recordings.recording_names):
        assert "is not below" in refusal(lambda names=names: names(tmp_path / "in"))


def test_two_spellings_of_one_recording_are_one(tmp_path: Path) -> None:
    OddRecord(tmp_path).write()
    (tmp_path / "RECORDS").write_text("r\n./r\n")
    assert find_recordings(tmp_path) == ("r",)
    assert "names r twice" in refusal(lambda: recordings.recording_names(tmp_path))


def test_a_header_in_capitals_is_not_left_out_without_a_word(tmp_path: Path) -> None:
    OddRecord(tmp_path).write()
    OddRecord(tmp_path, "B").write()
    (tmp_path / "B.hea").rename(tmp_path / "B.HEA")
    assert find_recordings(tmp_path) == ("B", "r")
    assert "B.HEA must be called B.hea" in refusal(lambda: score(tmp_path, name="B"))
    assert "B.HEA must be called B.hea" in refusal(lambda: recordings.recording_names(tmp_path))


def test_training_on_two_leads_reports_a_recording_of_one(tmp_path: Path) -> None:
    record = OddRecord(tmp_path, channels=[Channel(ecg())])
    record.write()
    record.annotate()
    assert mitdb.read(tmp_path, Options(leads=1), ["r"], tmp_path / "store").excluded == {}
    cohort = mitdb.read(tmp_path, Options(leads=2), ["r"], tmp_path / "store")
    assert cohort.excluded == {"recordings with 1 of 2 leads, the other left 0": 1}


def test_a_header_that_ends_as_in_dos_is_read(tmp_path: Path) -> None:
    OddRecord(tmp_path).write()
    with (tmp_path / "r.hea").open("ab") as header:
        header.write(b"\x1a")
    assert read_header(tmp_path / "r.hea").leads == ("II", "V5")


def test_a_folder_in_place_of_a_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.hea").mkdir()
    assert "r.hea is a folder" in refusal(lambda: score(tmp_path))


# Ages and persons


@pytest.mark.parametrize(
    ("comment", "age"),
    [
        ("# Age: 6 months", 0.5), ("# age: 18 mo", 1.5), ("# Age: 26w", 182 / 365.25), ("# age 73 days", 73 / 365.25),
        ("# Age (years): 45", 45), ("# Age in years: 45", 45), ("# age: 45 y", 45), ("# Age: 28,5", 28.5),
        ("# Age: >89", 90), ("# Age: > 89", 90), ("# age: -1", np.nan), ("# Age: -45", np.nan),
        ("# Age: 45-50", np.nan), ("# Age: <1", np.nan), ("# Age: 60+", 60), ("# 3 M KCl infusion", np.nan),
        ("# 69 M 1085 1629 x1", 69), ("# Age: 45 M", 45), ("# Age: 56 W", 56), ("# Age: 006M", 0.5),
        ("# Age: 6 m", np.nan), ("# Age: 1 year 6 months", 1.5), ("# Age: 45 y, 3 mo", 45.25),
        ("# Maternal age: 31", np.nan), ("# syncope at age 20", np.nan), ("# mother's age: 31", np.nan),
        ("# Gestational age: 38 weeks; age: 3 days", 3 / 365.25), ("# bone-age: 12, age: 14", 14),
        ("# Patient age: 61", 61),
    ],
)  # fmt: skip
def test_ages_are_in_years_or_unknown(tmp_path: Path, comment: str, age: float) -> None:
    OddRecord(tmp_path, comments=[comment]).write()
    np.testing.assert_allclose(read_age_and_sex(read_header(tmp_path / "r.hea"))[0], age)


@pytest.mark.parametrize(
    ("comment", "sex"),
    [("# Sex: woman", 0), ("# Gender: Man", 1), ("# Sex: male/female", -1), ("# Age: 45 M", 1), ("# Age: 45 W", 0)],
)  # fmt: skip
def test_sexes_in_words(tmp_path: Path, comment: str, sex: int) -> None:
    OddRecord(tmp_path, comments=[comment]).write()
    assert read_age_and_sex(read_header(tmp_path / "r.hea"))[1] == sex


@pytest.mark.parametrize(
    "comments",
    [("# patient 1", "# patient 01"), ("# Patient ID: A1", "# patient id: a1"), ("# MRN: 12", "# mrn 12"),
     ("# patient id: 7, ward 3", "# patient id: 7; ward 4"), ("# Patient-ID: 7", "# patient_id: 7"),
     ("# subject_id 7", "# Subject ID: 7 (female)"), ("# Participant 7", "# participant： 7"),
     ("# Pat.-Nr. 7", "# Pat-Nr 7"), ("# Patient name: Doe J", "# patient's name: DOE J")],
)  # fmt: skip
def test_spellings_of_one_patients_number_are_one_person(tmp_path: Path, comments: tuple[str, str]) -> None:
    for name, comment in zip("ab", comments, strict=True):
        OddRecord(tmp_path, name, [Channel(ecg() + ord(name))], comments=[comment]).write()
    persons = recording_persons(tmp_path, ("a", "b"))
    assert persons["a"] == persons["b"]


def test_a_name_that_is_not_known_joins_nobody(tmp_path: Path) -> None:
    for name in "ab":
        OddRecord(tmp_path, name, [Channel(ecg() + ord(name))], comments=["# Patient name: anonymous"]).write()
    persons = recording_persons(tmp_path, ("a", "b"))
    assert persons["a"] != persons["b"]


@pytest.mark.parametrize("ending", [".hea.gz", ".HEA.ZIP"])
def test_packed_headers_are_refused(tmp_path: Path, ending: str) -> None:
    OddRecord(tmp_path, "a", [Channel(ecg())]).write()
    (tmp_path / f"b{ending}").write_bytes(b"packed")
    with pytest.raises(DataError, match="1 headers are packed, such as b"):
        recordings.recording_names(tmp_path)


@pytest.mark.parametrize(
    ("names", "people"),
    [(("patient1_rec1", "patient1_rec2", "patient2_rec1"), 2), (("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"), 2),
     (("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"), 2), (("subject_1", "subject_2"), 2), (("pt1", "pt2"), 2)],
)  # fmt: skip
def test_names_that_begin_with_a_patient(tmp_path: Path, names: tuple[str, ...], people: int) -> None:
    for number, name in enumerate(names):
        OddRecord((tmp_path / name).parent, name.rpartition("/")[2], [Channel(ecg() + number)]).write()
    assert len(set(recording_persons(tmp_path, names).values())) == people
