"""Waiting for hospitals that have to approve a run before it starts, up to a deadline."""

from __future__ import annotations

from collections.abc import Mapping

from common.messages import WAITS_FOR_APPROVAL

ASK_AGAIN_SECONDS, LONGEST_ASK_AGAIN_SECONDS = 5.0, 60.0
"""Seconds before a hospital that has to approve the run is asked again: at first, and at most."""


class PendingApprovals:
    """The hospitals that have to approve the run first, and when each is asked again.

    Args:
        deadline: time of `time.monotonic` until which they are waited for.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._nodes: dict[int, str] = {}
        self._pause, self._next = ASK_AGAIN_SECONDS, 0.0

    def update(
        self,
        refused: Mapping[str, str],
        contacted: set[int],
        joined: set[int],
        registered: Mapping[int, str] | None,
        now: float,
    ) -> None:
        """Update the list of nodes that wait for an approval, from the answers of the nodes that were just asked.

        Args:
            refused: why each site does not take part.
            contacted: the nodes that were just asked.
            joined: the nodes that take part.
            registered: the site that each node's key was registered for; None: no registry is kept.
            now: the time.
        """
        self._nodes = {node: site for node, site in self._nodes.items() if node not in contacted}
        waiting = {site for site, why in refused.items() if why.startswith(WAITS_FOR_APPROVAL)}
        for node in contacted - joined:
            # without a registry a node's name is not known: any that waits may be at it, and asking twice is harmless
            names = waiting if registered is None else waiting & {registered.get(node, "")}
            if names:
                self._nodes[node] = min(names)
        if self._nodes:
            self._next, self._pause = now + self._pause, min(2 * self._pause, LONGEST_ASK_AGAIN_SECONDS)

    def take_due(self, now: float) -> set[int]:
        """Return the nodes to ask again now; none before their time or after the deadline."""
        return set(self._nodes) if self._next <= now < self._deadline else set()

    def list_sites(self, now: float) -> tuple[str, ...]:
        """Return the sites that are still waited for."""
        return tuple(sorted(set(self._nodes.values()))) if now < self._deadline else ()
