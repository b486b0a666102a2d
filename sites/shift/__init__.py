"""Simulated differences between hospitals, put on a hospital's examples after it was split.

Every draw comes from (run seed, site, "shift", option, recording or person), so that a site's data are the same
whatever the other sites are, which worker opens them and in which order. The order of the steps is that of a
recording: who comes, who labels, electrodes, amplifier, recorder, then tables. The options are in
common/sections/shift.py.
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
    """Refuse a shift of a hospital that is not there.

    Raises:
        ConfigError: names it, and the nearest that is.
    """
    known = sorted(sites)
    for name in sorted(set(config.shift) - {EVERY} - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "hospitals: " + ", ".join(known[:12])
        raise ConfigError(f"shift.{name}: this run has no such hospital ({hint})")


def refuse_at_hospital(config: RunConfig) -> None:
    """Let no run's configuration alter what a real hospital holds.

    Raises:
        SiteError: the run has a shift.
    """
    if config.shift:
        raise SiteError("shift is for simulation only: a real hospital's data stay as they are; leave it out")


def site_options(config: RunConfig, site: str) -> ShiftConfig:
    """Return a site's options: those of `*`, and the site's own, which count before them."""
    merged: dict[str, object] = {}
    for name in (EVERY, site):
        if name in config.shift:
            part = config.shift[name]
            merged |= {key: value for key in ShiftConfig.model_fields if (value := getattr(part, key)) is not None}
    return ShiftConfig.model_validate(merged)


def apply_shift(cohort: Cohort, asked: ShiftConfig, seed: int, site: str) -> tuple[Cohort, Mapping[str, str]]:
    """Return the shifted cohort, and in words what each option did; the same cohort if nothing is asked.

    People who were left out are counted in `Cohort.excluded`. The cohort that was given is not changed.

    Raises:
        ConfigError: an option does not fit the data (no ages, no signal, no such class, ...).
    """
    notes: Notes = {}
    at = SiteShift(asked, seed, site)
    for step in (people.adjust_case_mix, labels.mislabel, signals.disturb_signals, tables.alter_tables):
        cohort = step(cohort, at, notes)
    return cohort, notes
