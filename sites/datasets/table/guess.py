"""Guessing the description of a table: which column is an input of which kind, and what looks odd in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import ValidationError

from common.errors import DataError
from sites.code_values import find_code_values, looks_like_code
from sites.datasets.table.columns import Column, Floats, NumberColumn, parse_numbers
from sites.datasets.table.description import Description, Input, Outcome, Reading, Sex, Time
from sites.datasets.table.examine import MISSING_CODES, THOUSANDS, Table
from sites.datasets.table.files import file_title
from sites.datasets.table.known import choose_unit, find_units, stated_units
from sites.datasets.table.roles import (
    AGE,
    HOSPITAL,
    NO,
    PATIENT,
    SEX,
    YES,
    describe_outcome,
    find_named,
    guess_outcome,
    guess_patient,
    guess_sex,
    guess_time,
)
from sites.spellings import count_alike, plain_spelling

MAX_VALUES = 30
_NUMBER_WITH_SIGN = re.compile(r"[<>~\u2264\u2265]?\s*[-+]?\d+(?:[.,:]\d+)*\s*(?P<unit>%|\u00b0|[a-zA-Z\u00b5/]{0,6})")
_IDENTITY = re.compile(
    r".*(name|phone|address|street|e?mail|ssn|zip|postcode|insurance|mrn|birth[ _]?date|date[ _]?of[ _]?birth|dob).*"
)
_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*"
    r"|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
)
FIRST_SECONDS, LAST_SECONDS = 3e8, 4.2e9
"""Seconds since 1970 of the years 1979 to 2103."""
FIRST_DAYS, LAST_DAYS = 25_569, 54_789
"""Days since 1900, as spreadsheets count them, of the years 1970 to 2049."""
MIN_DATES = 5
"""Whole numbers such as 20240131 are dates if there are so many different ones."""
LONGEST_NAME, LONGEST_COLUMN = 60, 200


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
    patient = patient or guess_patient(table)
    hospital = hospital or find_named(columns, HOSPITAL, lambda c: 1 < c.different <= 1000, excluded=(patient,))
    outcome = outcome or guess_outcome(table, (patient, hospital))
    age = find_named(columns, AGE, lambda c: True)
    if age is not None and table.numbers(age) is None:
        table.say("check", age, "is called like an age, but is not a number: not used for figures by age")
        age = None
    sex_column = find_named(columns, SEX, lambda c: c.different <= 6)
    sex = guess_sex(table, sex_column) if sex_column else None
    time = guess_time(table, patient, outcome)
    reading = table.reading.model_copy(update={"hospital": hospital}) if hospital else table.reading
    if patient is None:
        named = _find_identifier(columns, (hospital, outcome))
        hint = f"; if {named} does, name it: --patient {shlex.quote(named)}" if named else ""
        table.say("check", "", f"no column names the patients: each row counts as a patient of its own{hint}")
    special = {patient, hospital, outcome, time.column if time else None}
    described = describe_outcome(table, outcome)
    inputs: list[Input] = []
    for name, column in columns.items():
        if name in special:
            continue
        if len(name) > LONGEST_COLUMN:
            table.say("check", name[:LONGEST_NAME], f"left out: its name is longer than {LONGEST_COLUMN} characters")
            continue
        if sex is not None and name == sex.column:
            inputs.append(_sex_input(sex, table))
        elif (result := _guess_input(table, name, column)) is not None:
            inputs.append(_name_input(result, name, inputs))
    if not inputs:
        raise DataError(f"{table.path}: no column can be an input: each is constant, a text, a date or an identifier")
    try:
        return _describe(table, reading, patient, age, sex, time, described, inputs)
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise DataError(
            f"{table.path}: no description of its columns is possible: {problem}: rename a column"
        ) from None


def _find_identifier(columns: Mapping[str, Column], excluded: Sequence[str | None]) -> str | None:
    """Return the first column of single words, in every row and mostly different, that may name the patients."""
    for name, column in columns.items():
        words = name not in excluded and not isinstance(column, NumberColumn) and column.present.all()
        if words and column.different > max(MAX_VALUES, len(column.present) // 2):
            values = column.values
            plain = not any(" " in value or _DATE.fullmatch(value) for value in values)
            if plain and np.isnan(parse_numbers(values, ",")).all() and np.isnan(parse_numbers(values, ".")).all():
                return name
    return None


def _describe(
    table: Table,
    reading: Reading,
    patient: str | None,
    age: str | None,
    sex: Sex | None,
    time: Time | None,
    outcome: Outcome,
    inputs: Sequence[Input],
) -> Description:
    return Description(
        title=re.sub(r"[_-]+", " ", file_title(table.path)),
        read=reading,
        patient=patient,
        age=age,
        sex=sex,
        time=time,
        outcome=outcome,
        inputs=tuple(inputs),
    )


def _name_input(item: Input, column: str, others: Sequence[Input]) -> Input:
    """Return an input under its column's name, shortened and without `=` and line breaks, which no input's name has."""
    taken = {other.name for other in others}
    name = re.sub(r"[=\s]+", " ", column).strip()[:LONGEST_NAME].strip() or "input"
    for number in range(2, len(taken) + 3):
        if name not in taken:
            break
        name = f"{name[: LONGEST_NAME - 4].rstrip()} {number}"
    return item.model_copy(update={"name": name, "column": None if name == column else column})


def _sex_input(sex: Sex, table: Table) -> Input:
    missing = not table.columns[sex.column].present.all()
    return Input(
        name="male", column=sex.column, kind="yes_no", yes_values=sex.male, no_values=sex.female, indicator=missing
    )


def _guess_input(table: Table, name: str, column: Column) -> Input | None:
    lower, missing = name.strip().lower(), not column.present.all()
    if not column.different:
        table.say("note", name, "left out: every value is missing")
        return None
    if column.different == 1:
        table.say("note", name, "left out: the same value everywhere")
        return None
    if _IDENTITY.fullmatch(lower):
        table.say("check", name, "left out: by its name it identifies people")
        return None
    if column.different >= MIN_DATES and _holds_dates(column):
        table.say("note", name, "left out: dates are no input; give the age or hours between dates instead")
        return None
    numbers = table.numbers(name)
    if numbers is None:
        return _guess_words(table, name, column, missing)
    if column.different <= 4 and set(column.values) <= {"0", "1", "0.0", "1.0"}:
        return Input(name="x", kind="yes_no", yes_values=("1", "1.0"), no_values=("0", "0.0"), indicator=missing)
    whole = bool((numbers[column.present] % 1 == 0).all())
    different = column.different == int(column.present.sum()) == table.rows > 20
    if whole and different and (PATIENT.fullmatch(lower) or lower.endswith(("id", "no", "nr", "number"))):
        table.say("check", name, "left out: a different whole number in each row, as an identifier has")
        return None
    _check_codes(table, name, numbers)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    if whole and ((low >= 1900 and high <= 2100) or (low >= FIRST_SECONDS and high < LAST_SECONDS)):
        kind = "years of a calendar" if high <= 2100 else "seconds since 1970"
        table.say("check", name, f"its numbers may be {kind}: give the age or hours between times instead")
    if low >= FIRST_DAYS and high < LAST_DAYS and column.different >= MIN_DATES:
        table.say("check", name, "its numbers may be days since 1900, as a spreadsheet stores dates: give the age or "
                  "hours between times instead")  # fmt: skip
    unit = choose_unit(name, float(np.nanmedian(numbers)))
    if unit is None:
        _check_thousands(table, name)
    stated = " or ".join(stated_units(name))
    if unit is None and stated:
        table.say("wrong", name, f"its name says {stated}, in which its median is not plausible, or no range is known: "
                  "correct the name or the values, or state unit and range")  # fmt: skip
    elif unit is None and find_units(name):
        expected = " or ".join(item.name for item in find_units(name))
        table.say("check", name, f"its median is not plausible in {expected}: state its unit and range")
    return Input(
        name="x",
        kind="number",
        unit=unit.name if unit else "",
        range=unit.cell if unit else None,
        indicator=missing,
    )


def _holds_dates(column: Column) -> bool:
    """Return whether every value is a date; fractional numbers are none."""
    return not isinstance(column, NumberColumn) and all(_DATE.fullmatch(word.as_py()) for word in column.words)


def _guess_words(table: Table, name: str, column: Column, missing: bool) -> Input | None:
    values = column.values
    lower = [value.lower() for value in values]
    if all(_DATE.fullmatch(value) for value in values):
        table.say("note", name, "left out: dates are no input; give the age or hours between dates instead")
        return None
    if len(values) == 2 and sum(v in YES for v in lower) == 1 and sum(v in NO for v in lower) == 1:
        yes = tuple(value for value in values if value.lower() in YES)
        no = tuple(value for value in values if value.lower() in NO)
        return Input(name="x", kind="yes_no", yes_values=yes, no_values=no, indicator=missing)
    parsed = parse_numbers(values, table.reading.decimal)
    odd = np.isnan(parsed)
    if odd.mean() < 0.5 and len(values) > 10:
        row, count = column.first_row(odd), int(column.spread(odd, False).sum())
        table.say(
            "wrong", name, f"{count} cells are not numbers, the first in row {row}: correct them, or name what "
            "stands there under read.missing",
        )  # fmt: skip
        unit = choose_unit(name, float(np.nanmedian(parsed)))
        return Input(name="x", kind="number", unit=unit.name if unit else "", range=unit.cell if unit else None,
                     indicator=True)  # fmt: skip
    if len(values) > MAX_VALUES:
        numeric = all(any(map(str.isdigit, value)) and sum(map(str.isalpha, value)) < 4 for value in values)
        hint = ": if they are numbers, write them without units, % and signs for thousands" if numeric else ""
        table.say("check", name, f"left out: a text with {len(values)} different values{hint}")
        return None
    if len(values) > 4 and _are_numbers_with_sign(values):
        table.say("check", name, f"its {len(values)} values are numbers with a sign or unit, and become categories: "
                  "write the numbers alone")  # fmt: skip
    _check_answers(table, name, values)
    return Input(name="x", kind="category", values=tuple(sorted(values)), indicator=missing)


def _are_numbers_with_sign(values: Sequence[str]) -> bool:
    """Return whether all values are numbers followed by one unit, or times of a day."""
    matches = [_NUMBER_WITH_SIGN.fullmatch(value) for value in values]
    units = {match["unit"] for match in matches if match}
    return None not in matches and len(units - {""}) <= 1


def _check_answers(table: Table, name: str, values: Sequence[str]) -> None:
    """Report a category in which one answer may be written in several ways."""
    lower = [value.lower() for value in values]
    several = [group for group in (YES, NO) if sum(word in group for word in lower) > 1]
    if several or count_alike(map(plain_spelling, values)):
        table.say("check", name, f"some of its {len(values)} values may be one, as yes and Yes, or true and 1: write "
                  "each in one way")  # fmt: skip


def _check_thousands(table: Table, name: str) -> None:
    """Report numbers in which a sign for thousands may have been read as the decimal sign."""
    read = table.reading
    column = table.columns[name]
    if (read.delimiter, read.decimal) == (",", ".") or isinstance(column, NumberColumn):
        return
    signed = [value for value in column.values if read.decimal in value]
    whole = [value for value in column.values if read.decimal not in value]
    if len(signed) > 2 and all(map(THOUSANDS.fullmatch, signed)) and all(len(value) < 4 for value in whole):
        table.say("check", name, f"1{read.decimal}234 is read as a little more than 1: if the sign separates "
                  "thousands, write the numbers without it")  # fmt: skip


def _check_codes(table: Table, name: str, numbers: Floats) -> None:
    """Report numbers that may be codes for missing: -9, 999 and the like, far from all other values."""
    given = numbers[~np.isnan(numbers)]
    suspected = find_code_values(given)
    rest = given[~np.isin(given, [float(code) for code in MISSING_CODES])]
    if len(rest) >= 5:
        low, high = float(rest.min()), float(rest.max())
        for code in map(float, MISSING_CODES):
            if (count := int((given == code).sum())) and (code < 0 <= low or code > high + max(high - low, 1e-9)):
                suspected[code] = count
    for code, count in sorted(suspected.items()):
        texts = ", ".join(table.columns[name].spellings(code, table.reading.decimal)) or f"{code:.15g}"
        words = texts if looks_like_code(code) else "one number, far from all others,"
        table.say("check", name, f"{words} in {count} rows looks like a code for missing: name it under read.missing")
