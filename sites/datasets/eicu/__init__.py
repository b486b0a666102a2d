"""The eICU Collaborative Research Database: death in hospital, from an intensive care stay's first day.

Data card
    Inputs    view day: APACHE's variables of the first day (17 measured, coma scale, ventilation, chronic disease,
              admission); NaN where not measured. View hours: 48 variables in hours 0 to 24
              (sites/datasets/eicu/hourly.py).
    Labels    view day: death in hospital. View hours: death in the unit after hour 24, as YAIB derived it.
    Sites     the demo's 186 hospitals, or the regions of the United States that they lie in.
    Splits    none published; use sites.split=folds: folds of whole hospitals (and of whole persons).
    Source    https://physionet.org/content/eicu-crd-demo/2.0.1/ ; hours: https://github.com/rvandewater/YAIB
    Citation  Pollard et al. 2018, Sci Data 5:180178; Johnson et al., eICU demo, PhysioNet; van de Water et al. 2024,
              ICLR; Goldberger et al. 2000, Circ. 101(23):e215.
    Licence   Open Database License 1.0 (the demo; the full database needs a data use agreement)

A data folder holds the tables as published, patient.csv.gz, hospital.csv.gz, apacheApsVar.csv.gz and
apachePredVar.csv.gz, itself or in `eicu-crd-demo`; at a hospital, its own rows of them. The hourly cohort lies in
`yaib-demo` inside of that folder or beside it: a run's configuration cannot name another place. -1 means missing.
Columns that hold the outcome, or are known only after the first day, are refused by name and never read.
Hospitals whose region is not known make up a region of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from common.errors import ConfigError, DataError
from common.settings import Section
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.eicu import features, hourly, public_ranges
from sites.datasets.eicu import hospitals as eicu_places
from sites.datasets.eicu import stays as eicu_stays

CARD = DataCard(
    name="eicu",
    title="eICU Collaborative Research Database, demo 2.0",
    inputs="APACHE variables of the first day of an intensive care stay, or 48 variables in each of its first 25 hours",
    labels="death in hospital (view day); death in the unit after the first day (view hours)",
    sites="186 hospitals of the United States, or their regions",
    splits="none published; folds of whole hospitals and persons",
    source="https://physionet.org/content/eicu-crd-demo/2.0.1/ ; hours: https://github.com/rvandewater/YAIB",
    citation="Pollard TJ et al. Sci Data 5:180178, 2018; Johnson A et al. eICU demo, PhysioNet; "
    "van de Water R et al. Yet Another ICU Benchmark, ICLR 2024; Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Database License (ODbL) v1.0",
)


class Options(Section):
    """Options of the stays, and of what is generated where there is no folder yet."""

    view: features.View = Field("day", description="the first day's APACHE variables, or its hours")
    by: Literal["region", "hospital"] = Field("region", description="what a site is")
    min_patients: int = Field(
        10,
        ge=1,
        description="a hospital with fewer people, or one outcome only, joins its region; a region is left out",
    )
    encoding: features.Encoding = Field(
        "bands", description="view day: values; values and distances from APACHE III's normal; or its points"
    )
    diagnosis: bool = Field(True, description="view day: groups of APACHE's admission diagnosis")
    columns: tuple[str, ...] = Field((), description="view day: further columns of patient and apachePredVar")
    carry: bool = Field(True, description="view hours: the last value holds until the next")
    mask: bool = Field(True, description="view hours: channels that say what was measured in this hour")
    simulated: bool = Field(False, description="without data.path: generate SYNTHETIC hospitals")
    hospitals: int = Field(8, ge=1, le=200, description="simulated: hospitals to generate")
    stays: int = Field(150, ge=20, le=10_000, description="simulated: stays a hospital, about")

    @field_validator("columns")
    @classmethod
    def _known_on_day_one(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for name in columns:
            plain = name.rpartition(".")[2].strip().lower()
            if plain in features.OUTCOME_COLUMNS:
                raise ValueError(f"{plain} holds the outcome, or is known only after it: it cannot be an input")
            if features.table_of_extra_column(name) is None:
                known = sorted(column for table in features.EXTRA_COLUMNS.values() for column in table)
                raise ValueError(f"no further column {name}; choose from {', '.join(known)}")
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands twice")
        return columns


def task(options: Options) -> Task:
    """Return what is predicted from what."""
    hours = options.view == "hours"
    channels: tuple[str, ...] = hourly.CHANNELS if hours else ()
    if hours and options.mask:
        channels += tuple(f"{name} measured" for name in hourly.CHANNELS)
    return Task(
        name="death in the unit, first 25 hours" if hours else f"death in hospital, first day, {options.encoding}",
        kind="multiclass",
        classes=("survived", "died"),
        class_titles=("left the unit alive", "died in the unit")
        if hours
        else ("left hospital alive", "died in hospital"),
        channels=len(channels),
        samples=hourly.HOURS if hours else 0,
        rate_hz=1 / 3600 if hours else 0.0,
        features=hourly.STATIC
        if hours
        else features.feature_names(options.encoding, options.diagnosis, options.columns),
        channel_names=channels,
        units=True,
        missing=True,
    )


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Return the public range of each input; of further columns none."""
    if options.view == "hours":
        return public_ranges.hourly_ranges()
    return public_ranges.day_ranges(options.encoding, features.feature_names(options.encoding, options.diagnosis, ()))


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of the generated hospitals, generating them first where they are not there.

    Raises:
        ConfigError: the options do not ask for simulated hospitals.
    """
    if not options.simulated:
        raise ConfigError(
            "data.path: say where eicu lies on this machine, as in --set data.path=data/eicu-crd-demo, "
            "or data.options.simulated=true for SYNTHETIC data"
        )
    from sites.datasets.eicu import simulate

    folder = store / f"eicu-{options.hospitals}x{options.stays}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, hospitals=options.hospitals, stays=options.stays, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the stays to use, each with its person, its site and the hospital that folds keep together."""
    stays, places = _placed(folder, options, store)
    return [
        Patient(
            id=name,
            person=person,
            examples=(1 - int(died), int(died)),
            site=site,
            group=str(hospital) if site in places.several else None,
        )
        for name, person, died, site, hospital in zip(
            stays.ids, stays.persons, stays.y, places.site, stays.hospital, strict=True
        )
        if site is not None
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the stays `ids`, in that order, without a split; what was left out is counted at their sites."""
    if not ids:
        raise DataError(f"{folder}: no examples to read: no stay was asked for")
    stays, places = _placed(folder, options, store)
    at = {name: row for row, name in enumerate(stays.ids) if places.site[row] is not None}
    try:
        rows = np.array([at[name] for name in ids], np.int64)
    except KeyError:
        raise DataError(f"{folder}: a stay that was asked for is not there, or was left out") from None
    mine = {places.site[row] for row in rows}
    everyone = sorted({site for site in places.site if site is not None})
    excluded: dict[str, int] = {}
    for hospital, what, number in _left_out(stays, places):
        home = places.home.get(hospital)
        if (home if home in everyone else everyone[0]) in mine:
            excluded[what] = excluded.get(what, 0) + number
    x = stays.x[rows]
    if options.view == "hours":
        measured = (~np.isnan(x)).astype(np.float32)
        x = hourly.carry_forward(x) if options.carry else x
        x = np.concatenate([x, measured], axis=1) if options.mask else x
    return Cohort(
        task(options),
        x,
        stays.features[rows],
        stays.y[rows],
        np.arange(len(rows)),
        tuple(ids),
        tuple(stays.persons[row] for row in rows),
        np.full(len(rows), -1, np.int8),
        excluded,
        stays.synthetic,
        stays.age[rows],
        stays.sex[rows],
    )


def _placed(folder: Path, options: Options, store: Path) -> tuple[eicu_stays.Stays, eicu_places.SiteAssignment]:
    stays = eicu_stays.load_stays(folder, options, store)
    places = eicu_places.assign_sites(
        stays.hospital.tolist(), stays.persons, stays.y.tolist(), stays.region, options.by, options.min_patients
    )
    if not any(places.site):
        raise DataError(
            f"{folder}: no site has both outcomes and the people that data.options.min_patients asks for; "
            "bring more stays, or ask for fewer"
        )
    return stays, places


def _left_out(stays: eicu_stays.Stays, places: eicu_places.SiteAssignment) -> Iterator[tuple[int, str, int]]:
    for hospital, found in stays.excluded.items():
        for what, number in found.items():
            yield hospital, what, number
    for hospital, why in zip(stays.hospital.tolist(), places.why, strict=True):
        if why is not None:
            yield hospital, why, 1
