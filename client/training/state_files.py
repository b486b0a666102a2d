"""The state that a site keeps from round to round, in files: local layers, control variates or a personal model.

Nothing is kept in memory: each message may be handled by a new process, and a hospital's client may be restarted in
the middle of a run. So each round's state is a file, `STATE/SITE/RUN/round-00012.safetensors`, written whole or not
at all. Each request says which round's state belongs to its weights, so that an update that never reached the server
does not count at the site either.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from client.site_context import SiteContext
from common.arrays import Weights
from common.errors import DataError, SiteError
from common.files import escape_file_name, write_arrays
from common.requests import ModelRequest


@dataclass(frozen=True)
class StateFiles:
    """The state files of one run at one site.

    Attributes:
        folder: where they are.
        durable: whether each is flushed to the disk, to survive a power cut (about 7 ms a round).
    """

    folder: Path
    durable: bool = True

    @classmethod
    def for_run(cls, context: SiteContext, site: str, run_id: str) -> StateFiles:
        """Return the state files of a run, without creating the folder.

        Raises:
            SiteError: the node was started without a state folder, or the run's id cannot be a folder's name.
        """
        if context.state is None:
            raise SiteError("the strategy keeps state at the site, but this node has no folder for it: give --state")
        if not re.fullmatch(r"[0-9a-f]{32}", run_id):
            raise SiteError("the server's id of the run is not 32 hex digits: it cannot name a folder here")
        return cls(context.state / escape_file_name(site) / run_id, not context.simulated)

    def read(self, number: int) -> Weights | None:
        """Return the arrays of a round by name, or None if nothing was kept of it.

        Raises:
            DataError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self._path(number)
        try:
            return dict(load(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError):
            raise DataError(f"cannot read the state in {path}: move the file away to continue without it") from None

    @classmethod
    def read_requested(cls, context: SiteContext, site: str, request: ModelRequest) -> Weights:
        """Return the arrays that belong to the weights of a request; none at a site that is new to the run.

        Raises:
            SiteError: the strategy keeps state, but the site has no folder for it.
            DataError: a file is damaged.
        """
        if not request.method.keeps_state or not request.state_round:
            return {}
        return cls.for_run(context, site, request.run_id).read(request.state_round) or {}

    def write(self, number: int, arrays: Weights, keep: Collection[int]) -> None:
        """Write a round's arrays, then remove the files of all rounds but this one and those in `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(number)
        write_arrays(path, arrays, durable=self.durable)
        for old in self.rounds():
            if old != number and old not in keep:
                self._path(old).unlink(missing_ok=True)

    def rounds(self) -> list[int]:
        """Return the rounds whose state is on disk, ascending."""
        matches = (re.fullmatch(r"round-(\d{5,})\.safetensors", path.name) for path in self.folder.glob("round-*"))
        return sorted(int(match[1]) for match in matches if match)

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:05d}.safetensors"
