"""Which column is the patient, the hospital, the outcome, the sex or the time: guessed by names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.errors import DataError
from sites.datasets.table.columns import Column, parse_numbers
from sites.datasets.table.description import Outcome, Sex, Time
from sites.datasets.table.examine import MISSING_CODES, Table
from sites.spellings import count_alike, plain_spelling

PATIENT = re.compile(
    r"(patient|subject|person|participant|pat|case|mrn|pid|study|patienten?|paciente|probanden?)"
    r"[ _.-]?(id|no|nr|num|number|code|nummer|numero|n\N{MASCULINE ORDINAL INDICATOR})?|fall[ _.-]?(id|nr|nummer)|id"
)
_OFTEN_A_STAY = re.compile(r"case|fall|study|id$")
"""Of the names of PATIENT, those that often name a stay, an examination or a row."""
HOSPITAL = re.compile(r"(hospital|site|cent(?:er|re)|clinic|institution|klinik|krankenhaus)[ _.-]?(id|name|code|no)?")
_OUTCOME = re.compile(
    r"(outcome|label|target|died|dead|death|deceased|mortality|expired|event|class|diagnosis|disease|y|"
    r"readmission|readmitted|.*_(?:death|mortality|outcome|label|event))"
)
_NO_HOURS = re.compile(r"(date|datetime|timestamp|day)s?")
"""Names of times that, written as numbers, are no hours."""
_TIME = re.compile(r"(time|hour|hours|datetime|timestamp|chart ?time|charttime|date|day|iculos|.*[ _](?:time|hours?))")
AGE = re.compile(r"(age|age[ _]?years|age[ _]?in[ _]?years|alter|anchor[ _]age)")
SEX = re.compile(r"(sex|gender|geschlecht)")
FEMALE = ("f", "female", "w", "weiblich", "woman", "femme", "mujer")
MALE = ("m", "male", "man", "maennlich", "männlich", "homme", "hombre")
DEATH = ("died", "dead", "death", "deceased", "mortality", "expired", "hospital death", "death in hospital")
YES = ("1", "yes", "y", "true", "t", "ja", "j", "oui", "si", "sí", "sim", "tak", "positive", "pos", "+",
       "present", "1.0")  # fmt: skip
NO = ("0", "no", "n", "false", "f", "nein", "non", "nee", "não", "nie", "negative", "neg", "-", "absent",
      "0.0")  # fmt: skip
EVENT_WORDS = (*YES, "died", "dead", "death", "deceased", "expired", "event", "case", "disease", "sick", "readmitted",
               "abnormal", "failure", "verstorben", "tot", "exitus", "décédé", "décédée", "mort", "morto", "overleden",
               "fallecido")  # fmt: skip
OTHER_WORDS = (*NO, "alive", "living", "survived", "survivor", "discharged", "healthy", "normal", "control", "success",
               "lebend", "vivant", "vivante", "vivo", "levend")  # fmt: skip
"""What stands for the class that is not the event."""
MOST_CLASSES_BY_NUMBER = 6
"""With more classes than this, a number is not taken for a code for missing."""


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


def guess_patient(table: Table) -> str | None:
    """Return the column that names the patients, if one is called so; report where that is not certain."""
    columns = [name for name, column in table.columns.items()
               if PATIENT.fullmatch(name.strip().lower()) and column.different > 1]  # fmt: skip
    surely = [name for name in columns if not _OFTEN_A_STAY.match(name.strip().lower())]
    chosen = next(iter(surely or columns), None)
    others = [name for name in columns if name != chosen]
    if chosen is not None and (others or not surely):
        besides = f", and not {others[0]}" if others else ""
        table.say("check", chosen, f"taken as the patient{besides}: if a person may have several, name another column "
                  "with --patient, or a person is in training and in test")  # fmt: skip
    return chosen


def guess_outcome(table: Table, excluded: Sequence[str | None]) -> str:
    """Return the column of the outcome, by its name or as the only one with two values.

    Args:
        table: the table.
        excluded: columns that are not the outcome; None is ignored.

    Raises:
        DataError: no column can be recognised as it.
    """
    columns = table.columns
    named = find_named(columns, _OUTCOME, lambda c: 2 <= c.different <= 10, excluded)
    if named:
        return named
    two = [name for name, column in columns.items() if column.different == 2 and name not in excluded]
    two = [name for name in two if not SEX.fullmatch(name.lower())]
    if len(two) == 1:
        table.say("check", two[0], "taken as the outcome, because it is the only column with two values")
        return two[0]
    hint = f" (columns with two values: {', '.join(two[:10])})" if two else ""
    raise DataError(f"{table.path}: which column is the outcome? Name it with --outcome COLUMN{hint}")


MAX_NUMBERS = 20
"""Different numbers of an outcome; more are a measurement."""


def describe_outcome(table: Table, name: str) -> Outcome:
    """Return an outcome with its values in order; of two, the one that sounds like an event is the second.

    Raises:
        DataError: the column has one value, or more than 50, or many numbers, or one class in two spellings.
    """
    values = table.columns[name].values
    if len(values) > 50:
        raise DataError(f"column {name}: {len(values)} different values: an outcome has classes, 2 to 50 of them")
    if len(values) < 2:
        raise DataError(f"column {name}: an outcome needs two different values, this column has {len(values)}")
    if len(values) > MAX_NUMBERS and not np.isnan(parse_numbers(values)).any():
        raise DataError(
            f"column {name}: {len(values)} different numbers are a measurement, and an outcome has classes: cut it "
            "into classes in a column of its own, or name another column with --outcome"
        )
    if count_alike(map(plain_spelling, values)):
        raise DataError(
            f"{table.path}: column {name}: some of its {len(values)} values differ only in case, spaces or zeros, as "
            "yes and Yes, or 1 and 1.0: write each class in one way"
        )
    numbers = parse_numbers(values)
    if np.isnan(numbers).any():
        values = tuple(sorted(values))
    else:
        values = tuple(values[i] for i in np.argsort(numbers, kind="stable"))
        _check_outcome_codes(table, name, values)
    known = [value for value, number in zip(values, parse_numbers(values), strict=True)
             if not np.isnan(number) or value.lower() in (*EVENT_WORDS, *OTHER_WORDS)]  # fmt: skip
    if len(known) == 2 < len(values):
        others = ", ".join(value for value in values if value not in known)
        table.say("check", name, f"besides {known[0]} and {known[1]} it holds {others}: if these mean not known, name "
                  "them under read.missing, and remove them from outcome.values")  # fmt: skip
    if name.strip().lower() in OTHER_WORDS:
        table.say("check", name, "by its name the event is the good outcome: turn outcome.values round if it is not")
    if len(values) == 2:
        values = _order_by_words(table, name, values)
    classes: tuple[str, ...] = ()
    if set(values) <= {"0", "1", "0.0", "1.0"}:
        word = _words(name)[:37]
        classes = ("survived", "died") if word.lower() in DEATH else (f"no {word}", word)
    return Outcome(column=name, values=values, classes=classes, title=_words(name))


def _order_by_words(table: Table, name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return two values with the event as the second; report it where no word says which one that is."""
    weights = [(value.lower() in EVENT_WORDS) - (value.lower() in OTHER_WORDS) for value in values]
    numbers = parse_numbers(values)
    clear = weights[0] != weights[1] if np.isnan(numbers).any() else numbers[0] in (0.0, -1.0) and numbers[1] == 1.0
    if not clear:
        table.say(
            "check", name, "which of its two values is the event does not follow from their words: the second under "
            "outcome.values is taken; turn the two round if it is the first",
        )  # fmt: skip
    return values[::-1] if weights[0] > weights[1] else values


