"""Simulated differences between hospitals, applied to a hospital's examples after the split.

Every draw comes from (run seed, site, "shift", option, recording or person), so that a site's data do not depend on
the other sites, nor on which worker loads them and in which order. The steps follow the order of a recording: case mix,
labels, electrodes, amplifier, recorder, then tables. The options are in common/sections/shift.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.sections.shift import ShiftConfig
from sites.cohort import Cohort
from sites.shift import labels, people, signals, tables
from sites.shift.site_shift import Notes, SiteShift

EVERY = "*"


def check_sites(config: RunConfig, sites: Iterable[str]) -> None:
    """Refuse a shift of a hospital that the run does not have.

    Raises:
        ConfigError: the message names it and the hospital of the most similar name.
    """
    known = sorted(sites)
    for name in sorted(set(config.shift) - {EVERY} - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "hospitals: " + ", ".join(known[:12])
        raise ConfigError(f"shift.{name}: this run has no such hospital ({hint})")


def refuse_at_hospital(config: RunConfig) -> None:
    """Refuse a shift at a real hospital, whose data a run may not alter.

    Raises:
        SiteError: the run has a shift.
    """
    if config.shift:
        raise SiteError("shift is for simulation only: a real hospital's data stay as they are; leave it out")


def site_options(config: RunConfig, site: str) -> ShiftConfig:
    """Return a site's options: those of `*`, overridden by the site's own."""
    merged: dict[str, object] = {}
    for name in (EVERY, site):
        if name in config.shift:
            part = config.shift[name]
            merged |= {key: value for key in ShiftConfig.model_fields if (value := getattr(part, key)) is not None}
    return ShiftConfig.model_validate(merged)


def apply_shift(cohort: Cohort, options: ShiftConfig, seed: int, site: str) -> tuple[Cohort, Mapping[str, str]]:
    """Return the shifted cohort and a description of what each option did; without options, the same cohort.

    People left out are counted in `Cohort.excluded`. The given cohort is not changed.

    Raises:
        ConfigError: an option does not fit the data (no ages, no signal, no such class, ...).
    """
    notes: Notes = {}
    at = SiteShift(options, seed, site)
    for step in (people.adjust_case_mix, labels.mislabel, signals.disturb_signals, tables.alter_tables):
        cohort = step(cohort, at, notes)
    return cohort, notes
