"""The PTB Diagnostic ECG Database: infarction and health, by beat or by strip; `CARD` describes the data.

`task: beats`: lead II at 125 Hz, 187 samples from an R peak on, scaled to [0, 1]; the beats of healthy controls
against all others. `task: record`: strips of 10 s of the 12 leads at 100 or 125 Hz, 0.5 to 40 Hz, mV; myocardial
infarction against healthy control, with other diagnoses excluded and counted. Labels come from "Reason for admission"
in the header.

A recording is `patientNNN/sNNNN.{hea,dat,xyz}`; the person is the folder. Beats are cut as in Kachuee, Fazeli,
Sarrafzadeh 2018 (arXiv:1805.00794), with R peaks detected by their own steps (sites/ecg/r_peaks.py); `abnormal:
infarction` excludes all diagnoses but the two that the paper compares. CONTROLS is not read: the headers hold the
same. The zero-phase high-pass at 0.5 Hz keeps the ST segment within what AHA 2007 allows (Kligfield et al., Circ.
115:1306).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.ptbdb import recordings as ptbdb_records
from sites.datasets.ptbdb import simulate
from sites.datasets.ptbdb.recordings import STRIP_BAND, STRIP_SECONDS, parse_summary
from sites.ecg import beats
from sites.ecg import recordings as records
from sites.ecg.headers import Header, read_header
from sites.ecg.leads import STANDARD, Lead

CARD = DataCard(
    name="ptbdb",
    title="PTB Diagnostic ECG Database 1.0.0",
    inputs="15-lead ECG (12 standard, 3 Frank) at 1000 Hz, 549 recordings of 290 people, most of two minutes, cut into "
    "beats of lead II or 12-lead strips of 10 s",
    labels="normal or abnormal beats by the person's diagnosis; or myocardial infarction against healthy control",
    sites="one laboratory (PTB, Berlin, with Benjamin Franklin hospital); hospitals are made by partition of patients",
    splits="none published; patients are split by the run's seed",
    source="https://physionet.org/content/ptbdb/1.0.0/ (doi:10.13026/C28C71)",
    citation="Bousseljot R, Kreiseler D, Schnabel A. Biomed Tech 40(s1):317, 1995; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0",
)

HEALTHY, INFARCTION = ptbdb_records.KNOWN_REASONS
NO_DIAGNOSIS, OTHER_DIAGNOSIS = "recordings without a diagnosis", "recordings of another diagnosis"


class Options(Section):
    """Options of the classes and the inputs, and of generated data."""

    task: Literal["beats", "record"] = Field("beats", description="beats of lead II, or strips of 10 s")
    abnormal: Literal["any", "infarction"] = Field(
        "any", description="task beats: every diagnosis is abnormal, or only infarction (the others are excluded)"
    )
    peaks: Literal["kachuee", "qrs"] = Field(
        "kachuee", description="task beats: how R peaks are detected; qrs detects all of them (sites/ecg/r_peaks.py)"
    )
    rate: Literal[100, 125] = Field(100, description="task record: Hz")
    leads: tuple[Lead, ...] = Field(STANDARD, min_length=1, description="task record: the leads to use")
    simulated: bool = Field(False, description="without data.path: generate people in the same layout")
    patients: int = Field(120, ge=2, le=2000, description="simulated: people")
    seconds: float = Field(30.0, ge=10, le=600, description="simulated: seconds a recording")


def task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
    if options.task == "record":
        return Task(
            name="PTB, myocardial infarction against healthy control",
            kind="multiclass",
            classes=("HC", "MI"),
            class_titles=(HEALTHY, INFARCTION),
            channels=len(options.leads),
            samples=STRIP_SECONDS * options.rate,
            rate_hz=float(options.rate),
            features=(),
            channel_names=options.leads,
        )
    return Task(
        name=f"PTB, normal against abnormal beats ({options.abnormal})",
        kind="multiclass",
        classes=("normal", "abnormal"),
        class_titles=("beat of a healthy control", "beat of an ill person"),
        channels=1,
        samples=beats.KACHUEE_SAMPLES,
        rate_hz=beats.RATE,
        features=(),
        channel_names=("II",),
    )


def strip_band(options: Options) -> tuple[float, float]:
    """Return the pass band of strips, Hz."""
    return STRIP_BAND


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated people, generating them first if needed."""
    name = f"{options.patients}x{options.seconds:g}s-seed{seed}-v{simulate.VERSION}"
    folder = store / f"ptbdb-{name}"
    simulate.generate(folder, patients=options.patients, seconds=options.seconds, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return all recordings with their examples; one without any is listed, so that it is counted as excluded."""
    names = _recording_names(folder)
    return [
        Patient(id=name, person=name.partition("/")[0], examples=_count_classes(notes, options))
        for name, (_, notes) in zip(names, _load_recordings(folder, names, options, store, arrays=False), strict=True)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats or strips of the recordings `ids`, in that order."""
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    parts = _load_recordings(folder, ids, options, store, arrays=True)
    inputs = task(options)
    sizes = [sum(_count_classes(notes, options)) for _, notes in parts]
    total = sum(sizes)
    x = np.zeros((total, inputs.channels, inputs.samples), dtype=np.float32)
    excluded: dict[str, int] = {}
    start = 0
    for (arrays, notes), size in zip(parts, sizes, strict=True):
        if size:
            x[start : start + size] = arrays["x"]
        start += size
        for line in notes["excluded"].splitlines():
            number, _, reason = line.partition("\t")
            excluded[reason] = excluded.get(reason, 0) + int(number)
    label = np.asarray([max(_label(notes["reason"], options), 0) for _, notes in parts], dtype=np.int64)
    return Cohort(
        inputs,
        x,
        np.zeros((total, 0), dtype=np.float32),
        np.repeat(label, sizes),
        np.repeat(np.arange(len(parts)), sizes),
        tuple(ids),
        tuple(name.partition("/")[0] for name in ids),
        np.full(total, -1, np.int8),
        excluded,
        synthetic_folder.is_marked(folder) or any(notes["synthetic"] == "yes" for _, notes in parts),
        age=np.asarray([float(notes["age"]) for _, notes in parts], dtype=np.float32),
        sex=np.asarray([int(notes["sex"]) for _, notes in parts], dtype=np.int8),
    )


def _recording_names(folder: Path) -> list[str]:
    """Return the recordings as `patientNNN/sNNNN`: those listed in RECORDS, or else every header, sorted.

    Raises:
        DataError: there is none, or one is not in its patient's folder, or in two patients' folders.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients' folders (patient001, ...)")
    if (folder / "RECORDS").is_file():
        names = list(records.recording_names(folder))
    else:
        names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/[!.]*.hea"))
        deeper = sorted([*folder.glob("[!.]*.hea"), *folder.glob("*/*/[!.]*.hea")])
        if names and deeper:
            raise DataError(f"{deeper[0]} is not in a patient's folder below {folder} (patient001, ...): move it there")
    if not names:
        raise DataError(f"no recordings in {folder}: PTB's are one folder deep, as in patient001/s0010_re.hea")
    owner: dict[str, str] = {}
    for name in names:
        person, slash, recording = name.rpartition("/")
        if not slash:
            raise DataError(f"{folder} / {name}: a recording must be in its patient's folder (patient001, ...)")
        if owner.setdefault(recording, person) != person:
            raise DataError(
                f"{folder}: {recording} is in {owner[recording]} and in {person}: one recording belongs to one "
                "person; remove the wrong copy"
            )
    return names


def _count_classes(notes: dict[str, str], options: Options) -> tuple[int, ...]:
    """Return the number of examples of each class."""
    count, label = int(notes["count"]), _label(notes["reason"], options)
    return (count if label == 0 else 0, count if label == 1 else 0)


def _label(reason: str, options: Options) -> int:
    """Return the label of a reason for admission: 0 healthy control, 1 the other class, -1 excluded."""
    if reason in (HEALTHY, INFARCTION):
        return int(reason == INFARCTION)
    return 1 if reason and options.task == "beats" and options.abnormal == "any" else -1


def _load_recordings(
    folder: Path, names: Sequence[str], options: Options, store: Path, *, arrays: bool
) -> list[tuple[cache.Arrays, dict[str, str]]]:
    """Return the examples (without `arrays`: none) and the notes of some recordings."""
    wanted = ("II",) if options.task == "beats" else options.leads
    settings: dict[str, Any] = {"version": ptbdb_records.VERSION, "beats": beats.VERSION, "task": options.task}
    settings |= {"peaks": options.peaks} if options.task == "beats" else {"rate": options.rate, "leads": wanted}

    def load(name: str) -> tuple[cache.Arrays, dict[str, str]]:
        header = read_header(folder / f"{name}.hea")
        summary = parse_summary(header)
        notes = {
            "reason": summary.reason,
            "age": str(summary.age),
            "sex": str(summary.sex),
            "synthetic": "yes" if any("SYNTHETIC" in line for line in header.comments) else "no",
        }
        if _label(summary.reason, options) < 0:
            reason = OTHER_DIAGNOSIS if summary.reason else NO_DIAGNOSIS
            return {}, notes | {"count": "0", "excluded": f"1\t{reason}"}
        key = cache.content_key([header.path, *header.signal_files(wanted)], settings)
        cached = None if arrays else cache.read_notes(store, key)
        if cached is not None:
            return {}, cached | notes
        examples, cached = cache.load_or_make(store, key, lambda: _prepare(header, options))
        return examples, cached | notes

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(load, names))


def _prepare(header: Header, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    if options.task == "beats":
        x, excluded = ptbdb_records.cut_beats(header, options.peaks)
    else:
        x, excluded = ptbdb_records.cut_strips(header, options.leads, options.rate)
    lines = "\n".join(f"{number}\t{reason}" for reason, number in excluded.items())
    return {"x": x}, {"count": str(len(x)), "excluded": lines}