def _check_outcome_codes(table: Table, name: str, values: tuple[str, ...]) -> None:
    """Report classes that are numbers as -9 or 99, far from all others: codes for an outcome that is not known."""
    numbers = parse_numbers(values)
    is_code = np.isin(numbers, [float(code) for code in MISSING_CODES])
    rest = numbers[~is_code]
    if not is_code.any() or not 2 <= len(rest) <= MOST_CLASSES_BY_NUMBER or rest.min() < 0:
        return
    codes = [value for value, number in zip(values, numbers, strict=True)
             if number in numbers[is_code] and (number < 0 or number > rest.max() + 1)]  # fmt: skip
    if codes:
        table.say("check", name, f"{', '.join(codes)} looks like a code for missing: name it under read.missing, and "
                  "remove it from outcome.values")  # fmt: skip


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
    if _NO_HOURS.fullmatch(name.lower()) and table.numbers(name) is not None:
        table.say("wrong", name, "its numbers are read as hours, which its name does not say: write hours, or dates as "
                  "2024-01-31T13:00")  # fmt: skip
    if table.numbers(name) is not None and "hour" not in name.lower() and not _NO_HOURS.fullmatch(name.lower()):
        table.say("check", name, "its numbers are read as hours: are they minutes, days or seconds? Then convert them")
    table.say("check", name, "taken as the time of a row; the event is predicted 6 hours ahead (time.ahead_hours)")
    return Time(column=name, ahead_hours=6.0)
