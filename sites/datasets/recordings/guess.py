"""Guessing the description of a folder of recordings from its files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.errors import DataError
from sites.datasets.recordings.description import Class, Description, LabelTable, Reading
from sites.datasets.recordings.owners import list_recordings
from sites.datasets.table.description import Text
from sites.datasets.table.examine import Finding, load_table
from sites.datasets.table.files import is_table_file
from sites.datasets.table.roles import AGE, HOSPITAL, PATIENT, SEX, describe_outcome, find_named, guess_outcome
from sites.datasets.table.roles import guess_sex as guess_sex_words
from sites.ecg import edf
from sites.ecg.annotation_file import read_annotation_file
from sites.ecg.annotations import AAMI_CLASSES, UNCLASSED, is_beat
from sites.ecg.beats import CLASS_TITLES
from sites.ecg.filtering import fill_gaps
from sites.ecg.headers import read_header
from sites.ecg.persons import person_by_name, recording_persons
from sites.ecg.r_peaks import detect_qrs
from sites.ecg.recordings import read_recording

MAX_LOOK = 500
"""Recordings whose annotations and headers are looked at."""
MAX_WAVES, WAVE_SECONDS, MIN_BEATS = 20, 60.0, 10
"""Recordings and seconds of each in which annotated beats are compared with detected R waves, and fewest of both."""
NEAR_WAVE_SECONDS, MIN_NEAR_WAVES = 0.15, 0.75
"""Distance that still is near, and the share of beats near an R wave: in MIT-BIH at least 0.97 of a recording's own
annotations, and at most 0.58 of another one's or of a clock of 250 Hz."""
NO_ANNOTATIONS = {"hea", "dat", "edf", "csv", "txt", "json", "yaml", "md", "xyz", "mat", "html", "pdf", "png"}
Kind = Literal["wfdb", "edf"]
PACED = "/"
"""Code of a paced beat."""
_NAME = re.compile(r"(recording|record|file|filename|file[ _]?name|ecg|ecg[ _]?id|study|name|id)([ _.-]?(id|name))?")
_PATIENT_FOLDER = re.compile(r"((patient|subject|person|pat|subj|sub|pt|p)[-_]?)?\d+", re.IGNORECASE)


@dataclass
class Look:
    """What a folder holds.

    Attributes:
        folder: the folder.
        names: its recordings.
        beats: number of beats of each code.
        rhythms: number of annotations of each rhythm.
        leads: number of recordings with each lead.
        rates: number of recordings of each sampling rate.
        paced: recordings with paced beats.
        persons: number of different patients.
        findings: what should be looked at.
    """

    folder: Path
    names: tuple[str, ...]
    beats: Counter[str] = field(default_factory=Counter)
    rhythms: Counter[str] = field(default_factory=Counter)
    leads: Counter[str] = field(default_factory=Counter)
    rates: Counter[float] = field(default_factory=Counter)
    paced: list[str] = field(default_factory=list)
    persons: int = 0
    findings: list[Finding] = field(default_factory=list)

    def say(self, level: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, "", text))


def holds_recordings(folder: Path) -> bool:
    """Return whether a folder, or a folder in it, holds WFDB or EDF recordings."""
    return folder.is_dir() and any(path.suffix.lower() in (".hea", edf.ENDING) for path in folder.rglob("*"))


def guess_description(folder: Path) -> tuple[Description, Look]:
    """Return a description of a folder of recordings, and what it holds.

    Raises:
        DataError: there are no recordings, or nothing says what could be predicted.
    """
    kind: Kind = "wfdb" if any(path.suffix.lower() == ".hea" for path in folder.rglob("*")) else "edf"
    names = list_recordings(folder, kind)
    look = Look(folder, names)
    if kind == "wfdb" and (others := sum(path.suffix.lower() == edf.ENDING for path in folder.rglob("*"))):
        look.say("check", f"{others} EDF files are left out, because there are WFDB recordings: move one of the two "
                 "kinds to a folder of its own")  # fmt: skip
    annotator = _guess_annotator(folder, names, kind, look)
    _look_at_headers(look, kind)
    if annotator is not None and kind == "wfdb":
        _check_waves(look, annotator)
    table, label_classes = _guess_table(folder, names, look)
    hospital, patient = _guess_folders(names, look)
    read = Reading(files=kind, annotator=annotator, table=table, patient=patient, hospital=hospital)
    persons = _count_persons(folder, names, read, look)
    look.persons = persons
    shared: dict[str, Any] = {"title": f"recordings in {folder.resolve().name}", "read": read}
    if classes := _beat_classes(look):
        shared["read"] = read.model_copy(update={"skip": tuple(look.paced)})
        return Description(**shared, examples="beats", labels="beats", classes=classes, target="heartbeats"), look
    leads = tuple(lead for lead, count in look.leads.most_common(12) if count == min(len(names), MAX_LOOK))
    if not leads:
        leads = tuple(lead for lead, _ in look.leads.most_common(1))
    strips = shared | {"examples": "strips", "strip_leads": leads or ("II",)}
    if len(label_classes) >= 2:
        return Description(**strips, labels="table", classes=label_classes, target="label of the recording"), look
    named = [name for name, _ in look.rhythms.most_common(10)]
    if len(named) >= 2:
        rhythm_classes = tuple(Class(name=_class_name(name, i), values=(name,)) for i, name in enumerate(named))
        return Description(**strips, labels="rhythms", classes=rhythm_classes, target="rhythm"), look
    raise DataError(
        f"{folder}: {len(names)} recordings, but nothing to predict: put annotations (NAME.atr) next to them, or a CSV "
        "file with the columns recording and label into the folder"
    )


