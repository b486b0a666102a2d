"""Examples of a MEDS extract: prediction times, labels, and inputs from the events before them.

Nothing after the time of the prediction is used: a summary is over the events with `prediction - window < time <=
prediction`. An example whose outcome was already there by then is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.meds.checks import check_codes, sum_spans
from sites.datasets.meds.description import Description, Input, matches
from sites.datasets.meds.extract import (
    NO_TIME,
    Events,
    Ints,
    Labels,
    list_labels,
    list_shards,
    read_events,
    read_labels,
)
from sites.datasets.meds.odd_events import count_odd_events, count_one_sex
from sites.spellings import check_hospitals

HOUR = 3_600_000_000
"""Microseconds."""
YEAR_HOURS = 365.25 * 24
ALREADY = "examples whose outcome was already there at the prediction"
ENDED = "examples whose record ends before the prediction"
NO_LABEL = "labels that are none of the outcome's values"
NO_SUBJECT = "labels of people without an event"
TWICE = "labels that are given twice"
WRONG_AGE = "ages outside 0 to 130 years, or of two births, read as unknown"
BOTH_SEXES = "people with codes of both sexes, read as unknown"
OLDEST = 130.0
"""Years; the end of the public range of the age."""
MOVED = "people with examples at several hospitals, of which the first counts (not left out)"
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Examples:
    """All examples of an extract.

    Attributes:
        subject: int64 `(examples,)`.
        time: int64 `(examples,)`, of the prediction.
        features: float32 `(examples, features)`, NaN where not measured.
        y: int64 `(examples,)`.
        until: float32 `(examples,)`, hours until the outcome, NaN without one.
        age: float32 `(examples,)`, years at the prediction.
        sex: int8 `(examples,)`, 0 female, 1 male, -1 unknown.
        hospital: int64 `(examples,)`, index into `hospitals`.
        hospitals: their names; none where the extract is one hospital's.
        excluded: number of examples left out, or cells read as not measured, by reason.
    """

    subject: Ints
    time: Ints
    features: Floats
    y: Ints
    until: Floats
    age: Floats
    sex: npt.NDArray[np.int8]
    hospital: Ints
    hospitals: tuple[str, ...]
    excluded: dict[str, int]


@dataclass(frozen=True)
class _Times:
    """Examples of one file before their inputs are known."""

    subject: Ints
    time: Ints
    y: Ints
    until: npt.NDArray[np.float64]
    hospital: Ints


def build_examples(folder: Path, options: Description, *, labelled: bool = True) -> Examples:
    """Return the examples of an extract.

    Args:
        folder: the extract.
        options: its description.
        labelled: whether the outcome is known; without, every example has the first class.

    Raises:
        DataError: it cannot be read, or gives no example.
    """
    labels = (
        read_labels(list_labels(folder, options.read.labels)) if _uses_labels(options) and options.read.labels else None
    )
    excluded: Counter[str] = Counter()
    people: Counter[int] = Counter()
    hospitals: dict[str, int] = {}
    valued: dict[str, bool] = {}
    known_subjects: set[int] = set()
    parts: list[tuple[_Times, Floats, Floats, npt.NDArray[np.int8]]] = []
    for path in list_shards(folder, options.read.data):
        events = read_events(path, options.read.hospital)
        subjects = set(np.unique(events.subject).tolist())
        if known_subjects & subjects:
            raise DataError(f"{path}: a subject of another file is here too: MEDS holds a subject in one file")
        known_subjects |= subjects
        has_value = np.bincount(events.code[~np.isnan(events.value)], minlength=len(events.codes)) > 0
        for code, given in zip(events.codes, has_value.tolist(), strict=True):
            valued[code] = valued.get(code, False) or given
        home = np.asarray([hospitals.setdefault(name, len(hospitals)) for name in events.hospitals], dtype=np.int64)
        times = (
            _from_labels(events, options, labels, excluded)
            if labels
            else _from_codes(events, options, labelled, excluded)
        )
        times = _add_hospital(events, times, home, path)
        for i, item in enumerate(options.inputs):
            people[i] += len(np.unique(events.subject[_has(events, item.patterns)]))
        count_odd_events(events, options, excluded)
        parts.append((times, *_features(events, options, times, excluded)))
    check_codes(folder, options, valued)
    check_hospitals(str(folder), tuple(name for name in hospitals if name.strip()))
    if labels is not None and (absent := len(set(labels.subject.tolist()) - known_subjects)):
        excluded[NO_SUBJECT] += absent
    whole = _join([times for times, *_ in parts])
    if not len(whole.subject):
        why = "; ".join(f"{count} {reason}" for reason, count in excluded.items()) or "no event makes one"
        raise DataError(f"{folder}: no example ({why}): see index.codes and outcome of meds.yaml")
    features, age, sex = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    _hide_rare(features, options, people, excluded)
    count_one_sex(whole.subject, sex, excluded)
    return Examples(
        whole.subject,
        whole.time,
        features,
        whole.y,
        whole.until.astype(np.float32),
        age,
        sex,
        _first_hospital(whole, excluded),
        tuple(hospitals),
        {reason: count for reason, count in excluded.items() if count},
    )


def _uses_labels(options: Description) -> bool:
    return not options.outcome.codes


def _has(events: Events, patterns: tuple[str, ...]) -> Mask:
    """Return which events have one of some codes."""
    chosen = np.asarray([matches(patterns, code) for code in events.codes], dtype=np.bool_)
    return chosen[events.code] if len(chosen) else np.zeros(len(events.code), np.bool_)


def _from_codes(events: Events, options: Description, labelled: bool, excluded: Counter[str]) -> _Times:
    """Return the examples that index events make, with the outcome that follows."""
    index, outcome = options.index, options.outcome
    assert index is not None
    rows = np.flatnonzero(_has(events, index.codes) & (events.time != NO_TIME))
    if index.which == "first":
        rows = rows[np.unique(events.subject[rows], return_index=True)[1]]
    subject, start = events.subject[rows], events.time[rows]
    time = start + round(index.after_hours * HOUR)
    none = np.full(len(rows), np.nan)
    if not labelled:
        return _Times(subject, time, np.zeros(len(rows), np.int64), none, rows)
    event = np.flatnonzero(_has(events, outcome.codes) & (events.time != NO_TIME))
    first_after = _next_time(events.subject[event], events.time[event], subject, start)
    until = (first_after - time) / HOUR
    last = _last_time(events, subject)
    already = until <= 0
    ended = ~already & (last < time)
    excluded[ALREADY] += int(already.sum())
    excluded[ENDED] += int(ended.sum())
    keep = ~already & ~ended
    horizon = np.inf if outcome.within_hours is None else outcome.within_hours
    with np.errstate(invalid="ignore"):
        y = (until <= horizon).astype(np.int64)
    return _Times(subject[keep], time[keep], y[keep], until[keep], rows[keep])


def _from_labels(events: Events, options: Description, labels: Labels, excluded: Counter[str]) -> _Times:
    """Return the examples that labels name, of the subjects of a file."""
    number = {value.lower(): i for i, value in enumerate(options.outcome.values)}
    rows = np.flatnonzero(np.isin(labels.subject, events.subject))
    rows = rows[np.lexsort((labels.time[rows], labels.subject[rows]))]
    y = np.asarray([number.get(labels.value[row].lower(), -1) for row in rows.tolist()], dtype=np.int64)
    excluded[NO_LABEL] += int((y < 0).sum())
    rows, y = rows[y >= 0], y[y >= 0]
    subject, time = labels.subject[rows], labels.time[rows]
    again = (np.diff(subject, prepend=-1) == 0) & (np.diff(time, prepend=-1) == 0)
    if (again & (np.diff(y, prepend=-1) != 0)).any():
        raise DataError("labels: a person has two labels at one time: are there two tasks? Name one under read.labels")
    excluded[TWICE] += int(again.sum())
    subject, time, y = subject[~again], time[~again], y[~again]
    at = np.maximum(
        _count_until(events.subject, events.time, subject, time) - 1, np.searchsorted(events.subject, subject)
    )
    return _Times(subject, time, y, np.full(len(subject), np.nan), at)


def _keys(subject: Ints, time: Ints, wanted_subject: Ints, wanted_time: Ints) -> tuple[Ints, Ints]:
    """Return events and wanted points as numbers in the order of subject and time, exactly."""
    _, ranks = np.unique(np.concatenate([time, wanted_time]), return_inverse=True)
    _, who = np.unique(np.concatenate([subject, wanted_subject]), return_inverse=True)
    keys = who.astype(np.int64) * (len(ranks) + 1) + ranks
    return keys[: len(time)], keys[len(time) :]


def _count_until(subject: Ints, time: Ints, wanted_subject: Ints, wanted_time: Ints) -> Ints:
    """Return how many events, in order, are before or at each wanted point."""
    keys, wanted = _keys(subject, time, wanted_subject, wanted_time)
    return np.searchsorted(keys, wanted, side="right").astype(np.int64)


def _next_time(subject: Ints, time: Ints, wanted_subject: Ints, wanted_time: Ints) -> npt.NDArray[np.float64]:
    """Return the time of a subject's first event at or after a time, NaN without one."""
    keys, wanted = _keys(subject, time, wanted_subject, wanted_time)
    at = np.searchsorted(keys, wanted, side="left")
    inside = np.minimum(at, max(len(subject) - 1, 0))
    if not len(subject):
        return np.full(len(wanted), np.nan)
    there = (at < len(subject)) & (subject[inside] == wanted_subject)
    return np.where(there, time[inside].astype(np.float64), np.nan)


