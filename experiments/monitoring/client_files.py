"""What the metrics of a client are read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ClientFiles:
    """What a client's metrics are read from.

    Attributes:
        site: the hospital's name.
        runs: the folder `runs` in the state folder; None: of a node whose worker is another user's.
        policy: the policy file; None: the defaults.
        ca: the certificate authority's file; None: of a worker, which has no part in the network.
    """

    site: str
    runs: Path | None
    policy: Path | None
    ca: Path | None
