"""Changes of tables (EHR): other calibrations, and more missing values.

A variable is a column together with all columns whose names start with its name and a space, such as `HR`, `HR change`
and `HR hours since`, and its logarithm, `log HR`; so is a name that only its indicator and others start with, such as
`ph` of `ph points` and `ph measured`. An indicator, 0 or 1, is called `NAME measured`, a count of measurements
`NAME times in 24 h`, and a category `NAME=code`: 0 in all of a variable's categories means not measured. The channels
of hourly tables are columns too; those of an ECG are not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError
from common.sections.shift import Missingness
from sites.cohort import Cohort, Windows
from sites.shift.site_shift import IN_WORDS, Mask, Notes, SiteShift, selected_rows

MEASURED, LOG, COUNT = " measured", "log ", re.compile(r" times in \d+ h$")
SLOW_HZ = 40.0
"""Channels sampled more slowly than this belong to a table, not to an ECG."""
Values = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass
class _Variable:
    """The columns of a variable.

    Attributes:
        features: its values among the features.
        channels: its values among the channels.
        feature_flags: indicators and counts of measurements among the features.
        channel_flags: indicators and counts of measurements among the channels.
        categories: its categories among the features.
    """

    features: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    feature_flags: list[int] = field(default_factory=list)
    channel_flags: list[int] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)


def alter_tables(cohort: Cohort, at: SiteShift, notes: Notes) -> Cohort:
    """Return the cohort with another calibration and more missing values, as configured."""
    if at.options.calibration is None and at.options.missingness is None:
        return cohort
    table = _Table.from_cohort(cohort)
    if at.options.calibration is not None:
        _calibrate(cohort, table, at, notes)
    if at.options.missingness is not None:
        _remove_values(cohort, table, at, notes)
    return table.to_cohort(cohort)


def hourly_channels(cohort: Cohort) -> tuple[str, ...]:
    """Return the names of a table's channels; none of an ECG's."""
    return cohort.task.channel_names if cohort.task.rate_hz < SLOW_HZ else ()


@dataclass
class _Table:
    """Copies of the values that may be changed.

    Attributes:
        features: `(examples, features)`.
        rows: channels as rows of time `(rows, channels)`: of Windows the shared hours, of a dense array every sample.
        owner: recording of each row, -1 if none of the examples' recordings has it.
        example: example of each row of a dense array; None for Windows.
    """

    features: Values
    rows: Values
    owner: Rows
    example: Rows | None

    @classmethod
    def from_cohort(cls, cohort: Cohort) -> _Table:
        """Return copies of a cohort's values."""
        features, x = cohort.features.copy(), cohort.x
        if not hourly_channels(cohort):
            none = np.zeros(0, dtype=np.int64)
            return cls(features, np.zeros((0, 0), np.float32), none, none)
        if not isinstance(x, Windows):
            example = np.repeat(np.arange(len(x)), x.shape[2])
            return cls(features, _rows(cohort).copy(), cohort.patient[example], example)
        owner = np.full(len(x.rows), -1, dtype=np.int64)
        first = np.zeros(len(cohort.patients), dtype=np.int64)
        last = np.full(len(cohort.patients), -1, dtype=np.int64)
        first[cohort.patient] = x.first
        np.maximum.at(last, cohort.patient, x.end)
        for index in np.flatnonzero(last >= 0):
            owner[first[index] : last[index] + 1] = index
        return cls(features, x.rows.copy(), owner, None)

    def to_cohort(self, cohort: Cohort) -> Cohort:
        """Return the cohort with the changed values."""
        x = cohort.x
        if not hourly_channels(cohort):
            return replace(cohort, features=self.features)
        if isinstance(x, Windows):
            return replace(cohort, x=replace(x, rows=self.rows), features=self.features)
        dense = self.rows.reshape(len(x), x.shape[2], x.shape[1]).transpose(0, 2, 1)
        return replace(cohort, x=np.ascontiguousarray(dense), features=self.features)

    def allowed(self, cohort: Cohort, mask: Mask) -> Mask:
        """Return which rows belong to examples that may be changed (Windows: to recordings that have one)."""
        if self.example is not None:
            return np.asarray(mask[self.example])
        chosen = np.zeros(len(cohort.patients) + 1, dtype=np.bool_)
        chosen[cohort.patient[mask]] = True
        return np.asarray(chosen[self.owner])


def _rows(cohort: Cohort) -> Values:
    x = cohort.x
    if isinstance(x, Windows):
        return x.rows
    return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(-1, x.shape[1])


def table_variables(cohort: Cohort) -> dict[str, _Variable]:
    """Return the variables of a cohort by name, in the order of its columns."""
    sides: list[tuple[str, tuple[str, ...], Values]] = [("feature", cohort.task.features, cohort.features)]
    if hourly_channels(cohort):
        sides.append(("channel", hourly_channels(cohort), _rows(cohort)))
    flags = {
        name
        for _, names, values in sides
        for i, name in enumerate(names)
        if COUNT.search(name) or (name.endswith(MEASURED) and _is_flag(values[:, i]))
    }
    bases = sorted({_base(name) for _, names, _ in sides for name in names}, key=len)
    variables: dict[str, _Variable] = {}
    for side, names, _ in sides:
        for i, name in enumerate(names):
            own = _base(name) if name in flags or "=" in name else name.removeprefix(LOG)
            base = next(base for base in bases if own == base or own.startswith(base + " "))
            kind = f"{side}_flags" if name in flags else "categories" if "=" in name else f"{side}s"
            getattr(variables.setdefault(base, _Variable()), kind).append(i)
    return variables