def _last_time(events: Events, subject: Ints) -> Ints:
    """Return the time of each subject's last event."""
    return events.time[np.searchsorted(events.subject, subject, side="right") - 1]


def _add_hospital(events: Events, times: _Times, home: Ints, path: Path) -> _Times:
    """Return the examples with the hospital of the event that made them; `times.hospital` holds its row until then."""
    if not len(home):
        return _Times(times.subject, times.time, times.y, times.until, np.zeros(len(times.subject), np.int64))
    own = events.hospital[times.hospital]
    if (own < 0).any():
        raise DataError(f"{path}: {int((own < 0).sum())} events that make an example have no hospital")
    return _Times(times.subject, times.time, times.y, times.until, home[own])


def _features(
    events: Events, options: Description, times: _Times, excluded: Counter[str]
) -> tuple[Floats, Floats, npt.NDArray[np.int8]]:
    """Return the inputs of the examples, and their ages and sexes."""
    first = np.searchsorted(events.subject, times.subject)
    columns: list[npt.NDArray[np.float64]] = []
    age = np.full(len(times.subject), np.nan)
    if options.birth is not None:
        rows = np.flatnonzero(_has(events, (options.birth,)) & (events.time != NO_TIME))
        born = _next_time(events.subject[rows], events.time[rows], times.subject, np.full(len(first), NO_TIME + 1))
        age = (times.time - born) / HOUR / YEAR_HOURS
        last = np.searchsorted(events.subject[rows], times.subject, side="right") - 1
        with np.errstate(invalid="ignore"):
            several = np.abs(events.time[rows][last] - born) > 24 * HOUR if len(rows) else np.zeros(len(age), np.bool_)
            wrong = (age < 0) | (age > OLDEST) | (several & ~np.isnan(age))
        excluded[WRONG_AGE] += int(wrong.sum())
        age[wrong] = np.nan
        columns.append(age)
    sex = np.full(len(times.subject), -1, dtype=np.int8)
    if options.sex is not None:
        female, male = (
            np.isin(times.subject, events.subject[_has(events, codes)])
            for codes in (options.sex.female, options.sex.male)
        )
        sex[female], sex[male], sex[female & male] = 0, 1, -1
        excluded[BOTH_SEXES] += len(np.unique(times.subject[female & male]))
        columns.append(np.where(sex < 0, np.nan, sex))
    for item in options.inputs:
        columns += _summaries(events, item, options.window_hours, times, excluded)
    return np.stack(columns, axis=1).astype(np.float32), age.astype(np.float32), sex


