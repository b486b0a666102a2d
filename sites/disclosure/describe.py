"""A data set's card with the counts of one folder, without small counts of people.

People are counted. Counts of 1 to 4 are `<5`, and cells that would give them away are hidden
(sites/disclosure/cell_suppression.py); counts of examples are given only for totals whose count of people is shown;
ages only as median and quartiles of enough people, in whole years, above 89 as `>89`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from common.task import Task
from sites.cohort import Cohort, Patient, Windows
from sites.datasets import Source
from sites.disclosure.cell_suppression import VISIBLE, RowSums, format_cells, suppress_cells
from sites.suspicions import note_suspicions

MIN_PATIENTS = 5
"""Smallest count of people that is shown."""

MAX_AGE = 89
"""Ages above this are shown as `>89` (45 CFR 164.514(b)(2)(i)(C))."""

BLOCK_BYTES = 1 << 30
"""Approximate bytes of examples that are read at a time."""

MAX_SITES_LISTED = 12
"""Missing inputs are counted for each hospital if there are at most this many."""

Key = tuple[str, str]
Cell = int | str


@dataclass
class _Tally:
    """Counts of the examples, added up block by block.

    Attributes:
        examples: examples of each hospital.
        classes: examples of each class.
        excluded: examples left out, by reason.
        synthetic: whether any file says that it was generated.
        age: age of each person (years), where known.
        sex: sex of each person (0 female, 1 male), where known.
        available: which of "age" and "sex" the data set has.
        values: number of values and of missing values of each input.
        measured: people with a measured value of each input.
        lacking: people with a missing value of each input.
    """

    examples: Counter[str] = field(default_factory=Counter)
    classes: npt.NDArray[np.int64] | None = None
    excluded: Counter[str] = field(default_factory=Counter)
    synthetic: bool = False
    age: dict[Key, float] = field(default_factory=dict)
    sex: dict[Key, int] = field(default_factory=dict)
    available: set[str] = field(default_factory=set)
    values: dict[str, list[int]] = field(default_factory=dict)
    measured: dict[str, set[Key]] = field(default_factory=dict)
    lacking: dict[str, set[Key]] = field(default_factory=dict)


def describe_folder(
    source: Source, minimum: int = MIN_PATIENTS, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Return the data card and the counts of a folder, ready for JSON.

    A count is a number, `<5`, or `hidden`. `sites`: people, recordings, examples of each hospital, and its people with
    examples of each class; `classes`: people and examples of each class; `missing`: of each input that is sometimes
    missing, the share of missing values and the number of people in whom it was never measured.

    Args:
        source: the data set in its folder.
        minimum: smallest count of people that is shown.
        on_progress: called with the number of recordings read and their total.

    Raises:
        DataError: the folder cannot be read, or holds no patients.
    """
    everyone = source.patients()
    if not everyone:
        raise DataError(f"{source.folder} holds no patients: name the folder of {source.card.name}")
    task = source.task()
    label = {item.id: item.site or "all" for item in everyone}
    tally = _Tally()
    total = len(everyone)
    done = 0
    for block in _blocks(everyone, task):
        cohort = source.read([item.id for item in block])
        _add_cohort(tally, note_suspicions(cohort, source.bounds(), source.event_share), label)
        done += len(block)
        on_progress(done, total)
    used, mode = _classes_by_person(everyone, task, label)
    names = sorted({site for site, _ in used}, key=_natural)
    counts = _table(used, names, len(task.classes))
    state = suppress_cells(counts, minimum, mode)
    cells = format_cells(counts, state, minimum)
    recordings = Counter(label[item.id] for item in everyone)
    open_rows = state[:, -1] == VISIBLE
    excluded = dict(tally.excluded)
    if unused := len({(label[item.id], item.person) for item in everyone}) - len(used):
        excluded["people without an example"] = unused
    by_class = _examples(tally, counts[-1, :-1], state[-1, :-1] == VISIBLE, task, minimum)
    return {
        "card": asdict(source.card),
        "synthetic": source.card.synthetic or tally.synthetic,
        "folder": str(source.folder),
        "task": _about(task),
        "min_people": minimum,
        "patients": cells[-1][-1],
        "recordings": total if open_rows[-1] else "hidden",
        "examples": sum(tally.examples.values()) if open_rows[-1] else "hidden",
        "sites": [
            {
                "site": name,
                "patients": line[-1],
                "recordings": recordings[name] if is_open else "hidden",
                "examples": tally.examples[name] if is_open else "hidden",
                "classes": dict(zip(task.classes, line[:-1], strict=True)),
            }
            for name, line, is_open in zip(names, _lines(cells), open_rows, strict=False)
        ],
        "classes": {
            name: {"title": title, "patients": cell, "examples": number}
            for name, title, cell, number in zip(task.classes, task.class_titles, cells[-1], by_class, strict=False)
        },
        "age": _ages(tally, used, minimum) if "age" in tally.available else None,
        "sex": _sexes(tally, used, minimum) if "sex" in tally.available else None,
        "missing": _missing(tally, used, names, minimum),
        "complete": sum(not lacks for _, lacks in tally.values.values()),
        "excluded": {what: _few(number, minimum) for what, number in sorted(excluded.items())},
    }