def _guess_annotator(folder: Path, names: tuple[str, ...], kind: Kind, look: Look) -> str | None:
    """Return the ending of the annotation files that most recordings have, and count their beats and rhythms."""
    endings: Counter[str] = Counter()
    for name in names[:MAX_LOOK]:
        path = folder / name
        own = {item.name.rpartition(".")[2] for item in path.parent.glob(f"{path.name}.*") if item.is_file()}
        endings.update(ending for ending in own if ending.lower() not in NO_ANNOTATIONS and ending.isalnum())
    best: str | None = None
    for ending, count in sorted(endings.items(), key=lambda item: (item[0] != "atr", -item[1])):
        beats, rhythms, paced, read = _count_annotations(folder, names, ending)
        if read and (beats or rhythms) and count * 2 > min(len(names), MAX_LOOK):
            best, look.beats, look.rhythms, look.paced = ending, beats, rhythms, paced
            if more := [other for other in sorted(endings) if other != ending and _holds_beats(folder, names, other)]:
                look.say("check", f"annotations of .{ending} are used, and not those of .{', .'.join(more)}: correct "
                         "read.annotator if others are right")  # fmt: skip
            if read < min(len(names), MAX_LOOK):
                look.say("check", f"{min(len(names), MAX_LOOK) - read} recordings have no readable .{ending} file")
            break
    if best is None and kind == "edf":
        for name in names[:MAX_LOOK]:
            texts = edf.read_edf_recording(edf.edf_path(folder, name), name).note
            look.beats.update(text for text in texts if text in AAMI_CLASSES)
            look.rhythms.update(text for text in texts if text and text not in AAMI_CLASSES)
    return best


def _holds_beats(folder: Path, names: tuple[str, ...], ending: str) -> bool:
    beats, rhythms, _, _ = _count_annotations(folder, names, ending)
    return bool(beats or rhythms)


def _count_annotations(
    folder: Path, names: tuple[str, ...], ending: str
) -> tuple[Counter[str], Counter[str], list[str], int]:
    paced = []
    beats: Counter[str] = Counter()
    rhythms: Counter[str] = Counter()
    read = 0
    for name in names[:MAX_LOOK]:
        path = folder / f"{name}.{ending}"
        if not path.is_file():
            path = folder / f"{name}{edf.ENDING}.{ending}"
        try:
            content = read_annotation_file(path)
        except DataError:
            continue
        read += 1
        if PACED in content.symbol:
            paced.append(name)
        beats.update(symbol for symbol in content.symbol.tolist() if symbol in AAMI_CLASSES)
        for symbol, note in zip(content.symbol.tolist(), content.note, strict=True):
            if symbol == "+" and (rhythm := " ".join(note.replace("\0", " ").split())):
                rhythms[rhythm] += 1
    return beats, rhythms, paced, read


def _beat_classes(look: Look) -> tuple[Class, ...]:
    """Return the classes of AAMI EC57 that have a beat, with all of their codes, so that hospitals agree."""
    classes = []
    for letter, title in CLASS_TITLES.items():
        codes = tuple(code for code, own in AAMI_CLASSES.items() if own == letter)
        if any(look.beats[code] for code in codes):
            classes.append(Class(name=letter, title=title, values=codes))
    if look.beats[UNCLASSED]:
        look.say("note", f"{look.beats[UNCLASSED]} beats are annotated as without a class (?), and left out")
    if look.paced:
        look.say(
            "note", f"{len(look.paced)} recordings have paced beats ({PACED}) and are left out, as in EC57: read.skip"
        )
    return tuple(classes) if len(classes) >= 2 else ()


def _look_at_headers(look: Look, kind: Kind) -> None:
    wrong = []
    unused: Counter[str] = Counter()
    for name in look.names[:MAX_LOOK]:
        try:
            if kind == "wfdb":
                header = read_header(look.folder / f"{name}.hea")
                columns = header.ecg_columns() if header.channels else []
                channels = [header.channels[i] for i in columns]
                unused.update(channel.name for i, channel in enumerate(header.channels) if i not in columns)
                look.leads.update(list(dict.fromkeys(channel.name for channel in channels)))
                look.rates[header.rate] += 1
            else:
                recording = edf.read_edf_recording(edf.edf_path(look.folder, name), name)
                unused.update(edf.list_unused_signals(edf.edf_path(look.folder, name)))
                look.leads.update(list(dict.fromkeys(recording.leads)))
                look.rates[recording.rate] += 1
        except DataError as error:
            wrong.append(str(error))
    if unused:
        listed = ", ".join(f"{name or 'without a name'} ({count})" for name, count in unused.most_common(8))
        look.say("note", f"channels that are not read, because they are no ECG: {listed}")
    if wrong:
        look.say("wrong", f"{len(wrong)} recordings cannot be read, such as: {wrong[0]}")


