"""Whether a scaling that places histogram bins could be that of all hospitals together.

A coordinator that moves a scaling's centre and narrows its spread counts the people beyond a value of its choice. So
the scaling must lie near this hospital's own means and deviations: the same inputs elsewhere differ by some deviations,
not
by many, and no honest spread is a small part of this hospital's own.
"""

from __future__ import annotations

import numpy as np

from common.errors import SiteError
from common.scaling import Arrays, Scaling, fit_standard_scaling

MAX_SHIFT = 5.0
"""Most deviations of this hospital by which an agreed mean may differ from its own."""
MAX_RATIO = 20.0
"""Largest ratio between an agreed deviation and this hospital's own, or the other way round."""


def check_base_scaling(base: Scaling, moments: Arrays) -> None:
    """Refuse a scaling that is far from this hospital's own.

    Args:
        base: what came.
        moments: this hospital's own sums of the same inputs.

    Raises:
        SiteError: says so, and nothing of the hospital's values.
    """
    own = fit_standard_scaling(moments)
    varies = (moments["count"] > 1) & (moments["square"] / np.maximum(moments["count"], 1) - own.centre**2 > 0)
    if base.centre.shape != own.centre.shape:
        raise SiteError(f"the scaling is of {base.centre.size} columns, this task has {own.centre.size}")
    shift = np.abs(base.centre - own.centre) / own.spread
    ratio = base.spread / own.spread
    good = (shift <= MAX_SHIFT) & (ratio <= MAX_RATIO) & (ratio >= 1 / MAX_RATIO)
    if not (good | ~varies).all():
        raise SiteError("policy: the scaling that came is not one of these inputs, so no histogram is placed by it")