def _blocks(everyone: Sequence[Patient], task: Task) -> Iterator[list[Patient]]:
    """Yield groups of recordings whose examples take about BLOCK_BYTES."""
    width = 4 * (task.channels * task.samples + len(task.features) + 1)
    block: list[Patient] = []
    size = 0
    for item in everyone:
        block.append(item)
        size += width * max(1, sum(item.examples))
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _add_cohort(tally: _Tally, cohort: Cohort, label: dict[str, str]) -> None:
    keys = [(label[name], person) for name, person in zip(cohort.patients, cohort.persons, strict=True)]
    examples = np.bincount(cohort.patient, minlength=len(keys))
    for (site, _), number in zip(keys, examples, strict=True):
        tally.examples[site] += int(number)
    counts = np.asarray(cohort.class_counts())
    tally.classes = counts if tally.classes is None else tally.classes + counts
    tally.excluded.update(cohort.excluded)
    tally.synthetic |= cohort.synthetic
    if cohort.age is not None:
        tally.available.add("age")
        tally.age |= {key: float(age) for key, age in zip(keys, cohort.age, strict=True) if np.isfinite(age)}
    if cohort.sex is not None:
        tally.available.add("sex")
        tally.sex |= {key: int(sex) for key, sex in zip(keys, cohort.sex, strict=True) if sex >= 0}
    if not cohort.task.missing:
        return
    for index, name in enumerate(cohort.task.features):
        _add_input(tally, name, np.isnan(cohort.features[:, index]), cohort.patient, keys)
    x = cohort.x
    for index, name in enumerate(cohort.task.channel_names):
        if isinstance(x, Windows):
            rows, owner = _window_rows(x, cohort.patient)
            _add_input(tally, name, np.isnan(x.rows[rows, index]), owner, keys)
        else:
            lost = np.isnan(x[:, index])
            _add_input(tally, name, lost.ravel(), np.repeat(cohort.patient, x.shape[2]), keys)