def _is_flag(values: Values) -> bool:
    return bool((np.isin(values, (0, 1)) | np.isnan(values)).all())


def _base(name: str) -> str:
    return COUNT.sub("", name.partition("=")[0]).removesuffix(MEASURED).removeprefix(LOG)


def _calibrate(cohort: Cohort, table: _Table, at: SiteShift, notes: Notes) -> None:
    option = at.options.calibration
    assert option is not None
    names, channels, mask = cohort.task.features, hourly_channels(cohort), selected_rows(cohort, option.where)
    _refuse_shared_hours(cohort, at, "calibration", option.where)
    inside = table.allowed(cohort, mask)
    for name, scale in option.features.items():
        if name not in (*names, *channels):
            raise _unknown(at, "calibration.features", name, (*names, *channels))
        if name in names:
            column = names.index(name)
            table.features[mask, column] = scale.gain * table.features[mask, column] + scale.offset
        if name in channels:
            column = channels.index(name)
            table.rows[inside, column] = scale.gain * table.rows[inside, column] + scale.offset
    lines = [f"{name} x {scale.gain:g} {scale.offset:+g}" for name, scale in option.features.items()]
    notes["calibration"] = ", ".join(lines) + IN_WORDS[option.where]


def _remove_values(cohort: Cohort, table: _Table, at: SiteShift, notes: Notes) -> None:
    option = at.options.missingness
    assert option is not None
    if not cohort.task.missing:
        raise at.error(
            "missingness", f"{cohort.task.name} does not allow missing values; see the data set's own options"
        )
    _refuse_shared_hours(cohort, at, "missingness", option.where)
    known = table_variables(cohort)
    for pattern in option.features:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise _unknown(at, "missingness.features", pattern, tuple(known))
    if option.features:
        chosen = [name for name in known if any(fnmatchcase(name, pattern) for pattern in option.features)]
    else:
        chosen = [name for name, columns in known.items() if columns.features or columns.channels or columns.categories]
    groups = [chosen] if option.together else [[name] for name in chosen]
    mask = selected_rows(cohort, option.where)
    inside = table.allowed(cohort, mask)
    removed, removed_rows = _draw(cohort, table, option, len(groups), at)
    removed, removed_rows = removed & mask[:, None], removed_rows & inside[:, None]
    before = lost = 0
    for group, names in enumerate(groups):
        for columns in (known[name] for name in names):
            zero = columns.feature_flags + columns.categories
            had = [np.isfinite(table.features[:, column]) for column in columns.features]
            if columns.categories:
                had.append((table.features[:, columns.categories] != 0).any(1))
            held = [np.isfinite(table.rows[:, column]) for column in columns.channels]
            before += sum(int((one & mask).sum()) for one in had) + sum(int((one & inside).sum()) for one in held)
            lost += sum(int((one & removed[:, group]).sum()) for one in had)
            lost += sum(int((one & removed_rows[:, group]).sum()) for one in held)
            _set_missing(table.features, removed[:, group], columns.features, zero)
            _set_missing(table.rows, removed_rows[:, group], columns.channels, columns.channel_flags)
    what = f"{len(chosen)} variables" if len(chosen) > 3 else ", ".join(chosen)
    notes["missingness"] = f"{lost} of {before} measured values of {what} taken away{IN_WORDS[option.where]}"


def _draw(cohort: Cohort, table: _Table, option: Missingness, groups: int, at: SiteShift) -> tuple[Mask, Mask]:
    """Return the drawn groups of variables to remove from each example and each row, both `(..., groups)`."""
    removed = np.zeros((len(cohort.y), groups), dtype=np.bool_)
    removed_rows = np.zeros((len(table.rows), groups), dtype=np.bool_)
    examples, rows = _spans(cohort.patient, len(cohort.patients)), _spans(table.owner, len(cohort.patients))
    for index, name in enumerate(cohort.patients):
        rng = at.rng("missingness", name)
        whole = rng.random(groups) < option.probability
        for target, chosen in ((removed, examples[index]), (removed_rows, rows[index])):
            target[chosen] = whole if option.by == "patient" else rng.random((len(chosen), groups)) < option.probability
    return removed, removed_rows


def _set_missing(values: Values, lose: Mask, columns: Sequence[int], zero: Sequence[int]) -> None:
    for column in columns:
        values[lose, column] = np.nan
    for column in zero:
        values[lose & np.isfinite(values[:, column]), column] = 0


def _spans(owner: Rows, patients: int) -> list[Rows]:
    """Return the rows of each recording."""
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(patients + 1))
    return [order[edges[i] : edges[i + 1]] for i in range(patients)]


def _refuse_shared_hours(cohort: Cohort, at: SiteShift, option: str, where: Any) -> None:
    """Raise ConfigError if a recording on both sides of a split would share changed hours between them."""
    if where == "all" or not isinstance(cohort.x, Windows):
        return
    mask = selected_rows(cohort, where)
    if np.intersect1d(cohort.patient[mask], cohort.patient[~mask]).size:
        raise at.error(f"{option}.where", "use all: one recording's hours are in training and in test here")


def _unknown(at: SiteShift, option: str, name: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "there are: " + ", ".join(known[:12])
    return at.error(option, f"no variable {name!r} ({hint})")
