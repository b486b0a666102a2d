"""Seeds: every random draw derives its seed from (run seed, site, round, purpose).

A run therefore gives the same weights whatever the number of workers, the order in which sites answer, or the engine
that carries the messages.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_for(run_seed: int, *parts: str | int) -> int:
    """Return a 63-bit seed derived from the run's seed and the parts, in order.

    >>> seed_for(1, "north", 3, "shuffle") == seed_for(1, "north", 3, "shuffle")
    True
    >>> seed_for(1, "north", 3, "shuffle") == seed_for(1, "north", 4, "shuffle")
    False
    """
    text = "\x1f".join([str(run_seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def rng_for(run_seed: int, *parts: str | int) -> np.random.Generator:
    """Return a NumPy generator for one purpose."""
    import numpy as np

    return np.random.default_rng(seed_for(run_seed, *parts))


def torch_generator_for(run_seed: int, *parts: str | int) -> torch.Generator:
    """Return a CPU torch generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(seed_for(run_seed, *parts))
