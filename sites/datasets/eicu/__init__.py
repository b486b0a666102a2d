"""The eICU Collaborative Research Database: death in hospital, from the first day; `CARD` describes the data.

View `day`: APACHE's variables of the first day (17 measured, coma scale, ventilation, chronic disease, admission), NaN
where not measured; the label is death in hospital. View `hours`: 48 variables in hours 0 to 24
(sites/datasets/eicu/hourly.py); the label is death in the unit after hour 24, as YAIB derived it.

A data folder holds the tables as published, patient.csv.gz, hospital.csv.gz, apacheApsVar.csv.gz and
apachePredVar.csv.gz, itself or in `eicu-crd-demo`; a hospital's folder holds its own rows of them. The hourly cohort
is in `yaib-demo` inside that folder or next to it: a run's configuration cannot name another place. -1 means missing.
Columns that hold the outcome, or are known only after the first day, are refused by name and never read. Hospitals of
an unknown region form a region of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, field_validator

from common.errors import DataError
from common.settings import Section
from common.task import Task
from sites.cohort import Cohort, DataCard, Patient
from sites.datasets.eicu import features, hourly, public_ranges
from sites.datasets.eicu.hospitals import SiteAssignment, assign_sites
from sites.datasets.eicu.stays import Stays, load_stays

if TYPE_CHECKING:
    from sites.datasets import Source
    from sites.unlabelled_rows import ScorableRows

CARD = DataCard(
    name="eicu",
    title="eICU Collaborative Research Database, demo 2.0",
    inputs="APACHE variables of the first day of an intensive care stay, or 48 variables in each of its first 25 hours",
    labels="death in hospital (view day); death in the unit after the first day, as YAIB derived it (view hours)",
    sites="the demo's 186 hospitals of the United States, or their regions",
    splits="none published; sites.split=folds makes folds of whole hospitals and persons",
    source="https://physionet.org/content/eicu-crd-demo/2.0.1/ ; hours: https://github.com/rvandewater/YAIB",
    citation="Pollard TJ et al. Sci Data 5:180178, 2018; Johnson A et al. eICU demo, PhysioNet; "
    "van de Water R et al. Yet Another ICU Benchmark, ICLR 2024; Goldberger AL et al. Circulation 101(23):e215, 2000",
    licence="Open Database License (ODbL) v1.0 for the demo; the full database needs a data use agreement",
    question="Which patients in intensive care will die in hospital, judged from their first day there?",
    examples="stays",
    years="2014 and 2015",
    setting="adults in intensive care in hospitals of the United States",
)
EVENT_SHARE = (0.0, 0.5)


class Options(Section):
    """Options of the stays, and of generated data."""

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
    carry: bool = Field(True, description="view hours: carry the last value forward")
    mask: bool = Field(True, description="view hours: 0/1 channels for what was measured in this hour")
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
            raise ValueError("a column is listed twice")
        return columns


def card(options: Options) -> DataCard:
    """Return the data card of the chosen view and sites."""
    kind = "region" if options.by == "region" else "hospital"
    if options.view == "hours":
        question = "Which patients in intensive care will die there, judged from their first 25 hours?"
        return replace(CARD, question=question, site_kind=kind)
    return replace(CARD, site_kind=kind)


def task(options: Options) -> Task:
    """Return the task: its inputs and classes."""
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
    """Return the public range of each input; columns requested in addition have none."""
    if options.view == "hours":
        return public_ranges.hourly_ranges()
    return public_ranges.day_ranges(options.encoding, features.feature_names(options.encoding, options.diagnosis, ()))


def default_folder(options: Options, store: Path, seed: int) -> Path:
    """Return the folder of the generated hospitals, generating them first if needed."""
    from sites.datasets.eicu import simulate

    folder = store / f"eicu-{options.hospitals}x{options.stays}-seed{seed}-v{simulate.VERSION}"
    simulate.generate(folder, hospitals=options.hospitals, stays=options.stays, seed=seed)
    return folder


def patients(folder: Path, options: Options, store: Path) -> list[Patient]:
    """Return the stays to use, each with its person, its site and its hospital; folds do not divide hospitals."""
    stays, sites = _load_with_sites(folder, options, store)
    return [
        Patient(
            id=name,
            person=person,
            examples=(1 - int(died), int(died)),
            site=site,
            group=str(hospital) if site in sites.several_hospitals else None,
        )
        for name, person, died, site, hospital in zip(
            stays.ids, stays.persons, stays.y, sites.site, stays.hospital, strict=True
        )
        if site is not None
    ]


def read(folder: Path, options: Options, ids: Sequence[str], store: Path) -> Cohort:
    """Return the stays `ids`, in that order, with the numbers of excluded stays at their sites."""
    if not ids:
        raise DataError(f"{folder}: no examples to read: no stay was requested")
    stays, sites = _load_with_sites(folder, options, store)
    row_by_name = {name: row for row, name in enumerate(stays.ids) if sites.site[row] is not None}
    try:
        rows = np.array([row_by_name[name] for name in ids], np.int64)
    except KeyError:
        raise DataError(f"{folder}: a requested stay is not there or was excluded") from None
    own_sites = {sites.site[row] for row in rows}
    all_sites = sorted({site for site in sites.site if site is not None})
    excluded: dict[str, int] = {}
    for hospital, reason, number in _exclusions(stays, sites):
        site = sites.site_of_hospital.get(hospital)
        if (site if site in all_sites else all_sites[0]) in own_sites:
            excluded[reason] = excluded.get(reason, 0) + number
    return Cohort(
        task(options),
        hourly.build_channels(stays.x[rows], carry=options.carry, mask=options.mask),
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


def unlabelled_rows(source: Source) -> Iterator[ScorableRows]:
    """Yield the stays of a folder, whatever their outcome and their hospital's size, for `wardround score`.

    Raises:
        DataError: no data there, or not in this layout.
    """
    from sites.datasets.eicu import unlabelled

    yield from unlabelled.read_unlabelled(source)


def _load_with_sites(folder: Path, options: Options, store: Path) -> tuple[Stays, SiteAssignment]:
    """Return all stays of a folder, and the site of each.

    Raises:
        DataError: a table is not as published, or no site has enough people and both outcomes.
    """
    stays = load_stays(folder, options, store)
    sites = assign_sites(
        stays.hospital.tolist(), stays.persons, stays.y.tolist(), stays.region, options.by, options.min_patients
    )
    if not any(sites.site):
        raise DataError(
            f"{folder}: no site has both outcomes and the number of people in data.options.min_patients; "
            "add stays, or lower it"
        )
    return stays, sites


def _exclusions(stays: Stays, sites: SiteAssignment) -> Iterator[tuple[int, str, int]]:
    """Yield hospital, reason and number of excluded stays."""
    for by_hospital in (stays.excluded, stays.cleared):
        for hospital, counts in by_hospital.items():
            for reason, number in counts.items():
                yield hospital, reason, number
    for hospital, why in zip(stays.hospital.tolist(), sites.reason, strict=True):
        if why is not None:
            yield hospital, why, 1
