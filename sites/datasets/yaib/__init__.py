"""Hourly intensive care of any hospital, in the layout of Yet Another ICU Benchmark (YAIB); `CARD` describes the data.

A hospital's folder holds three parquet files. `dyn`: columns `stay_id`, `time` (time from admission, or hours), and 48
variables in the units of sites/datasets/eicu/units.py, NaN where not measured in that hour; 25 rows a stay, hours 0 to
24. `sta`: `stay_id`, `age` (years), `sex`, `height` (cm), `weight` (kg). `outc`: `stay_id`, `label`, 1 for a death in
the unit after hour 24; scoring does not read it. A data folder of several hospitals holds a folder for each, whose
name is the hospital's, as in YAIB's `eicu_demo` and `mimic_demo`.

The files name stays, not people: a person with two stays counts as two. Inputs and classes are those of `eicu` with
`view: hours`, which has the persons and hospitals of the eICU demo.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites import cache, synthetic_folder
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets import eicu
from sites.datasets.eicu import hourly, public_ranges
from sites.datasets.yaib import simulate
from sites.unlabelled_rows import ALL_MISSING, Exclusion, ScorableRows, unlabelled_cohort

if TYPE_CHECKING:
    from sites.datasets import Source

CARD = DataCard(
    name="yaib",
    title="hourly intensive care in the layout of YAIB (Yet Another ICU Benchmark), task mortality24",
    inputs="48 variables in each of a stay's first 25 hours, and age, sex, height and weight",
    labels="death in the unit after the first day",
    sites="one folder a hospital",
    splits="none published; stays are split by the run's seed",
    source="https://github.com/rvandewater/YAIB (demo_data/mortality24)",
    citation="van de Water R et al. Yet Another ICU Benchmark, ICLR 2024; of the demo: Pollard TJ et al. Sci Data "
    "5:180178, 2018; Johnson A et al. eICU demo, PhysioNet; Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="of the demo: Open Database License (ODbL) v1.0; else the hospital's own",
    warning="The files name stays and not people: a person with several stays may be in training and in test.",
)
EVENT_SHARE = (0.0, 0.5)

VERSION = 3


class Options(Section):
    """Options of the channels, and of generated data."""

    carry: bool = Field(True, description="carry the last value forward")
    mask: bool = Field(True, description="0/1 channels for what was measured in this hour")
    simulated: bool = Field(False, description="without data.path: generate SYNTHETIC hospitals")
    hospitals: int = Field(4, ge=1, le=200, description="simulated: hospitals to generate")
    stays: int = Field(150, ge=20, le=10_000, description="simulated: stays a hospital, about")


def task(options: Options) -> Task:
    """Return the task, which is that of eicu's view hours."""
    return eicu.task(eicu.Options(view="hours", carry=options.carry, mask=options.mask))


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Return the public range of each input."""
    return public_ranges.hourly_ranges()


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of the generated hospitals, generating them first if needed."""
    folder = store / f"yaib-{options.hospitals}x{options.stays}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, hospitals=options.hospitals, stays=options.stays, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the stays, each as a separate person."""
    hospitals = _hospital_folders(folder)
    everyone = []
    for site, home in hospitals.items():
        arrays, _ = _load_stays(home, store, labelled=True)
        everyone += [
            Patient(name, name, (1 - died, died), site=site if len(hospitals) > 1 else None)
            for name, died in zip(_stay_ids(site, arrays), arrays["y"].tolist(), strict=True)
        ]
    return everyone


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the stays `ids`, in that order."""
    if not ids:
        raise DataError(f"{folder}: no examples to read: no stay was requested")
    parts: list[cache.Arrays] = []
    names: list[str] = []
    cleared: dict[str, int] = {}
    wanted = set(ids)
    for site, home in _hospital_folders(folder).items():
        arrays, reasons = _load_stays(home, store, labelled=True)
        stays = _stay_ids(site, arrays)
        chosen = [row for row, name in enumerate(stays) if name in wanted]
        names += [stays[row] for row in chosen]
        parts.append({name: values[chosen] for name, values in arrays.items() if name != "cleared"})
        for reason, number in zip(reasons, arrays["cleared"][chosen].sum(0).tolist(), strict=True):
            if number:
                cleared[reason] = cleared.get(reason, 0) + number
    row_by_name = {name: row for row, name in enumerate(names)}
    if wanted - set(row_by_name):
        raise DataError(f"{folder}: a requested stay is not there")
    order = [row_by_name[name] for name in ids]
    whole = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    return Cohort(
        task(options),
        hourly.build_channels(whole["x"], carry=options.carry, mask=options.mask),
        whole["features"],
        whole["y"],
        np.arange(len(ids)),
        tuple(ids),
        tuple(ids),
        np.full(len(ids), -1, np.int8),
        cleared,
        synthetic_folder.is_marked(folder),
        age=whole["features"][:, hourly.STATIC.index("age")],
        sex=whole["sex"],
    )


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the stays of a folder, a hospital at a time, without reading outcomes, for `wardround score`.

    Raises:
        DataError: no data there, or not in this layout.
    """
    options = source.options
    for site, home in _hospital_folders(source.folder).items():
        arrays, reasons = _load_stays(home, source.store, labelled=False)
        stays = np.asarray(_stay_ids(site, arrays), dtype=object)
        measured = np.isfinite(arrays["x"]).any((1, 2))
        number = arrays["cleared"].sum(0).tolist()
        cohort = unlabelled_cohort(
            source.task(),
            hourly.build_channels(arrays["x"][measured], carry=options.carry, mask=options.mask),
            arrays["features"][measured],
            tuple(stays[measured]),
            synthetic_folder.is_marked(source.folder),
            np.arange(int(measured.sum())),
        )
        exclusions = tuple(Exclusion(name, ALL_MISSING, rows=1) for name in stays[~measured])
        cleared = {reason: count for reason, count in zip(reasons, number, strict=True) if count}
        yield ScorableRows(cohort, {"record": stays[measured]}, exclusions, cleared=cleared)