def _check_waves(look: Look, annotator: str) -> None:
    """Report recordings whose annotated beats are not where R waves are detected."""
    wrong = judged = 0
    for name in look.names[:MAX_WAVES]:
        try:
            recording = read_recording(look.folder, name, annotator)
        except DataError:
            continue
        length = round(WAVE_SECONDS * recording.rate)
        sample = recording.sample[is_beat(recording.symbol) & (recording.sample < length)]
        waves = detect_qrs(fill_gaps(recording.signal[:length, :1])[0][:, 0], recording.rate)
        if len(sample) < MIN_BEATS or len(waves) < MIN_BEATS:
            continue
        at = np.searchsorted(waves, sample).clip(1, len(waves) - 1)
        distance = np.minimum(np.abs(waves[at] - sample), np.abs(waves[at - 1] - sample))
        judged += 1
        wrong += bool((distance <= NEAR_WAVE_SECONDS * recording.rate).mean() < MIN_NEAR_WAVES)
    if wrong:
        look.say("check", f"in {wrong} of {judged} recordings most beats are annotated where no R wave is detected: "
                 "are the annotations of another recording, or counted with another clock?")  # fmt: skip


def _guess_table(folder: Path, names: tuple[str, ...], look: Look) -> tuple[LabelTable | None, tuple[Class, ...]]:
    """Return the first table of the folder one of whose columns names the recordings, and its labels as classes."""
    stems = set(names)
    for path in sorted(item for item in folder.iterdir() if item.is_file() and is_table_file(item)):
        if path.suffix.lower() in (".dat", ".data", ".txt"):
            continue
        try:
            table = load_table(path)
        except DataError:
            continue
        best, share = "", 0.5
        for name, column in table.columns.items():
            own = {value.removesuffix(".hea").removesuffix(edf.ENDING) for value in column.values}
            matching = len(own & stems) / len(stems)
            if matching > share or (matching == share and best and _NAME.fullmatch(name.lower())):
                best, share = name, matching
        if not best:
            continue
        columns = table.columns
        patient = find_named(columns, PATIENT, lambda c: len(c.values) > 1, (best,))
        hospital = find_named(columns, HOSPITAL, lambda c: 1 < len(c.values) <= 1000, (best, patient))
        age = find_named(columns, AGE, lambda c: True, (best,))
        sex_column = find_named(columns, SEX, lambda c: len(c.values) <= 6, (best,))
        sex = guess_sex_words(table, sex_column) if sex_column else None
        label: Text | None = None
        classes: tuple[Class, ...] = ()
        try:
            label = guess_outcome(table, (best, patient, hospital, age, sex_column))
            outcome = describe_outcome(table, label)
            pairs = zip(outcome.names, outcome.values, strict=True)
            classes = tuple(Class(name=name, values=(value,)) for name, value in pairs)
        except DataError:
            look.say("note", f"{path.name} lists the recordings, but no column of it was recognised as the label")
        look.say("note", f"{path.name} lists {share:.0%} of the recordings")
        look.findings += table.findings
        reading = table.reading
        return (
            LabelTable(
                file=path.name,
                delimiter=reading.delimiter,
                decimal=reading.decimal,
                encoding=reading.encoding,
                missing=reading.missing,
                recording=best,
                label=label,
                patient=patient,
                hospital=hospital,
                age=age if age and table.numbers(age) is not None else None,
                sex=sex,
            ),
            classes,
        )
    return None, ()


def _guess_folders(names: tuple[str, ...], look: Look) -> tuple[Literal["whole", "folder"], Literal["header"]]:
    """Return whether folders are hospitals, and how patients are recognised."""
    tops = {name.split("/")[0] for name in names if "/" in name}
    nested = all("/" in name for name in names)
    if nested and 2 <= len(tops) <= 50 and not any(_PATIENT_FOLDER.fullmatch(top) for top in tops):
        look.say("check", f"each of the {len(tops)} folders is taken as a hospital: correct read.hospital if it is not")
        return "folder", "header"
    return "whole", "header"


def _count_persons(folder: Path, names: tuple[str, ...], read: Reading, look: Look) -> int:
    if read.table is not None and read.table.patient is not None:
        return 0
    if read.files == "wfdb":
        persons = recording_persons(folder, names)
    else:
        persons = {name: edf.read_edf_person(edf.edf_path(folder, name)).code or person_by_name(name) for name in names}
    count = len(set(persons.values()))
    if count < len(names):
        look.say("check", f"{len(names)} recordings seem to be of {count} patients: correct read.persons if not")
    else:
        look.say("check", "each recording seems to be of its own patient: if two are of one, say so under read.persons")
    return count


def _class_name(text: str, number: int) -> str:
    name = re.sub(r"[^A-Za-z0-9 _.+/-]", "", text).strip()[:40]
    return name if re.match(r"[A-Za-z0-9]", name) else f"rhythm {number}"
