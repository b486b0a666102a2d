"""Which column is the patient, the hospital, the outcome, the sex or the time: guessed by names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.errors import DataError
from sites.datasets.table.columns import Column, parse_numbers
from sites.datasets.table.description import Outcome, Sex, Time
from sites.datasets.table.examine import Table

PATIENT = re.compile(
    r"(patient|subject|person|participant|pat|case|mrn|pid|study)[ _.-]?(id|no|nr|num|number|code)?|id"
)
HOSPITAL = re.compile(r"(hospital|site|cent(?:er|re)|clinic|institution|klinik|krankenhaus)[ _.-]?(id|name|code|no)?")
_OUTCOME = re.compile(
    r"(outcome|label|target|died|dead|death|deceased|mortality|expired|event|class|diagnosis|disease|y|"
    r"readmission|readmitted|.*_(?:death|mortality|outcome|label|event))"
)
_TIME = re.compile(r"(time|hour|hours|datetime|timestamp|chart ?time|charttime|date|day|iculos|.*[ _](?:time|hours?))")
AGE = re.compile(r"(age|age[ _]?years|age[ _]?in[ _]?years|alter|anchor[ _]age)")
SEX = re.compile(r"(sex|gender|geschlecht)")
FEMALE = ("f", "female", "w", "weiblich", "woman", "femme", "mujer")
MALE = ("m", "male", "man", "maennlich", "männlich", "homme", "hombre")
DEATH = ("died", "dead", "death", "deceased", "mortality", "expired", "hospital death", "death in hospital")
EVENT_WORDS = ("1", "1.0", "yes", "y", "true", "died", "dead", "death", "deceased", "expired", "event", "positive",
               "case", "disease", "sick", "readmitted")  # fmt: skip


def find_named(
    columns: Mapping[str, Column],
    pattern: re.Pattern[str],
    fits: Callable[[Column], bool],
    excluded: Sequence[str | None] = (),
) -> str | None:
    """Return the first column whose whole name matches, the best match of the pattern's alternatives first."""
    for name, column in columns.items():
        if name not in excluded and pattern.fullmatch(name.strip().lower()) and fits(column):
            return name
    return None


def guess_outcome(table: Table, excluded: Sequence[str | None]) -> str:
    """Return the column of the outcome, by its name or as the only one with two values.

    Args:
        table: the table.
        excluded: columns that are not the outcome; None is ignored.

    Raises:
        DataError: no column can be recognised as it.
    """
    columns = table.columns
    named = find_named(columns, _OUTCOME, lambda c: 2 <= len(c.values) <= 10, excluded)
    if named:
        return named
    two = [name for name, column in columns.items() if len(column.values) == 2 and name not in excluded]
    two = [name for name in two if not SEX.fullmatch(name.lower())]
    if len(two) == 1:
        table.say("check", two[0], "taken as the outcome, because it is the only column with two values")
        return two[0]
    hint = f" (columns with two values: {', '.join(two[:10])})" if two else ""
    raise DataError(f"{table.path}: which column is the outcome? Name it with --outcome COLUMN{hint}")


def describe_outcome(column: Column, name: str) -> Outcome:
    """Return an outcome with its values in order; of two, the one that sounds like an event is the second.

    Raises:
        DataError: the column has one value, or more than 50.
    """
    values = column.values
    if len(values) > 50:
        raise DataError(f"column {name}: {len(values)} different values: an outcome has classes, 2 to 50 of them")
    if len(values) < 2:
        raise DataError(f"column {name}: an outcome needs two different values, this column has {len(values)}")
    numbers = parse_numbers(values)
    if len(values) == 2 and values[0].lower() in EVENT_WORDS and values[1].lower() not in EVENT_WORDS:
        values = values[::-1]
    elif len(values) == 2 and values[1].lower() in EVENT_WORDS:
        pass
    elif not np.isnan(numbers).any():
        values = tuple(values[i] for i in np.argsort(numbers, kind="stable"))
    else:
        values = tuple(sorted(values))
    classes: tuple[str, ...] = ()
    if set(values) <= {"0", "1", "0.0", "1.0"}:
        word = _words(name)[:37]
        classes = ("survived", "died") if word.lower() in DEATH else (f"no {word}", word)
    return Outcome(column=name, values=values, classes=classes, title=_words(name))


def _words(name: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9 .+/-]+", " ", name).strip()
    return cleaned if re.match(r"[A-Za-z0-9]", cleaned) else "event"


def guess_sex(table: Table, name: str) -> Sex | None:
    """Return which values of a column stand for female and male, or None if that is not clear."""
    values = table.columns[name].values
    female = tuple(value for value in values if value.lower() in FEMALE)
    male = tuple(value for value in values if value.lower() in MALE)
    if not female and not male and set(values) <= {"0", "1", "0.0", "1.0"}:
        table.say(
            "check", name, "0 is taken as female and 1 as male: correct sex.female and sex.male if it is otherwise"
        )
        return Sex(column=name, female=("0", "0.0"), male=("1", "1.0"))
    if not female or not male or len(values) > len(female) + len(male):
        table.say("check", name, "holds more than words for female and male: not used for figures by sex")
        return None
    return Sex(column=name, female=female, male=male)


def guess_time(table: Table, patient: str | None, outcome: str) -> Time | None:
    """Return the time column of rows in time: patients have several rows, and the outcome changes within one."""
    if patient is None:
        return None
    who, what = table.columns[patient].codes, table.columns[outcome].codes
    pairs = np.unique(np.stack([who, what]), axis=1).shape[1]
    if len(np.unique(who)) == len(who):
        return None
    if pairs == len(np.unique(who)):
        table.say(
            "note", patient, "patients have several rows and one outcome: rows are visits, patients stay together"
        )
        return None
    name = find_named(table.columns, _TIME, lambda c: bool(c.present.all()), (patient, outcome))
    if name is None:
        table.say("check", patient, "the outcome changes within a patient, but no column is called like a time")
        return None
    table.say("check", name, "taken as the time of a row; the event is predicted 6 hours ahead (time.ahead_hours)")
    return Time(column=name, ahead_hours=6.0)
