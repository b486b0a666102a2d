"""The MIT-BIH Arrhythmia Database: beats of 47 people, in the five classes of AAMI EC57; `CARD` describes the data.

The paced recordings 102, 104, 107 and 217 are excluded by default (AAMI EC57). Recordings 201 and 202 are of one
person, and de Chazal's DS1 and DS2 hold one of them each. Lead MLII comes first where a recording has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import DataError
from sites.cohort import Cohort, DataCard, Patient
from sites.ecg import recordings
from sites.ecg.beat_reader import Options, beat_task, count_beats, read_beats
from sites.ecg.persons import recording_persons

__all__ = ["CARD", "Options", "patients", "read", "task"]

task = beat_task

CARD = DataCard(
    name="mitdb",
    title="MIT-BIH Arrhythmia Database 1.0.0",
    inputs="two-lead ambulatory ECG at 360 Hz, 48 recordings of 30 minutes, cut into beats",
    labels="beat classes N, S, V, F, Q of ANSI/AAMI EC57, from the beat annotations of two cardiologists",
    sites="one laboratory (Beth Israel Hospital, Boston); hospitals are made by partition of patients",
    splits="DS1 (training) and DS2 (test) of de Chazal 2004, by recording",
    source="https://physionet.org/content/mitdb/1.0.0/ (doi:10.13026/C2F305)",
    citation="Moody GB, Mark RG. IEEE Eng Med Biol 20(3):45-50, 2001; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0",
    question="Which heartbeats of an ambulatory ECG are abnormal, and of which kind?",
    examples="heartbeats",
    years="1975 to 1979",
    setting="about 60% inpatients and 40% outpatients of one hospital; about half of the recordings were chosen "
    "because they show rare arrhythmias",
)
DIVISIBLE_FOLDER = True

PACED = ("102", "104", "107", "217")
SAME_PERSON = {"201": "201+202", "202": "201+202"}
DS1 = (
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122",
    "124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230",
)  # fmt: skip
DS2 = (
    "100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210",
    "212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234",
)  # fmt: skip


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the recordings to use, with the beats of each class."""
    wanted = [name for name in recordings.recording_names(folder) if options.paced or name not in PACED]
    if not wanted:
        raise DataError(f"no recordings left in {folder}: all are paced; see data.options.paced")
    persons = recording_persons(folder, wanted)
    return [
        Patient(
            id=name,
            person=SAME_PERSON.get(name, persons[name]),
            examples=counts,
            published="train" if name in DS1 else "test" if name in DS2 else None,
        )
        for name, counts in zip(wanted, count_beats(folder, wanted, options, store), strict=True)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats of the recordings `ids`, in that order."""
    persons = recording_persons(folder, recordings.recording_names(folder))
    return read_beats(folder, options, ids, store, [SAME_PERSON.get(name, persons[name]) for name in ids])
