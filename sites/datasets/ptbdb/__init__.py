"""The PTB Diagnostic ECG Database: infarction and health, by beat or by strip.

Data card
    Inputs    15-lead ECG (12 standard, 3 Frank), 1000 Hz, 549 recordings of 290 people, most of two minutes;
              `task: beats`: lead II at 125 Hz, from an R peak on, 187 samples scaled to [0, 1];
              `task: record`: strips of 10 s of the 12 leads at 100 or 125 Hz, 0.5 to 40 Hz, mV.
    Labels    from "Reason for admission" in the header. beats: those of healthy controls against all others;
              record: myocardial infarction against healthy control, other diagnoses left out and counted.
    Sites     one laboratory (PTB, Berlin, with Benjamin Franklin hospital): hospitals are made by partition.
    Splits    none published: people are split by the run's seed.
    Source    https://physionet.org/content/ptbdb/1.0.0/  doi:10.13026/C28C71
    Citation  Bousseljot, Kreiseler, Schnabel 1995, Biomed Tech 40(s1):317; Goldberger et al. 2000, Circ. 101(23).
    Licence   Open Data Commons Attribution License 1.0

A recording is `patientNNN/sNNNN.{hea,dat,xyz}`; the person is the folder. Beats are cut as in Kachuee, Fazeli,
Sarrafzadeh 2018 (arXiv:1805.00794), R peaks found by their own steps (sites/ecg/r_peaks.py); `abnormal: infarction`
leaves out all diagnoses but the two that the paper compares. CONTROLS is not read: the headers say the same.
The zero-phase high-pass at 0.5 Hz keeps the ST segment within what AHA 2007 allows (Kligfield et al., Circ. 115:1306).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from common.errors import ConfigError, DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.ptbdb import recordings as ptbdb_records
from sites.datasets.ptbdb import simulate
from sites.datasets.ptbdb.recordings import STRIP_SECONDS, parse_summary
from sites.ecg import beats
from sites.ecg import recordings as records
from sites.ecg.leads import STANDARD, Header, Lead, read_header

CARD = DataCard(
    name="ptbdb",
    title="PTB Diagnostic ECG Database 1.0.0",
    inputs="15-lead ECG at 1000 Hz, 549 recordings of 290 people, cut into beats of lead II or 12-lead strips of 10 s",
    labels="normal or abnormal beats by the person's diagnosis; or myocardial infarction against healthy control",
    sites="one laboratory; hospitals are made by partition of patients",
    splits="none published; patients are split by the run's seed",
    source="https://physionet.org/content/ptbdb/1.0.0/ (doi:10.13026/C28C71)",
    citation="Bousseljot R, Kreiseler D, Schnabel A. Biomed Tech 40(s1):317, 1995; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0",
)

HEALTHY, INFARCTION = "healthy control", "myocardial infarction"
NO_DIAGNOSIS, OTHER_DIAGNOSIS = "recordings without a diagnosis", "recordings of another diagnosis"


class Options(Section):
    """Options of what is told apart, and of what is generated where asked for."""

    task: Literal["beats", "record"] = Field("beats", description="beats of lead II, or strips of 10 s")
    abnormal: Literal["any", "infarction"] = Field(
        "any", description="task beats: every diagnosis is abnormal, or only infarction (the others are left out)"
    )
    peaks: Literal["kachuee", "qrs"] = Field(
        "kachuee", description="task beats: how R peaks are found; qrs finds all of them (sites/ecg/r_peaks.py)"
    )
    rate: Literal[100, 125] = Field(100, description="task record: Hz")
    leads: tuple[Lead, ...] = Field(STANDARD, min_length=1, description="task record: the leads to use")
    simulated: bool = Field(False, description="without data.path: generate people in the same layout")
    patients: int = Field(120, ge=2, le=2000, description="simulated: people")
    seconds: float = Field(30.0, ge=10, le=600, description="simulated: seconds a recording")


def task(options: Options) -> Task:
    """Return what is predicted from what."""
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


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of generated people, generating them first where they are not there.

    Raises:
        ConfigError: no generated data were asked for.
    """
    if not options.simulated:
        raise ConfigError(
            "data.path: say where ptbdb lies on this machine, as in --set data.path=data/ptbdb, "
            "or data.options.simulated=true for SYNTHETIC data"
        )
    made = f"{options.patients}x{options.seconds:g}s-seed{seed}-v{simulate.VERSION}"
    folder = store / f"ptbdb-{made}"
    simulate.generate(folder, patients=options.patients, seconds=options.seconds, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return all recordings with what they count; one without examples is there to be counted as left out."""
    names = _names(folder)
    return [
        Patient(id=name, person=name.partition("/")[0], examples=_counts(about, options))
        for name, (_, about) in zip(names, _prepared(folder, names, options, store, arrays=False), strict=True)
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats or strips of the recordings `ids`, in that order, without a split."""
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    parts = _prepared(folder, ids, options, store, arrays=True)
    what = task(options)
    sizes = [sum(_counts(about, options)) for _, about in parts]
    total = sum(sizes)
    x = np.zeros((total, what.channels, what.samples), dtype=np.float32)
    excluded: dict[str, int] = {}
    at = 0
    for (arrays, about), size in zip(parts, sizes, strict=True):
        if size:
            x[at : at + size] = arrays["x"]
        at += size
        for line in about["excluded"].splitlines():
            number, _, why = line.partition("\t")
            excluded[why] = excluded.get(why, 0) + int(number)
    label = np.asarray([max(_label(about["reason"], options), 0) for _, about in parts], dtype=np.int64)
    return Cohort(
        what,
        x,
        np.zeros((total, 0), dtype=np.float32),
        np.repeat(label, sizes),
        np.repeat(np.arange(len(parts)), sizes),
        tuple(ids),
        tuple(name.partition("/")[0] for name in ids),
        np.full(total, -1, np.int8),
        excluded,
        synthetic_folder.is_marked(folder) or any(about["synthetic"] == "yes" for _, about in parts),
        age=np.asarray([float(about["age"]) for _, about in parts], dtype=np.float32),
        sex=np.asarray([int(about["sex"]) for _, about in parts], dtype=np.int8),
    )


def _names(folder: Path) -> list[str]:
    """Return the recordings as `patientNNN/sNNNN`: those RECORDS lists, or else every header of a folder, sorted."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: give the folder that holds the patients' folders (patient001, ...)")
    if (folder / "RECORDS").is_file():
        found = list(records.recording_names(folder))
    else:
        found = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.hea"))
    if not found:
        raise DataError(f"no recordings in {folder}: PTB's lie one folder deep, as in patient001/s0010_re.hea")
    owner: dict[str, str] = {}
    for name in found:
        person, slash, recording = name.rpartition("/")
        if not slash:
            raise DataError(f"{folder} / {name}: a recording must lie in its patient's folder (patient001, ...)")
        if owner.setdefault(recording, person) != person:
            raise DataError(
                f"{folder}: {recording} lies in {owner[recording]} and in {person}: one recording belongs to one "
                "person; remove the wrong copy"
            )
    return found


def _counts(about: dict[str, str], options: Options) -> tuple[int, ...]:
    count, label = int(about["count"]), _label(about["reason"], options)
    return (count if label == 0 else 0, count if label == 1 else 0)


def _label(reason: str, options: Options) -> int:
    """Return 0 for a healthy control, 1 for who is told apart from them, -1 for who is left out."""
    if reason in (HEALTHY, INFARCTION):
        return int(reason == INFARCTION)
    return 1 if reason and options.task == "beats" and options.abnormal == "any" else -1


def _prepared(
    folder: Path, names: Sequence[str], options: Options, store: Path, *, arrays: bool
) -> list[tuple[cache.Arrays, dict[str, str]]]:
    wanted = ("II",) if options.task == "beats" else options.leads
    settings: dict[str, Any] = {"version": ptbdb_records.VERSION, "beats": beats.VERSION, "task": options.task}
    settings |= {"peaks": options.peaks} if options.task == "beats" else {"rate": options.rate, "leads": wanted}

    def one(name: str) -> tuple[cache.Arrays, dict[str, str]]:
        header = read_header(folder / f"{name}.hea")
        known = parse_summary(header)
        about = {
            "reason": known.reason,
            "age": str(known.age),
            "sex": str(known.sex),
            "synthetic": "yes" if any("SYNTHETIC" in line for line in header.comments) else "no",
        }
        if _label(known.reason, options) < 0:
            why = OTHER_DIAGNOSIS if known.reason else NO_DIAGNOSIS
            return {}, about | {"count": "0", "excluded": f"1\t{why}"}
        key = cache.content_key([header.path, *header.signal_files(wanted)], settings)
        held = None if arrays else cache.read_notes(store, key)
        if held is not None:
            return {}, held | about
        found, notes = cache.load_or_make(store, key, lambda: _prepare(header, options))
        return found, notes | about

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, names))


def _prepare(header: Header, options: Options) -> tuple[cache.Arrays, dict[str, str]]:
    if options.task == "beats":
        x, excluded = ptbdb_records.cut_beats(header, options.peaks)
    else:
        x, excluded = ptbdb_records.cut_strips(header, options.leads, options.rate)
    lines = "\n".join(f"{number}\t{why}" for why, number in excluded.items())
    return {"x": x}, {"count": str(len(x)), "excluded": lines}
