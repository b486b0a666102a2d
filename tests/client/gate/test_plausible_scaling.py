"""Which scalings a hospital takes for those of its inputs."""

from __future__ import annotations

import numpy as np
import pytest

from client.gate.plausible_scaling import check_base_scaling
from common.errors import SiteError
from common.scaling import Arrays, Scaling, fit_standard_scaling


def sum_moments(values: np.ndarray) -> Arrays:
    """Return the sums that a hospital sends of one input."""
    return {
        "count": np.array([float(len(values))]),
        "total": np.array([values.sum()]),
        "square": np.array([np.square(values).sum()]),
    }


def merge(*parts: Arrays) -> Arrays:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def test_a_small_hospital_takes_the_scaling_of_all_although_its_common_values_lie_close_together() -> None:
    """Of 24 people 19 and 5 have neighbouring values, after rarer ones were counted as the nearest common one."""
    rng = np.random.default_rng(0)
    own = sum_moments(np.repeat([120.0, 117.0], [19, 5]))
    others = sum_moments(rng.normal(133, 18, 500))
    agreed = fit_standard_scaling(merge(own, others))
    alone = fit_standard_scaling(own)
    assert abs(agreed.centre - alone.centre) > 5 * alone.spread
    check_base_scaling(agreed, own)


def scale(centre: float, spread: float) -> Scaling:
    template = fit_standard_scaling(sum_moments(np.array([centre - spread, centre + spread])))
    assert template.centre == pytest.approx([centre])
    return template


@pytest.mark.parametrize(
    ("centre", "spread"),
    [(133.0 + 6 * 18, 18.0), (133.0, 18 / 25), (250.0, 1.0), (133.0, 18 * 1500.0), (133.0 + 6 * 100, 100.0)],
)
def test_a_scaling_far_off_or_much_narrower_than_the_own_is_refused(centre: float, spread: float) -> None:
    own = sum_moments(np.random.default_rng(1).normal(133, 18, 500))
    check_base_scaling(scale(133.0, 18.0), own)
    with pytest.raises(SiteError, match="not one of these inputs"):
        check_base_scaling(scale(centre, spread), own)
