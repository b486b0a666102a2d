"""Inputs in another unit than the description says, at one hospital of a file of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sites.datasets.table.cells import OTHER_UNIT_SHARE
from sites.datasets.table.description import Description
from sites.datasets.table.files import RawFile
from sites.plausible_values import Limits, describe_cleared

FEWEST_VALUES = 20
"""One hospital's values are judged like those of a whole file if there are so many: of fewer, a few odd cells are most."""


def check_units(
    raw: RawFile,
    description: Description,
    features: npt.NDArray[np.float32],
    cleared: Mapping[str, npt.NDArray[np.bool_]],
    hospital: Sequence[str],
) -> None:
    """Check that no hospital of a file has most values of an input outside its range: it would count as not measured.

    Raises:
        DataError: names column and hospital.
    """
    names = np.asarray(hospital, dtype=object)
    position = 0
    for item in description.inputs:
        column = position
        position += len(item.features)
        if item.kind != "number" or item.range is None:
            continue
        outside = cleared.get(describe_cleared(item.name, Limits(item.unit, item.range)))
        if outside is None:
            continue
        given = outside | ~np.isnan(features[:, column])
        for name in sorted(set(names[outside].tolist()) - {""}):
            own = names == name
            beyond, values = int((outside & own).sum()), int((given & own).sum())
            if values >= FEWEST_VALUES and beyond > OTHER_UNIT_SHARE * values:
                low, high = item.range
                raise raw.error(
                    item.source, 0,
                    f"most values of hospital {name} are outside {low:g} to {high:g} {item.unit}".rstrip()
                    + ": are they in another unit? Convert them, or correct range of the input",
                )  # fmt: skip
