"""A check that a scaling sent by the server, by which histogram bins are placed, is plausible for this hospital.

A coordinator that moves a scaling's centre and narrows its spread counts the people beyond a value of its choice. So
the scaling must lie near this hospital's own means and deviations: the means of other hospitals differ by a few
deviations at most, and no honest spread is a small part of this hospital's own.
"""

from __future__ import annotations

import hashlib

import numpy as np

from client.input_scaling import compute_input_moments, resolve_scaling
from client.site import Site
from common.config import RunConfig
from common.errors import SiteError
from common.scaling import RANK_BINS, Arrays, Scaling, fit_standard_scaling
from sites.cohort import Cohort

IMPLAUSIBLE = "policy: the scaling that came is not one of these inputs"
MAX_SHIFT = 5.0
"""Largest difference between an agreed mean and this hospital's own, in the larger of the two standard deviations."""
MAX_RATIO = 20.0
"""Largest ratio between this hospital's own standard deviation and an agreed one."""
MAX_WIDTH = 1000.0
"""Largest ratio between an agreed standard deviation and this hospital's own, which is small where few people train:
values of too few of them are counted as the nearest common one, and two common ones may be neighbours."""


LARGEST = 1e12
"""Largest mean or deviation, and one over the smallest deviation."""
MAX_RANK = 3.0**0.5 + 1e-6
"""Largest number that a rank is replaced by (common/scaling.py)."""
_checked: list[tuple[Site, str]] = []
"""The last sites and digests of scalings that were found good."""


def check_scaling(site: Site, config: RunConfig, sent: bytes, floor: int, train: Cohort) -> None:
    """Refuse the scaling of a request if it is not of the kind that the run asks for, or not plausible here.

    With differential privacy any scaling is harmless, and an honest one may be far off through its noise: there only
    its form is checked.

    Args:
        site: with its inputs as they are.
        config: the run.
        sent: the scaling that came, or empty.
        floor: values of fewer people than this are replaced in the sums that this hospital sends.
        train: the training records whose sums this hospital sends. Whether a scaling is refused shows those sums, so
            they must be no others.

    Raises:
        SiteError: says so, and nothing of the hospital's values.
    """
    if not sent:
        return
    digest = hashlib.sha256(sent).hexdigest()
    if any(known is site and result == digest for known, result in _checked):
        return
    kind = resolve_scaling(config.data, site.task)
    try:
        scaling = Scaling.from_bytes(sent)
    except ValueError as error:
        raise SiteError(str(error)) from None
    width = len(site.task.features) + site.task.channels
    shapes = {"standard": (0, RANK_BINS), "quantile": (width, RANK_BINS), "bins": (width, RANK_BINS)}
    if kind not in shapes or scaling.ranks.shape != shapes[kind] or scaling.keeps_missing != (kind == "bins"):
        raise SiteError(f"policy: the scaling that came is not one of data.scaling={kind}")
    if scaling.centre.shape != (width,) or scaling.spread.shape != (width,):
        raise SiteError(f"the scaling is of {scaling.centre.size} columns, this task has {width}")
    ranks = scaling.ranks.astype(np.float64)
    rising = np.diff(ranks, axis=1) >= -1e-6
    # so that no input of anybody's is infinite after it
    good = (np.abs(scaling.centre) <= LARGEST) & (scaling.spread >= 1 / LARGEST) & (scaling.spread <= LARGEST)
    if not (good.all() and np.isfinite(ranks).all() and (np.abs(ranks) <= MAX_RANK).all() and rising.all()):
        raise SiteError("policy: the scaling that came is none: it is not finite, or its ranks do not rise")
    if not config.privacy.on:
        # an input that is rare here does not vary in the sums that were sent, and may have a wide spread in answer
        check_base_scaling(scaling, compute_input_moments(train, floor))
        moments = compute_input_moments(train)
        own = fit_standard_scaling(moments)
        varies = moments["square"] > moments["count"] * own.centre**2
        if (varies & (scaling.spread < np.minimum(own.spread, 1.0) / MAX_RATIO)).any():
            raise SiteError(IMPLAUSIBLE)
    _checked[:] = [*_checked[-7:], (site, digest)]


def check_base_scaling(base: Scaling, moments: Arrays) -> None:
    """Refuse a scaling that is far from this hospital's own.

    Args:
        base: the scaling that the server sent.
        moments: this hospital's own sums of the same inputs.

    Raises:
        SiteError: the scaling is too far; the message holds none of the hospital's values.
    """
    own = fit_standard_scaling(moments)
    varies = (moments["count"] > 1) & (moments["square"] / np.maximum(moments["count"], 1) - own.centre**2 > 0)
    if base.centre.shape != own.centre.shape:
        raise SiteError(f"the scaling is of {base.centre.size} columns, this task has {own.centre.size}")
    shift = np.abs(base.centre - own.centre) / np.maximum(own.spread, base.spread)
    ratio = base.spread / own.spread
    good = (shift <= MAX_SHIFT) & (ratio <= MAX_WIDTH) & (ratio >= 1 / MAX_RATIO)
    if not (good | ~varies).all():
        raise SiteError(IMPLAUSIBLE)
