"""SYNTHETIC hospitals: generated WFDB recordings, the default that needs no download; `CARD` describes them.

No figure from these data says anything about patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient, join_cohorts
from sites.ecg import beat_reader, recordings
from sites.ecg.beat_reader import count_beats, read_beats
from sites.ecg.simulate import hospitals as generator
from sites.ecg.simulate.profiles import default_profiles

CARD = DataCard(
    name="synthetic",
    title="SYNTHETIC simulated hospitals",
    inputs="two-lead simulated ECG (McSharry 2003) at 250 to 500 Hz by hospital, cut into beats",
    labels="beat classes N, S, V, F of ANSI/AAMI EC57, known by construction",
    sites="generated hospitals that differ in gain, noise, sampling rate, leads and case mix",
    splits="none published; patients are split by the run's seed",
    source="sites/ecg/simulate/hospitals.py of this program; no patient was recorded",
    citation="McSharry PE, Clifford GD, Tarassenko L, Smith LA. IEEE Trans Biomed Eng 50(3):289-294, 2003",
    licence="Apache-2.0",
    synthetic=True,
)
DIVISIBLE_FOLDER = True


class Options(Section):
    """Options of the beats, and of generated data."""

    view: Literal["window", "kachuee"] = Field("window", description="see sites/ecg/beats.py")
    leads: int = Field(2, ge=1, le=2, description="leads to use, MLII first")
    relative: bool = Field(True, description="window view: add the difference from the recording's median beat")
    shape: int = Field(0, ge=0, le=2, description="window view: leads whose waves are measured, as in mitdb")
    causal: bool = Field(False, description="window view: describe each beat by earlier beats only, as in mitdb")
    classes: Literal["NSVF", "NSVFQ"] = "NSVF"
    hospitals: int = Field(4, ge=1, le=200, description="hospitals to generate")
    patients: int = Field(10, ge=1, le=500, description="patients a hospital, about")
    minutes: float = Field(5.0, ge=0.1, le=1440, description="minutes of ECG a patient")


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of the generated hospitals, generating them first if needed."""
    name = f"{options.hospitals}x{options.patients}x{options.minutes:g}min-seed{seed}-v{generator.VERSION}"
    folder = store / f"synthetic-{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    profiles = default_profiles(options.hospitals, options.patients, seed)
    generator.generate(folder, profiles, minutes=options.minutes, seed=seed)
    return folder


def task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
    return beat_reader.beat_task(_beat_options(options))


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return all recordings in the folder: of its hospitals' subfolders, or its own if it is one hospital's."""
    everyone = []
    for site, home in _hospitals(folder).items():
        names = recordings.recording_names(home)
        counts = count_beats(home, names, _beat_options(options), store)
        everyone += [Patient(name, name, count, site=site) for name, count in zip(names, counts, strict=True)]
    return everyone


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the beats of the recordings `ids`, in the order of their hospitals."""
    wanted = set(ids)
    parts = []
    for home in _hospitals(folder).values():
        names = [name for name in recordings.recording_names(home) if name in wanted]
        if names:
            parts.append(read_beats(home, _beat_options(options), names, store, names))
    return join_cohorts(parts)


def _hospitals(folder: Path) -> dict[str | None, Path]:
    """Return the folder of each hospital by name; None if `folder` itself is one hospital's."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: make one with wardround data synth {folder}")
    inner = sorted(path for path in folder.iterdir() if (path / "RECORDS").is_file())
    if not inner or (folder / "RECORDS").is_file():
        return {None: folder}
    return {path.name: path for path in inner}


def _beat_options(options: Options) -> beat_reader.Options:
    shared = {name: getattr(options, name) for name in ("view", "leads", "relative", "shape", "causal", "classes")}
    return beat_reader.Options(**shared, paced=True)
