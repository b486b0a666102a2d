"""PhysioNet/CinC Challenge 2019: early warning of sepsis, hour by hour; `CARD` describes the data.

An example is one hour of one patient, with that hour and those before it. The folder holds `training_setA` and
`training_setB` (or `training` with both); a hospital's own folder holds its `.psv` files, one a patient.

View `features`: one vector an hour (sites/datasets/sepsis/features.py). View `hours`: the last hours as a table, one
channel a variable, with what does not change as features. The worth of an alarm and of silence is in
sites/datasets/sepsis/utility.py.

Counted as excluded: a file without an hour; a file with the same bytes as another patient's; cells outside the limits
of sites/datasets/sepsis/columns.py, such as an FiO2 over 1, which become missing. Whole files are counted at the site
of their hospital's first patient, so that sites made from one hospital count each once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import memory_map
from sites.cohort import Cohort, DataCard, Patient, Windows
from sites.datasets.sepsis import features as sepsis_features
from sites.datasets.sepsis import hospitals, public_ranges, simulate, utility
from sites.datasets.sepsis.columns import AGE, GENDER, N_MEASURED
from sites.datasets.sepsis.hour_table import HourTable

if TYPE_CHECKING:
    from sites.datasets import Source
    from sites.unlabelled_rows import ScorableRows

CARD = DataCard(
    name="sepsis",
    title="PhysioNet/CinC Challenge 2019, early prediction of sepsis, 1.0.0",
    inputs="40 variables an hour of intensive care: 8 vital signs, 26 laboratory values, age, sex, unit, hours in "
    "hospital and in intensive care, in the units of sites/datasets/sepsis/columns.py; most laboratory values missing",
    labels="sepsis (Sepsis-3), from 6 hours before onset, or quiet; one label an hour",
    sites="two hospital systems: A (Beth Israel Deaconess Medical Center), B (Emory University Hospital)",
    splits="none published (the test sets stayed hidden); patients are split by the run's seed",
    source="https://physionet.org/content/challenge-2019/1.0.0/ (doi:10.13026/v64v-d857)",
    citation="Reyna MA et al. Crit Care Med 48(2):210-217, 2020; Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="CC BY 4.0",
    question="Which patients in intensive care will develop sepsis within the next 6 hours?",
    examples="hours of intensive care",
    years="about 2008 to 2018",
    setting="adults in intensive care, followed by the hour",
)

_BATCH = 4
EVENT_SHARE = (0.0, 0.5)
_Kind = Literal["features", "carried", "raw"]


class Options(Section):
    """Options of the inputs, and of generated data."""

    view: Literal["features", "hours"] = Field(
        "features", description="one vector an hour, or the last hours as a table"
    )
    hours: int = Field(12, ge=1, le=336, description="view hours: length of the table")
    carry: bool = Field(True, description="view hours: carry the last value forward")
    mask: bool = Field(True, description="view hours: 0/1 channels for what was measured in this hour")
    habit: bool = Field(
        True,
        description="use what reflects the hospital's habits: when and how often it measures, its units, hours since "
        "admission (and ICULOS)",
    )
    iculos: bool = Field(True, description="use the hours in intensive care")
    simulated: bool = Field(False, description="without data.path: generate two SYNTHETIC hospitals")
    patients: int = Field(200, ge=10, le=20_000, description="simulated: patients a hospital")


def task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
    hours = options.view == "hours"
    channels = _channels(options) if hours else ()
    return Task(
        name=f"sepsis 6 hours ahead, {options.view} view",
        kind="multiclass",
        classes=("quiet", "sepsis"),
        class_titles=("no sepsis within 6 hours", "sepsis within 6 hours, or begun"),
        channels=len(channels),
        samples=options.hours if hours else 0,
        rate_hz=1 / 3600 if hours else 0.0,
        features=_features(options),
        channel_names=channels,
        units=True,
        missing=True,
        utility=True,
    )


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Return the public range of each input."""
    inputs = task(options)
    return {name: public_ranges.range_of_input(name) for name in (*inputs.features, *inputs.channel_names)}


def _features(options: Options) -> tuple[str, ...]:
    names = sepsis_features.STATIC if options.view == "hours" else sepsis_features.FEATURES
    if not options.habit:
        return tuple(name for name in names if name in sepsis_features.CLINICAL)
    return names if options.iculos else names[: -len(sepsis_features.STAY)]


