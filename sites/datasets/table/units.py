"""Inputs in another unit than the description says, at one hospital of a file of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.errors import DataError
from sites.datasets.table.cells import OTHER_UNIT_SHARE, FileTally
from sites.datasets.table.description import Description
from sites.plausible_values import Limits, describe_cleared

FEWEST_VALUES = 20
"""One hospital's values are judged alone if there are so many: of fewer, a few odd cells are most."""


def tally_units(
    description: Description,
    features: npt.NDArray[np.float32],
    cleared: Mapping[str, npt.NDArray[np.bool_]],
    hospital: Sequence[str],
    tally: FileTally,
) -> None:
    """Add to the tally of a file, by input and hospital, how many values are outside of the range, and of how many.

    Args:
        description: the inputs.
        features: some rows of the file, `(rows, features)`, NaN where outside or missing.
        cleared: by reason, the rows in which a cell became missing.
        hospital: the name in each row; "" where there is none.
        tally: of the file.
    """
    names, index = np.unique(np.asarray(hospital, dtype=np.str_), return_inverse=True)
    position = 0
    for item in description.inputs:
        column = position
        position += len(item.features)
        if item.kind != "number" or item.range is None:
            continue
        outside = cleared.get(describe_cleared(item.name, Limits(item.unit, item.range)))
        given = ~np.isnan(features[:, column])
        beyond = np.bincount(index[outside], minlength=len(names)) if outside is not None else np.zeros(len(names), int)
        inside = np.bincount(index[given], minlength=len(names))
        for name, far, near in zip(names.tolist(), beyond.tolist(), inside.tolist(), strict=True):
            before = tally.by_hospital.get((item.name, name), (0, 0))
            tally.by_hospital[item.name, name] = before[0] + far, before[1] + far + near


def check_units(path: Path, description: Description, tally: FileTally) -> None:
    """Check that no hospital of a file has most values of an input outside its range: it would count as not measured.

    Raises:
        DataError: names column and hospital.
    """
    for item in description.inputs:
        for (name, hospital), (beyond, values) in sorted(tally.by_hospital.items()):
            if name != item.name or not hospital or item.range is None:
                continue
            if values >= FEWEST_VALUES and beyond > OTHER_UNIT_SHARE * values:
                low, high = item.range
                raise DataError(
                    f"{path}: column {item.source}: most values of hospital {hospital} are outside {low:g} to {high:g} "
                    f"{item.unit}".rstrip()
                    + ": are they in another unit? Convert them, or correct range of the input"
                )
