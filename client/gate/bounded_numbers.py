"""Bounds on the numbers of a request, and what happens where training overflows all the same.

A number that overflows only if one person has some value makes a refusal an answer about that person. So weights, and
what else a request holds, are bounded before they meet data; predictions that are not finite count as 0; and training
that ends in numbers that are not finite is answered with one text, a few times in a run and in a month.
"""

from __future__ import annotations

import secrets
import time

import numpy as np

from client.gate.register import MONTH_SECONDS, Register
from common.arrays import Weights
from common.errors import SiteError
from common.requests import FinalTestRequest, GrowRequest, ModelRequest, TrainRequest

MAX_WEIGHT = 1e6
"""Largest weight, control variate, class weight or threshold, up or down. Trained models have some tens at most."""
MAX_PULL = 1e3
"""Largest proximal term, and strength of the pull towards the global model."""
MAX_COUNT = 10**12
"""Largest number of examples of all hospitals."""
OVERFLOWS, OVERFLOWS_PER_RUN, OVERFLOWS_PER_MONTH = "numbers that are not finite", 3, 20
OVERFLOW = "policy: training gave numbers that are not finite: lower training.lr"
"""The one text of every refusal over numbers that are not finite."""


def check_numbers(request: ModelRequest) -> None:
    """Refuse a request whose numbers are not finite, or larger than any honest one.

    Raises:
        SiteError: says so; the text depends on the request alone.
    """
    numbers: list[tuple[float | None, float]] = [(request.method.pull, MAX_PULL)]
    arrays = [request.weights]
    if isinstance(request, GrowRequest):
        numbers += [(count, MAX_COUNT) for count in (request.total, *request.class_counts)]
    if isinstance(request, TrainRequest):
        numbers += [(request.proximal, MAX_PULL), (request.total, MAX_COUNT)]
        numbers += [(count, MAX_COUNT) for count in request.class_counts]
        arrays.append(request.control)
    if isinstance(request, FinalTestRequest):
        numbers.append((abs(request.threshold) if request.threshold is not None else None, MAX_WEIGHT))
    if not all(value is None or 0 <= value <= limit for value, limit in numbers):
        raise SiteError("policy: a number of the request is negative, not finite or larger than any honest one")
    if not all(map(_are_bounded, arrays)):
        raise SiteError(
            f"policy: a weight is not a number of single precision, or larger than {MAX_WEIGHT:,.0f}: lower training.lr"
        )


def _are_bounded(weights: Weights) -> bool:
    for value in weights.values():
        if value.dtype.kind not in "biu" and value.dtype not in (np.float32, np.float16):
            return False
        if not (np.abs(value.astype(np.float64)) <= MAX_WEIGHT).all():
            return False
    return True


def check_overflows(register: Register, run: str) -> None:
    """Refuse a run, or any, in which training was not finite too often.

    Raises:
        SiteError: the limit is reached.
    """
    with register.open() as connection:
        query = "SELECT COUNT(*) FROM questions WHERE kind = ? AND "
        here = connection.execute(query + "run = ?", (OVERFLOWS, run)).fetchone()[0]
        lately = connection.execute(query + "time > ?", (OVERFLOWS, time.time() - MONTH_SECONDS)).fetchone()[0]
    if here >= OVERFLOWS_PER_RUN or lately >= OVERFLOWS_PER_MONTH:
        raise SiteError(
            f"policy: training gave numbers that are not finite {OVERFLOWS_PER_RUN} times in this run, or "
            f"{OVERFLOWS_PER_MONTH} times in 30 days, so no more of it is answered"
        )


def count_overflow(register: Register, run: str) -> SiteError:
    """Count that training was not finite, and return the error that is sent."""
    register.ask(run, OVERFLOWS, secrets.token_hex(16), None, None)
    return SiteError(OVERFLOW)