def _hospital_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each hospital by name: those below `folder`, or `folder` itself.

    Raises:
        DataError: no folder, no hospital in it, or one whose tables are of another kind.
    """
    if not folder.is_dir():
        raise DataError(
            f"no data folder {folder}: give the folder that holds dyn.parquet, sta.parquet and outc.parquet"
        )
    if (folder / "dyn.parquet").is_file():
        return {folder.name: folder}
    hospitals = {path.parent.name: path.parent for path in sorted(folder.glob("*/dyn.parquet"))}
    for path in sorted(folder.glob("*/*")):
        if path.parent.name not in hospitals and path.name.lower().split(".")[0] in hourly.FILES:
            raise DataError(f"{path.parent} holds {path.name}, but no dyn.parquet: write its three tables as .parquet")
    if not hospitals:
        raise DataError(f"no recordings in {folder}: neither it nor a folder in it holds dyn.parquet")
    return hospitals


def _stay_ids(site: str, arrays: cache.Arrays) -> list[str]:
    return [f"{site}-{stay}" for stay in arrays["stay"].tolist()]


def _load_stays(home: Path, store: Path, *, labelled: bool) -> tuple[cache.Arrays, list[str]]:
    """Return the stays of a hospital, from the cache where they are there, and the names of the column `cleared`.

    The arrays are `stay`, `y`, `sex`, `features`, `x` and `cleared`: `(stays, names)`, numbers of implausible values.

    Raises:
        DataError: a file is missing, damaged, or not as YAIB writes it.
    """

    def prepare() -> tuple[cache.Arrays, dict[str, str]]:
        cohort = hourly.read_cohort(home, labelled=labelled)
        stays = cohort.stays
        arrays: cache.Arrays = {
            "stay": stays.index.to_numpy(np.int64),
            "y": stays["label"].to_numpy(np.int64),
            "sex": stays["male"].fillna(-1).to_numpy(np.int8),
            "features": stays[list(hourly.STATIC)].to_numpy(np.float32),
            "x": cohort.x,
            "cleared": np.stack([*cohort.cleared.values(), np.zeros(len(stays), np.int64)], 1)[:, :-1],
        }
        return arrays, {"cleared": json.dumps(list(cohort.cleared))}

    paths = hourly.cohort_files(home, labelled)
    try:
        key = cache.content_key(paths, {"version": VERSION, "labelled": labelled})
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None
    arrays, notes = cache.load_or_make(store, key, prepare)
    return arrays, json.loads(notes["cleared"])
