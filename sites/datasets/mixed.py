"""MIT-BIH and PTB-XL in one federation: normal against abnormal heartbeats of lead II; `CARD` describes the data.

A beat of MIT-BIH has its own label (N against S, V, F of ANSI/AAMI EC57). A beat of PTB-XL has that of its
recording: NORM alone against any other superclass. The two do not mean the same: the beats of an infarct may each look
regular, and a healthy heart has premature beats. This federation shows that label shift; read its figures per source.

`data.path` is the folder that holds both, as `mitdb` and `ptb-xl`; a hospital's own folder is one or the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient, join_cohorts
from sites.datasets import mitdb, ptbxl
from sites.ecg import beat_reader

CARD = DataCard(
    name="mixed",
    title="MIT-BIH Arrhythmia Database 1.0.0 and PTB-XL 1.0.3, beats of one lead",
    inputs="beats of one lead (MLII or II) at 125 Hz with interval features, as in mitdb's window view",
    labels="normal or abnormal: of the beat (MIT-BIH), of the whole recording (PTB-XL)",
    sites="mit-bih-1, mit-bih-2, ...: people of MIT-BIH, spread evenly; site-0, site-1, ...: PTB-XL's recording sites",
    splits="MIT-BIH: DS1 and DS2 of de Chazal 2004; PTB-XL: folds 1 to 8 train, 9 validation, 10 test",
    source="https://physionet.org/content/mitdb/1.0.0/ and https://physionet.org/content/ptb-xl/1.0.3/",
    citation="Moody GB, Mark RG. IEEE Eng Med Biol 20(3):45-50, 2001; Wagner P et al. Sci Data 7:154, 2020; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0 (MIT-BIH); CC BY 4.0 (PTB-XL)",
    warning="Abnormal describes each beat at the MIT-BIH hospitals and the whole recording at PTB-XL's: figures "
    "of the two do not answer the same question.",
)

FOLDERS = {"mitdb": "mitdb", "ptbxl": "ptb-xl"}


class Options(Section):
    """Options of the hospitals and of the beats."""

    mitbih_hospitals: int = Field(2, ge=1, le=20, description="hospitals over which the people of MIT-BIH are spread")
    smallest: int = Field(100, ge=1, description="PTB-XL sites of fewer people are merged as site-other")
    relative: bool = Field(True, description="add the difference from the recording's median beat")


def task(options: Options) -> Task:
    """Return the task: normal or abnormal, from beats of one lead."""
    beats = beat_reader.beat_task(_mitdb(options))
    return replace(beats, name="normal or abnormal beats of one lead")


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return all recordings of both sources, or of the one that a hospital's folder holds."""
    everyone: list[Patient] = []
    for name, module, home, inner in _sources(folder, options):
        patients = module.patients(home, inner, store)
        hospital = _spread(patients, options.mitbih_hospitals) if name == "mitdb" else {}
        everyone += [
            replace(
                item,
                id=f"{name}/{item.id}",
                person=f"{name}/{item.person}",
                site=hospital.get(item.person, item.site),
            )
            for item in patients
        ]
    return everyone


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats of the recordings `ids`, source after source."""
    parts = []
    for name, module, home, inner in _sources(folder, options):
        own_ids = [item.removeprefix(f"{name}/") for item in ids if item.startswith(f"{name}/")]
        if own_ids:
            cohort = module.read(home, inner, own_ids, store)
            parts.append(
                replace(
                    cohort,
                    task=task(options),
                    patients=tuple(f"{name}/{item}" for item in cohort.patients),
                    persons=tuple(f"{name}/{item}" for item in cohort.persons),
                )
            )
    if not parts:
        raise DataError(f"no recordings of {folder} to read")
    return join_cohorts(parts)


def _spread(people: Sequence[Patient], hospitals: int) -> dict[str, str]:
    """Return each person's hospital: equal numbers of the training and of the test people at each.

    The order within a side is by a digest of the person's name.
    """
    hospital: dict[str, str] = {}
    for side in ("train", "test", None):
        names = {item.person for item in people if item.published == side} - set(hospital)
        order = sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).hexdigest())
        hospital |= {name: f"mit-bih-{i % hospitals + 1}" for i, name in enumerate(order)}
    return hospital


def _sources(folder: Path, options: Options) -> list[tuple[str, Any, Path, Any]]:
    """Return the sources that are there: name, module, folder and options of each."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: it must hold mitdb and ptb-xl")
    modules: dict[str, tuple[Any, Any]] = {"mitdb": (mitdb, _mitdb(options)), "ptbxl": (ptbxl, _ptbxl(options))}
    sources = [
        (name, module, folder / FOLDERS[name], inner)
        for name, (module, inner) in modules.items()
        if (folder / FOLDERS[name]).is_dir()
    ]
    if sources:
        return sources
    name = "ptbxl" if (folder / "ptbxl_database.csv").is_file() else "mitdb"
    module, inner = modules[name]
    return [(name, module, folder, inner)]


def _mitdb(options: Options) -> beat_reader.Options:
    return beat_reader.Options(leads=1, relative=options.relative, target="abnormal")


def _ptbxl(options: Options) -> ptbxl.Options:
    return ptbxl.Options(task="norm", view="beats", relative=options.relative, smallest=options.smallest)