def _channels(options: Options) -> tuple[str, ...]:
    return sepsis_features.CHANNELS[: None if options.mask and options.habit else N_MEASURED]


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of the generated hospitals, generating them first if needed."""
    folder = store / f"sepsis-{options.patients}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, patients=options.patients, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return every patient with an hour, with the hours of each class."""
    everyone = []
    for hospital in hospitals.load_hospitals(folder, store):
        table = hospital.table
        sick = np.add.reduceat(table.label, table.first, dtype=np.int64)
        counts = zip((table.hours - sick).tolist(), sick.tolist(), strict=True)
        everyone += [
            Patient(name, name, count, site=hospital.site)
            for i, (name, count) in enumerate(zip(table.names, counts, strict=True))
            if i not in hospital.duplicates
        ]
    return everyone


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the hours of the patients `ids`, in that order."""
    if not ids:
        raise DataError(f"no recordings of {folder} to read")
    loaded = hospitals.load_hospitals(folder, store)
    index = {
        name: (k, i)
        for k, hospital in enumerate(loaded)
        for i, name in enumerate(hospital.table.names)
        if i not in hospital.duplicates
    }
    if unknown := [name for name in ids if name not in index]:
        raise DataError(f"{folder}: no patient {unknown[0]}: the .psv file is missing or excluded")
    chosen = [index[name] for name in ids]
    tables = [hospital.table for hospital in loaded]
    select = hospitals.PatientSelection(tables, chosen)
    label = select(lambda table: table.label)
    hours = np.concatenate([np.diff(select.edges[k][start : stop + 1]) for k, start, stop in select.runs])
    first = np.cumsum(hours) - hours
    inputs = task(options)
    width = len(inputs.features)
    x: npt.NDArray[np.float32] | Windows = np.zeros((len(label), 0, 0), np.float32)
    if options.view == "hours":
        kind: _Kind = "carried" if options.carry else "raw"
        rows = select(lambda table: _load_inputs(table, kind, store)[:, : inputs.channels])
        x = Windows(rows, np.arange(len(label)), np.repeat(first, hours), options.hours)
        features = sepsis_features.static_features(select(lambda table: table.rows))[:, :width]
    else:
        features = select(lambda table: _load_inputs(table, "features", store)[:, :width])
    age, sex = (np.array([tables[k].rows[tables[k].first[i], j] for k, i in chosen]) for j in (AGE, GENDER))
    return Cohort(
        inputs,
        x,
        features,
        label.astype(np.int64),
        np.repeat(np.arange(len(ids)), hours),
        tuple(ids),
        tuple(ids),
        np.full(len(label), -1, np.int8),
        hospitals.count_excluded(loaded, set(chosen)),
        any(hospital.synthetic for hospital in loaded),
        age,
        np.where(np.isnan(sex), -1, sex).astype(np.int8),
        utility.hourly_utility(label, first),
        np.ones(len(label), np.float32),
        utility.hours_until_sepsis(label, first),
    )


def _load_inputs(table: HourTable, kind: _Kind, store: Path) -> npt.NDArray[np.float32]:
    """Return the features or channels of every hour of a hospital, memory-mapped, computed first if needed."""
    settings = (table.key, kind, sepsis_features.VERSION)
    key = hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()
    if (stored := memory_map.open_tables(store, key)) is None:
        width = len(sepsis_features.FEATURES if kind == "features" else sepsis_features.CHANNELS)
        shape = (len(table.rows), width)
        memory_map.write_tables(store, key, {"rows": (shape, np.float32, _compute_inputs(table, kind))}, {})
        stored = memory_map.open_tables(store, key)
    if stored is None:
        raise DataError(f"prepared data vanished from {store}: keep other programs from clearing it")
    rows: npt.NDArray[np.float32] = stored[0]["rows"]
    return rows


def _compute_inputs(table: HourTable, kind: _Kind) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the features or channels of whole patients, block by block."""

    def compute(block: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        if kind == "features":
            return sepsis_features.compute_features(*block)
        return sepsis_features.compute_channels(*block, carry=kind == "carried")

    blocks = sepsis_features.patient_blocks(table.rows, table.first)
    with ThreadPoolExecutor(2) as pool:
        while batch := list(islice(blocks, _BATCH)):
            yield from pool.map(compute, batch)


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the rows of a folder, with or without labels, for `wardround score`.

    Raises:
        DataError: nothing is there, or it is not in this layout.
    """
    from sites.datasets.sepsis import unlabelled

    yield from unlabelled.read_unlabelled(source)
