"""Inputs of a hospital that are far from those of the training patients, and classes that it lacks: said, not left out.

A column in another unit, or two columns turned round, may be plausible in itself; next to the mean and the standard
deviation by which the model scales it, it is not. More than half of the values lie more than FAR deviations from the
training mean, or nine tenths of them are spread WIDE times as far as there. Another population seldom goes so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from common.scaling import Scaling
from sites.cohort import Cohort, Windows
from sites.plausible_values import MANY

FAR, WIDE = 3.0, 4.0
DEVIATIONS = 2.563
"""Between the 10% and the 90% quantile of a normal distribution."""
MOST_LISTED = 8
FAR_FROM_TRAINING = "far from the values that the model was trained on"


def describe_unusual_inputs(cohorts: Mapping[str, Cohort], scaling: Scaling | None) -> list[str]:
    """Return a sentence for each hospital that lacks a class, or whose inputs are far from the training patients'."""
    texts = []
    for site, cohort in cohorts.items():
        absent = [name for name, n in zip(cohort.task.classes, cohort.class_counts(), strict=True) if not n]
        if absent and not cohort.task.anomaly:
            texts.append(f"{site}: no example of {_shorten(absent)}: figures that need this class have no value.")
        if scaling is not None and (columns := list(find_unusual_inputs(cohort, scaling))):
            texts.append(
                f"{site}: {_shorten(columns)}: {FAR_FROM_TRAINING}. Is it another unit, another column, or another "
                "population?"
            )
    return texts


def count_unusual_inputs(cohort: Cohort, scaling: Scaling | None) -> dict[str, int]:
    """Return the number of examples by each input of theirs that is far from the training patients'."""
    names = list(find_unusual_inputs(cohort, scaling)) if scaling is not None else []
    return {f"{name}: {FAR_FROM_TRAINING}: another unit, column or population?": len(cohort.y) for name in names}


def find_unusual_inputs(cohort: Cohort, scaling: Scaling) -> Iterator[str]:
    """Yield the inputs, other than those of 0 and 1, whose values are far from the training patients'.

    Args:
        cohort: a hospital's examples in their own units.
        scaling: of features, then channels.
    """
    task = cohort.task
    width = len(task.features)
    signals: npt.NDArray[np.float32] | None = cohort.x.rows[cohort.x.end] if isinstance(cohort.x, Windows) else None
    for at, name in enumerate((*task.features, *(task.channel_names if signals is not None else ()))):
        values = cohort.features[:, at] if signals is None or at < width else signals[:, at - width]
        known = ~np.isnan(values)
        people = len({cohort.persons[i] for i in np.unique(cohort.patient[known]).tolist()})
        if people < MANY or name in task.binary_features or np.isin(values[known], (0, 1)).all():
            continue
        deviations = (values[known].astype(np.float64) - scaling.centre[at]) / scaling.spread[at]
        low, middle, high = np.quantile(deviations, (0.1, 0.5, 0.9))
        if abs(middle) > FAR or (high - low) / DEVIATIONS > WIDE:
            yield name


def _shorten(names: list[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
