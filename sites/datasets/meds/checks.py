"""What an extract must hold for its values to be read as they are meant: kinds of columns, units, spellings, tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.meds.description import Description, matches

Kind = Literal["number of a person", "time", "text", "number", "any"]
SPLIT_FOLDERS = {"train", "tuning", "held_out"}
_WANTED = {
    "number of a person": "whole numbers (int64)",
    "time": "times without a zone, or in UTC (timestamp)",
    "text": "texts or whole numbers",
    "number": "numbers (float32)",
}
_UTC = ("utc", "z", "gmt", "etc/utc", "+00:00")
_UNITS = {
    "%", "mmhg", "kpa", "cmh2o", "bpm", "insp/min", "c", "f", "°c", "°f", "degc", "degf", "kg", "g", "lb", "lbs", "oz",
    "cm", "m", "in", "inch", "inches", "mm", "ml", "l", "mg", "ug", "ng", "s", "sec", "ms", "h", "min", "u", "iu",
}  # fmt: skip
"""Units without a stroke, in lower case."""


def check_kind(path: Path, name: str, kind: Any, wanted: Kind) -> None:
    """Check the type of a column, which a cast would otherwise cut short: 1.7 to 1, a date to midnight.

    Raises:
        DataError: it is not what MEDS says; names the column and both types.
    """
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    texts = types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain)
    fits = {
        "number of a person": types.is_integer(plain),
        "time": types.is_timestamp(plain) and (plain.tz is None or plain.tz.lower() in _UTC),
        "text": texts or types.is_integer(plain),
        "number": types.is_integer(plain) or types.is_floating(plain) or types.is_decimal(plain),
        "any": True,
    }
    if not fits[wanted]:
        raise DataError(f"{path}: column {name} holds {kind}; MEDS has {_WANTED[wanted]} there: write it so")


def check_one_task(root: Path, files: Sequence[Path]) -> None:
    """Check that label files are of one task: in a folder each, several tasks would be joined to one outcome.

    Raises:
        DataError: names the folders.
    """
    tops = sorted({path.relative_to(root).parts[0] for path in files if len(path.relative_to(root).parts) > 1})
    if len(tops) > 1 and not set(tops) <= SPLIT_FOLDERS:
        raise DataError(
            f"{root}: labels of several tasks ({', '.join(tops[:4])}): name the folder of one under read.labels, "
            f"as in {root.name}/{tops[0]}"
        )


def check_codes(folder: Path, options: Description, valued: dict[str, bool]) -> None:
    """Check spellings and units of the codes of an extract; `valued` says which have a number in an event.

    Raises:
        DataError: events would not count, or numbers of several units would be joined.
    """
    patterns = [*options.outcome.codes, *(options.index.codes if options.index else ())]
    patterns += [pattern for item in options.inputs for pattern in item.patterns]
    used = [code for code in valued if matches(tuple(patterns), code)]
    check_spellings(folder, used, valued.keys() - set(used))
    numeric = [item for item in options.inputs if set(item.summaries) - {"count"}]
    own = {item.name: [code for code in used if valued[code] and matches(item.patterns, code)] for item in numeric}
    for item in numeric:
        check_units(folder, item.name, item.unit, own[item.name])
    occurs = any(matches(item.patterns, code) for item in numeric for code in used)
    if occurs and not any(own.values()):
        raise DataError(f"{folder}: no event of an input has a number in the column numeric_value: is it called so?")


def check_spellings(folder: Path, used: Iterable[str], others: Iterable[str]) -> None:
    """Check that no code differs from a code that is used only in case or spaces: its events would not count.

    Raises:
        DataError: names both.
    """
    plain = {" ".join(code.split()).casefold(): code for code in used}
    for code in others:
        if (alike := plain.get(" ".join(code.split()).casefold())) is not None:
            raise DataError(
                f"{folder}: the codes {alike!r} and {code!r} differ only in case or spaces: write one of them"
            )


def check_units(folder: Path, name: str, unit: str, codes: Iterable[str]) -> None:
    """Check that the values of an input are in one unit, where codes end in it, as in `LAB//50931//mg/dL`.

    Raises:
        DataError: names the input and the units.
    """
    ends = {end for code in codes if "//" in code and _is_unit(end := code.rpartition("//")[2])}
    by_plain = {_plain_unit(end): end for end in sorted(ends)}
    if len(by_plain) > 1:
        raise DataError(
            f"{folder}: input {name} takes values in several units ({', '.join(sorted(by_plain.values())[:4])}): name "
            "only the codes of one unit"
        )
    if unit and _is_unit(unit) and by_plain and _plain_unit(unit) not in by_plain:
        raise DataError(f"{folder}: input {name} is in {unit}, but its codes are in {next(iter(by_plain.values()))}")


def _plain_unit(text: str) -> str:
    return text.strip().casefold().replace("µ", "u").replace("\N{GREEK SMALL LETTER MU}", "u").replace("°", "")


def _is_unit(text: str) -> bool:
    return _plain_unit(text) in _UNITS or text.strip().casefold() in _UNITS or text.count("/") == 1


def sum_spans(
    values: npt.NDArray[np.float64], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the sum of `values[low:high]` for each pair, each by itself: a huge value spoils no other's sum."""
    if not len(low):
        return np.zeros(0)
    ends = np.stack([low, high], axis=1).ravel()
    sums: npt.NDArray[np.float64] = np.add.reduceat(np.append(values, 0.0), ends)[::2]
    return np.where(high > low, sums, 0.0)
