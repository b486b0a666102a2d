"""MIT-BIH and PTB-XL in one federation: normal against abnormal heartbeats of lead II.

Data card
    Inputs    beats of one lead (MLII or II) at 125 Hz with their interval features; mitdb's window view.
    Labels    normal or abnormal. MIT-BIH: of the beat itself (N against S, V, F of ANSI/AAMI EC57). PTB-XL: of the
              whole recording (NORM alone against any other superclass), given to each of its beats.
    Sites     mit-bih-1, mit-bih-2, ...: people of MIT-BIH dealt evenly; site-0, site-1, ...: PTB-XL's own sites.
    Splits    MIT-BIH: DS1 and DS2 of de Chazal 2004; PTB-XL: folds 1 to 8, 9 and 10.
    Source    https://physionet.org/content/mitdb/1.0.0/ and https://physionet.org/content/ptb-xl/1.0.3/
    Citation  Moody and Mark 2001; Wagner et al. 2020; Goldberger et al. 2000.
    Licence   ODC-By 1.0 (MIT-BIH), CC BY 4.0 (PTB-XL)

The two labels do not mean the same: an infarct's beats may each look regular, and a healthy heart has a premature
beat. That is the domain shift this federation is there to show; its figures are read per source.
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
    inputs="beats of one lead (MLII or II) at 125 Hz with interval features",
    labels="normal or abnormal: of the beat (MIT-BIH), of the whole recording (PTB-XL)",
    sites="people of MIT-BIH dealt over hospitals, and PTB-XL's recording sites",
    splits="DS1 and DS2 of de Chazal 2004; PTB-XL's folds",
    source="https://physionet.org/content/mitdb/1.0.0/ and https://physionet.org/content/ptb-xl/1.0.3/",
    citation="Moody GB, Mark RG. IEEE Eng Med Biol 20(3):45-50, 2001; Wagner P et al. Sci Data 7:154, 2020; "
    "Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Data Commons Attribution License v1.0 (MIT-BIH); CC BY 4.0 (PTB-XL)",
    warning="Abnormal is said of each beat at the MIT-BIH hospitals and of the whole recording at PTB-XL's: figures "
    "of the two are not of the same question.",
)

FOLDERS = {"mitdb": "mitdb", "ptbxl": "ptb-xl"}


class Options(Section):
    """Options of the hospitals and of the beats."""

    mitbih_hospitals: int = Field(2, ge=1, le=20, description="hospitals over which MIT-BIH's people are dealt")
    smallest: int = Field(100, ge=1, description="PTB-XL sites of fewer people are taken together as site-other")
    relative: bool = Field(True, description="add what is relative to the recording's median beat")


def task(options: Options) -> Task:
    """Return what is predicted from what: of beats of one lead, normal or abnormal."""
    beats = beat_reader.beat_task(_mitdb(options))
    return replace(beats, name="normal or abnormal beats of one lead")


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return everyone of both sources, or of the one that a hospital's folder holds."""
    found: list[Patient] = []
    for name, module, place, inner in _sources(folder, options):
        here = module.patients(place, inner, store)
        dealt = _dealt(here, options.mitbih_hospitals) if name == "mitdb" else {}
        found += [
            replace(
                item,
                id=f"{name}/{item.id}",
                person=f"{name}/{item.person}",
                site=dealt.get(item.person, item.site),
            )
            for item in here
        ]
    return found


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats of the recordings `ids`, source after source."""
    parts = []
    for name, module, place, inner in _sources(folder, options):
        mine = [item.removeprefix(f"{name}/") for item in ids if item.startswith(f"{name}/")]
        if mine:
            found = module.read(place, inner, mine, store)
            parts.append(
                replace(
                    found,
                    task=task(options),
                    patients=tuple(f"{name}/{item}" for item in found.patients),
                    persons=tuple(f"{name}/{item}" for item in found.persons),
                )
            )
    if not parts:
        raise DataError(f"no recordings of {folder} to read")
    return join_cohorts(parts)


def _dealt(people: Sequence[Patient], hospitals: int) -> dict[str, str]:
    """Return each person's hospital: as many to each, whoever else is there, on both published sides."""
    place: dict[str, str] = {}
    for side in ("train", "test", None):
        names = {item.person for item in people if item.published == side} - set(place)
        order = sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).hexdigest())
        place |= {name: f"mit-bih-{i % hospitals + 1}" for i, name in enumerate(order)}
    return place


def _sources(folder: Path, options: Options) -> list[tuple[str, Any, Path, Any]]:
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: it must hold mitdb and ptb-xl")
    modules: dict[str, tuple[Any, Any]] = {"mitdb": (mitdb, _mitdb(options)), "ptbxl": (ptbxl, _ptbxl(options))}
    found = [(name, *modules[name], folder / FOLDERS[name]) for name in modules if (folder / FOLDERS[name]).is_dir()]
    if not found:
        name = "ptbxl" if (folder / "ptbxl_database.csv").is_file() else "mitdb"
        found = [(name, *modules[name], folder)]
    return [(name, module, place, inner) for name, module, inner, place in found]


def _mitdb(options: Options) -> beat_reader.Options:
    return beat_reader.Options(leads=1, relative=options.relative, target="abnormal")


def _ptbxl(options: Options) -> ptbxl.Options:
    return ptbxl.Options(task="norm", view="beats", relative=options.relative, smallest=options.smallest)
