"""Cells of a described table as inputs: numbers within their ranges, yes or no, categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.columns import CellError, Floats
from sites.datasets.table.description import Description, Input
from sites.datasets.table.files import RawFile
from sites.plausible_values import Limits, describe_cleared

OTHER_UNIT_SHARE = 0.5
"""A file is refused if more than this share of a column lies outside its public range: it must be in another unit."""
AGE_ROLE = "\0age"
"""Of the ages in a tally, which no input is called."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FileTally:
    """What is judged over all rows of a file, which are read some after the others.

    Attributes:
        outside: by input, the number of cells outside of its range, and of all cells.
        by_hospital: the same by input and hospital.
        times: whether times are numbers or dates.
    """

    outside: dict[str, tuple[int, int]] = field(default_factory=dict)
    by_hospital: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    times: set[str] = field(default_factory=set)


def build_features(
    raw: RawFile, description: Description, decimal: str, tally: FileTally
) -> tuple[npt.NDArray[np.float32], dict[str, Mask]]:
    """Return the inputs `(rows, features)`, and for each reason a mask of the rows in which a cell became missing.

    Raises:
        DataError: a cell is not what the description says; names file, row and column.
    """
    blocks: list[npt.NDArray[np.float32]] = []
    cleared: dict[str, Mask] = {}
    for item in description.inputs:
        block = _input(raw, item, decimal, cleared, tally)
        if item.indicator:
            block = np.column_stack([block, ~np.isnan(block[:, 0])]).astype(np.float32)
        blocks.append(block)
    features: npt.NDArray[np.float32] = np.concatenate(blocks, axis=1)
    return features, cleared


def _input(
    raw: RawFile, item: Input, decimal: str, cleared: dict[str, Mask], tally: FileTally
) -> npt.NDArray[np.float32]:
    column = raw.columns[item.source]
    if item.kind == "number":
        numbers = read_numbers(raw, item.source, decimal)
        if item.range is not None:
            numbers = _within(item, numbers, cleared, tally)
        return np.asarray(numbers[:, None], dtype=np.float32)
    groups = [(value,) for value in item.values] if item.kind == "category" else [item.no_values, item.yes_values]
    positions = column.positions(groups)
    if (unknown := positions == -2).any():
        if item.others == "refuse":
            words = "values" if item.kind == "category" else "yes_values and no_values"
            raise raw.error(
                item.source, int(np.flatnonzero(unknown)[0]) + 1,
                f"a value that {words} of input {item.name} do not name: add it there, to read.missing, or set others: "
                "missing",
            )  # fmt: skip
        cleared[f"{item.name}: a value that is not in the description, read as not measured"] = unknown
    if item.kind == "yes_no":
        return np.asarray(np.where(positions < 0, np.nan, positions)[:, None], dtype=np.float32)
    is_value = positions[:, None] == np.arange(len(groups))
    return np.asarray(np.where(positions[:, None] < 0, np.nan, is_value), dtype=np.float32)


def _within(item: Input, numbers: Floats, cleared: dict[str, Mask], tally: FileTally) -> Floats:
    low, high = item.range or (-np.inf, np.inf)
    with np.errstate(invalid="ignore"):
        beyond = (numbers < low) | (numbers > high)
    before = tally.outside.get(item.name, (0, 0))
    tally.outside[item.name] = before[0] + int(beyond.sum()), before[1] + int((~np.isnan(numbers)).sum())
    if beyond.any():
        cleared[describe_cleared(item.name, Limits(item.unit, (low, high)))] = beyond
    return np.where(beyond, np.nan, numbers)


def check_tally(path: Path, description: Description, tally: FileTally) -> None:
    """Refuse a file in which most values of an input are outside of its range, or times are numbers and dates.

    Raises:
        DataError: names the column, and how many are outside.
    """
    if len(tally.times) > 1 and description.time is not None:
        kinds = " and ".join(f"a {kind}" for kind in sorted(tally.times))
        raise DataError(f"{path}: column {description.time.column}: some rows have {kinds}: write all in one way")
    beyond, given = tally.outside.get(AGE_ROLE, (0, 0))
    if beyond > OTHER_UNIT_SHARE * given:
        raise DataError(
            f"{path}: column {description.age}: {beyond} of {given} ages are outside 0 to 130 years: are they years of "
            "birth, months or days? Convert them to years"
        )
    for item in description.inputs:
        beyond, given = tally.outside.get(item.name, (0, 0))
        if item.range is not None and beyond > OTHER_UNIT_SHARE * given:
            low, high = item.range
            raise DataError(
                f"{path}: column {item.source}: {beyond} of {given} values are outside {low:g} to {high:g} "
                f"{item.unit}".rstrip()
                + ": is it in another unit? Convert it, or correct range of the input"
            )


def read_numbers(raw: RawFile, name: str, decimal: str) -> Floats:
    """Return a column as numbers, float64 `(rows,)`, NaN where missing.

    Raises:
        DataError: a cell is no number; names file, row and column.
    """
    try:
        return raw.columns[name].numbers(decimal)
    except CellError as error:
        raise raw.error(
            name, error.row,
            f"{error.problem}: if it means not measured, name it under read.missing; if the decimal sign is another, "
            "set read.decimal",
        ) from None  # fmt: skip
