"""Epsilon of what has been spent, and the noise that a target epsilon needs.

Everything that is charged is a Gaussian mechanism on a Poisson sample: each unit (a person, or an example) takes
part in a step with chance q, the sum of clipped contributions gets noise of `sigma` times the clipping norm.
Neighbouring data sets differ by one unit, added or removed. What has been spent is the list of (q, sigma, steps), not
an epsilon: epsilons of several rounds do not add, these lists do.

`rdp`: Rényi differential privacy of the sampled Gaussian mechanism (Mironov, Talwar and Zhang 2019, arXiv:1908.10530).
`prv`: numerical composition of privacy loss random variables (Gopi, Lee and Wutschitz 2021, arXiv:2106.02848), an
upper bound whose error is at most 0.2% of epsilon or 1e-5. Both are Opacus's accountants.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from common.errors import ConfigError

Accountant = Literal["rdp", "prv"]
RENYI_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(11, 64), 80, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Rényi orders: Opacus's own, and large ones, which give the least epsilon where it is far below 1."""
MAX_NOISE_MULTIPLIER = 1e5


class GaussianSteps(NamedTuple):
    """Steps of one kind: chance of a unit to take part, noise in clipping norms, how many steps."""

    q: float
    sigma: float
    steps: int


def merge_history(history: Iterable[GaussianSteps]) -> tuple[GaussianSteps, ...]:
    """Return a history with the steps of one kind together, sorted.

    >>> merged([Spent(0.1, 1.0, 5), Spent(0.1, 2.0, 1), Spent(0.1, 1.0, 5)])
    (Spent(q=0.1, sigma=1.0, steps=10), Spent(q=0.1, sigma=2.0, steps=1))
    """
    steps: dict[tuple[float, float], int] = {}
    for q, sigma, count in history:
        steps[q, sigma] = steps.get((q, sigma), 0) + count
    return tuple(GaussianSteps(q, sigma, count) for (q, sigma), count in sorted(steps.items()) if count)


def compute_epsilon(history: Iterable[GaussianSteps], delta: float, method: Accountant) -> float:
    """Return an upper bound on the epsilon that a history spends at `delta`; 0 for an empty one.

    Raises:
        ValueError: a rate, a noise or a number of steps is none.
    """
    together = merge_history(history)
    for q, sigma, steps in together:
        if not (0 < q <= 1 and sigma > 0 and steps > 0 and math.isfinite(sigma)):
            raise ValueError(f"no step of a sampled Gaussian mechanism: q={q}, sigma={sigma}, steps={steps}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    return _epsilon(together, delta, method) if together else 0.0


@lru_cache(maxsize=512)
def _epsilon(history: tuple[GaussianSteps, ...], delta: float, method: Accountant) -> float:
    from opacus.accountants import PRVAccountant, RDPAccountant

    def told(accountant: Any) -> Any:
        accountant.history = [(sigma, q, steps) for q, sigma, steps in history]
        return accountant

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the best order at the end of the list, and of log(1 - q) where q is 1
        bound = float(told(RDPAccountant()).get_epsilon(delta, alphas=list(RENYI_ORDERS)))
        if method == "rdp":
            return bound
        error = min(0.01, max(1e-5, 0.002 * bound))
        try:
            found = float(told(PRVAccountant()).get_epsilon(delta, eps_error=error))
        except (ValueError, RuntimeError, MemoryError, OverflowError):  # out of its numerical range
            return bound
    return min(bound, found) if math.isfinite(found) and found >= 0 else bound  # both are upper bounds


@lru_cache(maxsize=64)
def solve_noise(
    target: float, delta: float, q: float, steps: int, method: Accountant, beside: tuple[GaussianSteps, ...] = ()
) -> float:
    """Return the noise, in clipping norms, whose `steps` spend at most `target`, and hardly less (0.1%).

    `beside`: what else the target covers.

    Raises:
        ConfigError: no noise below LARGEST_NOISE does.
    """

    def spent(sigma: float, how: Accountant = method) -> float:
        return compute_epsilon([*beside, GaussianSteps(q, sigma, steps)], delta, how)

    if spent(MAX_NOISE_MULTIPLIER, "rdp") > target:
        raise ConfigError(
            f"privacy.epsilon={target:g} cannot be kept over {steps} steps at delta={delta:g}: "
            "ask for more, or for fewer rounds"
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
    return math.ceil(high * 1e6) / 1e6  # a plain number to print, on the safe side


def count_steps(rounds: int, epochs: int, q: float) -> int:
    """Return the steps of some rounds: an epoch sees as many units as there are, on average.

    >>> steps_of(rounds=10, epochs=2, q=0.1)
    200
    """
    return rounds * epochs * math.ceil(round(1 / q, 9))
