"""Epsilon of a history of charges, and the noise multiplier that a target epsilon needs.

Everything that is charged is a Gaussian mechanism on a Poisson sample: each unit (a person, or an example) takes
part in a step with probability q, and the sum of clipped contributions gets noise of `sigma` times the clipping norm.
Neighbouring data sets differ by one unit, added or removed. What is kept is the list of (q, sigma, steps), not an
epsilon: epsilons of several rounds do not add up, these lists do.

`rdp`: Rényi differential privacy of the sampled Gaussian mechanism (Mironov, Talwar and Zhang 2019, arXiv:1908.10530).
`prv`: numerical composition of privacy loss random variables (Gopi, Lee and Wutschitz 2021, arXiv:2106.02848), an
upper bound whose error is at most 0.2% of epsilon or 1e-5. Both are Opacus's accountants.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError

Accountant = Literal["rdp", "prv"]
RENYI_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(11, 64), 80, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Rényi orders: Opacus's own, and larger ones, which give the smallest bound where epsilon is far below 1."""
MAX_GRID_POINTS = 1 << 24
"""Most points of the numerical composition's grid, which takes some arrays of so many doubles. Little noise over many
steps needs billions; the Rényi bound stands then."""
MAX_NOISE_MULTIPLIER = 1e5
"""Largest noise, in clipping norms, that `solve_noise` tries."""


class GaussianSteps(NamedTuple):
    """Steps of one sampled Gaussian mechanism.

    Attributes:
        q: probability that a unit takes part in a step.
        sigma: standard deviation of the noise, in clipping norms.
        steps: the number of steps.
    """

    q: float
    sigma: float
    steps: int


def merge_history(history: Iterable[GaussianSteps]) -> tuple[GaussianSteps, ...]:
    """Return a history with the steps of equal q and sigma added up, sorted.

    >>> merge_history([GaussianSteps(0.1, 1.0, 5), GaussianSteps(0.1, 2.0, 1), GaussianSteps(0.1, 1.0, 5)])
    (GaussianSteps(q=0.1, sigma=1.0, steps=10), GaussianSteps(q=0.1, sigma=2.0, steps=1))
    """
    steps: dict[tuple[float, float], int] = {}
    for q, sigma, count in history:
        steps[q, sigma] = steps.get((q, sigma), 0) + count
    return tuple(GaussianSteps(q, sigma, count) for (q, sigma), count in sorted(steps.items()) if count)


def compute_epsilon(history: Iterable[GaussianSteps], delta: float, method: Accountant) -> float:
    """Return an upper bound on the epsilon that a history spends at `delta`; 0 for an empty history.

    Raises:
        ValueError: `delta`, or a rate, noise or number of steps, is out of range.
    """
    together = merge_history(history)
    for q, sigma, steps in together:
        if not (0 < q <= 1 and sigma > 0 and steps > 0 and math.isfinite(sigma)):
            raise ValueError(f"not a sampled Gaussian mechanism: q={q}, sigma={sigma}, steps={steps}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    return _epsilon(together, delta, method) if together else 0.0


@lru_cache(maxsize=256)
def _step_divergence(q: float, sigma: float) -> npt.NDArray[np.float64]:
    """Return the Rényi divergence of one step at RENYI_ORDERS: the slow part, the same for any number of steps."""
    from opacus.accountants.analysis.rdp import compute_rdp

    return np.asarray(compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=list(RENYI_ORDERS)), dtype=np.float64)


@lru_cache(maxsize=512)
def _epsilon(history: tuple[GaussianSteps, ...], delta: float, method: Accountant) -> float:
    from opacus.accountants import PRVAccountant
    from opacus.accountants.analysis.rdp import get_privacy_spent

    charges = [(sigma, q, steps) for q, sigma, steps in history]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the last, and of log(1 - q) where q is 1
        divergence = sum(_step_divergence(q, sigma) * steps for q, sigma, steps in history)
        # of much noise the conversion to epsilon gives less than 0
        bound = max(0.0, float(get_privacy_spent(orders=list(RENYI_ORDERS), rdp=divergence, delta=delta)[0]))
        if method == "rdp":
            return bound
        error = min(0.01, max(1e-5, 0.002 * bound))
        if not count_grid_points(history, delta, error) <= MAX_GRID_POINTS:
            return bound
        prv = PRVAccountant()
        prv.history = charges
        try:
            composed = float(prv.get_epsilon(delta, eps_error=error))
        except (ValueError, RuntimeError, MemoryError, OverflowError):  # out of its numerical range
            return bound
    return min(bound, composed) if math.isfinite(composed) and composed >= 0 else bound  # both are upper bounds


def count_grid_points(history: Sequence[GaussianSteps], delta: float, error: float) -> float:
    """Return how many points the numerical composition's grid has, as Opacus's PRVAccountant makes it.

    Args:
        history: what is composed.
        delta: of the epsilon that is wanted.
        error: the largest error of that epsilon.
    """
    from opacus.accountants.analysis.prv import PoissonSubsampledGaussianPRV, compute_safe_domain_size

    steps = [count for _, _, count in history]
    variables = [PoissonSubsampledGaussianPRV(q, sigma) for q, sigma, _ in history]
    reach = float(compute_safe_domain_size(variables, steps, error, delta / 1000))
    return 2 * reach * math.sqrt(sum(steps) * math.log(12_000 / delta) / 2) / error


@lru_cache(maxsize=64)
def solve_noise(
    target: float, delta: float, q: float, steps: int, method: Accountant, others: tuple[GaussianSteps, ...] = ()
) -> float:
    """Return the noise multiplier with which `steps` steps spend at most `target`, and at least 99.9% of it.

    Args:
        target: epsilon.
        delta: of that epsilon.
        q: probability that a unit takes part in a step.
        steps: the number of steps.
        method: the accountant.
        others: further steps that the target covers, with their own noise.

    Raises:
        ConfigError: even MAX_NOISE_MULTIPLIER spends more.
    """

    def spent(sigma: float, how: Accountant = method) -> float:
        return compute_epsilon([*others, GaussianSteps(q, sigma, steps)], delta, how)

    if spent(MAX_NOISE_MULTIPLIER, "rdp") > target:
        raise ConfigError(
            f"privacy.epsilon={target:g} cannot be kept over {steps} steps at delta={delta:g}: "
            "raise it, or plan fewer rounds"
        )
    high = 1.0
    while spent(high, "rdp") > target:
        high *= 2
    low = high / 2
    while spent(low) <= target and low > 1e-2:
        low, high = low / 2, low
    while high / low > 1.0001 and target - spent(high) > 1e-3 * target:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if spent(middle) <= target else (middle, high)
    return math.ceil(high * 1e6) / 1e6  # rounded up to six decimals, so that it can be printed exactly


def count_steps(rounds: int, epochs: int, q: float) -> int:
    """Return the number of steps of some rounds; an epoch's steps draw each unit once on average.

    >>> count_steps(rounds=10, epochs=2, q=0.1)
    200
    """
    return rounds * epochs * math.ceil(round(1 / q, 9))