def _window_rows(x: Windows, patient: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows that the windows cover, each once, and the patient of each."""
    first, position = np.unique(x.first, return_index=True)
    last = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(last, np.searchsorted(first, x.first), x.end)
    sizes = last - first + 1
    start = np.repeat(first - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    return np.arange(sizes.sum()) + start, np.repeat(patient[position], sizes)


def _add_input(
    tally: _Tally, name: str, lost: npt.NDArray[np.bool_], owner: npt.NDArray[np.int64], keys: Sequence[Key]
) -> None:
    value = tally.values.setdefault(name, [0, 0])
    value[0] += len(lost)
    value[1] += int(lost.sum())
    lacks = np.bincount(owner[lost], minlength=len(keys))
    every = np.bincount(owner, minlength=len(keys))
    tally.measured.setdefault(name, set()).update(keys[int(i)] for i in np.flatnonzero(every > lacks))
    tally.lacking.setdefault(name, set()).update(keys[int(i)] for i in np.flatnonzero(lacks))


def _classes_by_person(
    everyone: Sequence[Patient], task: Task, label: dict[str, str]
) -> tuple[dict[Key, set[int]], RowSums]:
    """Return the classes of each person with an example, and how a hospital's classes add up.

    In a multilabel task an example need not have a label, so everyone is counted.
    """
    classes_by_person: dict[Key, set[int]] = {}
    for item in everyone:
        classes_by_person.setdefault((label[item.id], item.person), set()).update(
            i for i, n in enumerate(item.examples) if n
        )
    if task.kind == "multilabel":
        return classes_by_person, "free"
    used = {key: classes for key, classes in classes_by_person.items() if classes}
    return used, "exact" if all(len(classes) == 1 for classes in used.values()) else "at least"


def _table(used: dict[Key, set[int]], names: Sequence[str], classes: int) -> npt.NDArray[np.int64]:
    """Return the number of people by hospital and class, with totals of both."""
    row = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names) + 1, classes + 1), dtype=np.int64)
    for (site, _), held in used.items():
        table[row[site], [*held, classes]] += 1
    table[-1] = table[:-1].sum(0)
    return table


def _examples(
    tally: _Tally, people: npt.NDArray[np.int64], visible_people: npt.NDArray[np.bool_], task: Task, minimum: int
) -> list[Cell]:
    """Return the examples of each class, hidden where its people are, and in more classes if the sum discloses them.

    The examples of all classes add up, and a class has at least as many examples as people. So where a class is
    hidden, others are too, the rarest first, until the hidden ones have `minimum - 1` more examples than people.
    """
    numbers = np.zeros(len(people), dtype=np.int64) if tally.classes is None else tally.classes
    hidden = ~visible_people
    if task.kind == "multiclass" and hidden.any() and (numbers > people).any():
        for index in np.argsort(numbers):
            if (numbers - people)[hidden].sum() >= minimum - 1:
                break
            hidden[index] = True
    return ["hidden" if hide else int(number) for number, hide in zip(numbers, hidden, strict=True)]


def _line(numbers: Sequence[int], minimum: int) -> list[Cell]:
    """Return counts and, last, their total, with cells hidden that the total would disclose."""
    table = np.array([[*numbers, sum(numbers)]] * 2, dtype=np.int64)
    return format_cells(table, suppress_cells(table, minimum), minimum)[-1]


def _lines(cells: list[list[Cell]]) -> list[list[Cell]]:
    """Return the lines of the hospitals; of a single hospital, the totals."""
    return cells[:-1] if len(cells) > 2 else cells[-1:]


def _few(number: int, minimum: int) -> Cell:
    return f"<{minimum}" if 0 < number < minimum else number


def _ages(tally: _Tally, used: dict[Key, set[int]], minimum: int) -> dict[str, Any]:
    ages = np.array([tally.age[key] for key in used if key in tally.age])
    known, unknown, _ = _line([len(ages), len(used) - len(ages)], minimum)
    enough = len(ages) >= 4 * minimum
    quartiles = [_year(age) for age in np.quantile(ages, (0.25, 0.5, 0.75))] if enough else None
    return {"known": known, "unknown": unknown, "quartiles": quartiles}


def _year(age: float) -> Cell:
    return f">{MAX_AGE}" if round(age) > MAX_AGE else round(age)


def _sexes(tally: _Tally, used: dict[Key, set[int]], minimum: int) -> dict[str, Cell]:
    counts = Counter(tally.sex.get(key, -1) for key in used)
    return dict(zip(("female", "male", "unknown"), _line([counts[0], counts[1], counts[-1]], minimum), strict=False))


def _missing(tally: _Tally, used: dict[Key, set[int]], names: Sequence[str], minimum: int) -> list[dict[str, Any]]:
    each = list(names) if len(names) <= MAX_SITES_LISTED else []
    rows = {name: i for i, name in enumerate(each)}
    lines = []
    for name, (values, lacks) in tally.values.items():
        if not lacks:
            continue
        table = np.zeros((max(1, len(each)) + 1, 3), dtype=np.int64)
        for key in used:
            table[rows.get(key[0], 0), 0 if key in tally.measured[name] else 1] += 1
        table[:, 2] = table.sum(1)
        table[-1] = table.sum(0)
        state = suppress_cells(table, minimum)
        cells = format_cells(table, state, minimum)
        releasable = (state[-1, :2] == VISIBLE).all() and not 0 < len(tally.lacking[name]) < minimum
        lines.append(
            {
                "input": name,
                "share": round(lacks / values, 2) if releasable else "hidden",
                "never": cells[-1][1],
                "sites": {site: line[1] for site, line in zip(each, _lines(cells), strict=False)},
            }
        )
    return sorted(lines, key=lambda line: (-(line["share"] if isinstance(line["share"], float) else -1), line["input"]))


def _about(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "kind": task.kind,
        "channels": task.channels,
        "samples": task.samples,
        "rate_hz": task.rate_hz,
        "features": len(task.features),
    }


def _natural(name: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