def _summaries(
    events: Events, item: Input, window: float | None, times: _Times, excluded: Counter[str]
) -> list[npt.NDArray[np.float64]]:
    """Return the summaries of an input, each `(examples,)`."""
    rows = np.flatnonzero(_has(events, item.patterns) & (item.ever | (events.time != NO_TIME)))
    start = times.time - round(window * HOUR) if window is not None else times.time

    def spans(chosen: Ints) -> tuple[Ints, Ints]:
        subject, time = events.subject[chosen], events.time[chosen]
        until = _count_until(subject, time, times.subject, times.time)
        if item.ever or window is None:
            return np.searchsorted(subject, times.subject).astype(np.int64), until
        return _count_until(subject, time, times.subject, start), until

    result: dict[str, npt.NDArray[np.float64]] = {}
    low, high = spans(rows)
    result["count"] = (high - low).astype(np.float64)
    valued = rows[~np.isnan(events.value[rows])]
    if item.range is not None:
        values = events.value[valued]
        outside = (values < item.range[0]) | (values > item.range[1])
        if outside.any():
            reason = f"values of {item.name} outside {item.range[0]:g} to {item.range[1]:g}, read as not measured"
            excluded[reason] += int(outside.sum())
        valued = valued[~outside]
    low, high = spans(valued)
    values = events.value[valued]
    measured = high > low
    last = np.full(len(low), np.nan)
    last[measured] = values[high[measured] - 1]
    result["last"] = last
    with np.errstate(invalid="ignore", divide="ignore"):
        result["mean"] = np.where(measured, sum_spans(values, low, high) / (high - low), np.nan)
    return [result[name] for name in item.summaries]


def _hide_rare(features: Floats, options: Description, people: Counter[int], excluded: Counter[str]) -> None:
    """Make the inputs whose codes too few people have as if they were never recorded."""
    column = len(options.feature_names) - sum(len(item.summaries) for item in options.inputs)
    for i, item in enumerate(options.inputs):
        for summary in item.summaries:
            if people[i] < options.read.min_people:
                features[:, column] = 0 if summary == "count" else np.nan
            column += 1
        if 0 < people[i] < options.read.min_people:
            excluded[f"inputs of fewer than {options.read.min_people} people, read as never recorded"] += 1


def _join(parts: list[_Times]) -> _Times:
    subject, time, y, hospital = (
        np.concatenate([getattr(part, name) for part in parts]).astype(np.int64)
        for name in ("subject", "time", "y", "hospital")
    )
    return _Times(subject, time, y, np.concatenate([part.until for part in parts]), hospital)


def _first_hospital(whole: _Times, excluded: Counter[str]) -> Ints:
    """Return for each example the hospital of its subject's first example."""
    order = np.lexsort((whole.time, whole.subject))
    _, first, inverse = np.unique(whole.subject[order], return_index=True, return_inverse=True)
    home = np.empty(len(order), dtype=np.int64)
    home[order] = whole.hospital[order][first][inverse]
    excluded[MOVED] += len(np.unique(whole.subject[home != whole.hospital]))
    return home
