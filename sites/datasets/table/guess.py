"""Guessing the description of a table: which column is an input of which kind, and what looks odd in it."""

from __future__ import annotations

import re

import numpy as np

from common.errors import DataError
from sites.datasets.table.columns import Column, Floats, parse_numbers
from sites.datasets.table.description import Description, Input, Sex
from sites.datasets.table.examine import Table
from sites.datasets.table.known import choose_unit, find_units
from sites.datasets.table.roles import (
    AGE,
    HOSPITAL,
    PATIENT,
    SEX,
    describe_outcome,
    find_named,
    guess_outcome,
    guess_sex,
    guess_time,
)

MISSING_CODES = ("-9", "-99", "-999", "-9999", "999", "9999", "99999")
MAX_VALUES = 30
_IDENTITY = re.compile(
    r".*(name|phone|address|street|e?mail|ssn|zip|postcode|insurance|mrn|birth[ _]?date|date[ _]?of[ _]?birth|dob).*"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*")
YES = ("1", "yes", "y", "true", "t", "ja", "oui", "si", "positive", "present", "1.0")
NO = ("0", "no", "n", "false", "f", "nein", "non", "negative", "absent", "0.0")


def guess_description(
    table: Table, *, outcome: str | None = None, patient: str | None = None, hospital: str | None = None
) -> Description:
    """Return a description of a table; what should be looked at goes to its findings.

    Args:
        table: the table.
        outcome: the column of the outcome; none: guessed by name and values.
        patient: the column of the patient; none: guessed.
        hospital: the column of the hospital; none: guessed.

    Raises:
        DataError: no such column, or no column can be the outcome.
    """
    columns = table.columns
    for name in (outcome, patient, hospital):
        if name is not None and name not in columns:
            raise DataError(f"{table.path}: no column {name}; there are {', '.join(list(columns)[:20])}")
    patient = patient or find_named(columns, PATIENT, lambda c: len(c.values) > 1)
    hospital = hospital or find_named(columns, HOSPITAL, lambda c: 1 < len(c.values) <= 1000, excluded=(patient,))
    outcome = outcome or guess_outcome(table, (patient, hospital))
    age = find_named(columns, AGE, lambda c: True)
    if age is not None and table.numbers(age) is None:
        table.say("check", age, "is called like an age, but is not a number: not used for figures by age")
        age = None
    sex_column = find_named(columns, SEX, lambda c: len(c.values) <= 6)
    sex = guess_sex(table, sex_column) if sex_column else None
    time = guess_time(table, patient, outcome)
    reading = table.reading.model_copy(update={"hospital": hospital}) if hospital else table.reading
    if patient is None:
        table.say("check", "", "no column names the patients: each row counts as a patient of its own")
    special = {patient, hospital, outcome, time.column if time else None}
    inputs = []
    for name, column in columns.items():
        if name in special:
            continue
        if sex is not None and name == sex.column:
            inputs.append(_sex_input(sex, table))
        elif (result := _guess_input(table, name, column)) is not None:
            inputs.append(result)
    if not inputs:
        raise DataError(f"{table.path}: no column can be an input: each is constant, a text, a date or an identifier")
    return Description(
        title=re.sub(r"[_-]+", " ", table.path.name.split(".")[0]),
        read=reading,
        patient=patient,
        age=age,
        sex=sex,
        time=time,
        outcome=describe_outcome(columns[outcome], outcome),
        inputs=tuple(inputs),
    )


def _sex_input(sex: Sex, table: Table) -> Input:
    missing = not table.columns[sex.column].present.all()
    return Input(
        name="male", column=sex.column, kind="yes_no", yes_values=sex.male, no_values=sex.female, indicator=missing
    )


def _guess_input(table: Table, name: str, column: Column) -> Input | None:
    lower, missing = name.strip().lower(), not column.present.all()
    if not len(column.values):
        table.say("note", name, "left out: every value is missing")
        return None
    if len(column.values) == 1:
        table.say("note", name, "left out: the same value everywhere")
        return None
    if _IDENTITY.fullmatch(lower):
        table.say("check", name, "left out: by its name it identifies people")
        return None
    numbers = table.numbers(name)
    if numbers is None:
        return _guess_words(table, name, column, missing)
    if set(column.values) <= {"0", "1", "0.0", "1.0"}:
        return Input(name=name, kind="yes_no", yes_values=("1", "1.0"), no_values=("0", "0.0"), indicator=missing)
    whole = bool((numbers[column.present] % 1 == 0).all())
    different = len(column.values) == int(column.present.sum()) == table.rows > 20
    if whole and different and (PATIENT.fullmatch(lower) or lower.endswith(("id", "no", "nr", "number"))):
        table.say("check", name, "left out: a different whole number in each row, as an identifier has")
        return None
    _check_codes(table, name, numbers)
    unit = choose_unit(name, float(np.nanmedian(numbers)))
    if unit is None and find_units(name):
        expected = " or ".join(item.name for item in find_units(name))
        table.say("check", name, f"its median is not plausible in {expected}: state its unit and range")
    return Input(
        name=name,
        kind="number",
        unit=unit.name if unit else "",
        range=unit.cell if unit else None,
        indicator=missing,
    )


def _guess_words(table: Table, name: str, column: Column, missing: bool) -> Input | None:
    values = column.values
    lower = [value.lower() for value in values]
    if all(_DATE.fullmatch(value) for value in values):
        table.say("note", name, "left out: dates are no input; give the age or hours between dates instead")
        return None
    if len(values) == 2 and sum(v in YES for v in lower) == 1 and sum(v in NO for v in lower) == 1:
        yes = tuple(value for value in values if value.lower() in YES)
        no = tuple(value for value in values if value.lower() in NO)
        return Input(name=name, kind="yes_no", yes_values=yes, no_values=no, indicator=missing)
    parsed = parse_numbers(values, table.reading.decimal)
    odd = np.isnan(parsed)
    if odd.mean() < 0.5 and len(values) > 10:
        row, count = column.first_row(odd), int(column.spread(odd, False).sum())
        table.say(
            "wrong", name, f"{count} cells are not numbers, the first in row {row}: correct them, or name what "
            "stands there under read.missing",
        )  # fmt: skip
        unit = choose_unit(name, float(np.nanmedian(parsed)))
        return Input(name=name, kind="number", unit=unit.name if unit else "", range=unit.cell if unit else None,
                     indicator=True)  # fmt: skip
    if len(values) > MAX_VALUES:
        table.say("check", name, f"left out: a text with {len(values)} different values")
        return None
    return Input(name=name, kind="category", values=tuple(sorted(values)), indicator=missing)


def _check_codes(table: Table, name: str, numbers: Floats) -> None:
    """Report numbers that may be codes for missing: -9, 999 and the like, far from all other values."""
    given = numbers[~np.isnan(numbers)]
    for code in MISSING_CODES:
        is_code = given == float(code)
        rest = given[~is_code]
        if not is_code.any() or len(rest) < 5:
            continue
        low, high = float(rest.min()), float(rest.max())
        spread = max(high - low, 1e-9)
        if (float(code) < min(low, 0) - 0.2 * spread and low >= 0) or float(code) > high + spread:
            table.say("check", name, f"{code} in {int(is_code.sum())} rows looks like a code for missing: name it "
                      "under read.missing")  # fmt: skip
