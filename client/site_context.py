"""The identity, data and policy of this process's site; no other module distinguishes simulations from hospitals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client import policy
from client.policy import SitePolicy
from common.errors import ConfigError

STATE_VARIABLE = "WARDROUND_STATE"
"""Environment variable with the simulated sites' state folder, for engines that cannot set it node by node."""


@dataclass(frozen=True)
class SiteContext:
    """A site as its own node knows it: `site` and `data` name a hospital's, `index` and `count` a simulated one.

    Attributes:
        policy: what the site allows.
        site: the hospital's name; None in a simulation.
        data: the hospital's data folder; None in a simulation.
        index: number of the simulated site, from 0.
        count: how many sites are simulated.
        people: the only people whose recordings are read, to compare answers with and without someone; None: everyone.
        state: folder of what must last from message to message: ledger, local layers. Ignored when comparing contexts,
            as are the three below.
        demands_privacy: whether the hospital's own policy demands differential privacy, before a run made it stricter;
            None: as the policy does.
        server: the server that the hospital's node is connected to, HOST:PORT; empty in a simulation.
        server_run: the server's own number of the run that asks.
    """

    policy: SitePolicy
    site: str | None = None
    data: Path | None = None
    index: int = 0
    count: int = 0
    people: frozenset[str] | None = None
    state: Path | None = field(default=None, compare=False)
    demands_privacy: bool | None = field(default=None, compare=False)
    server: str = field(default="", compare=False)
    server_run: str = field(default="", compare=False)

    @property
    def relies_on_privacy(self) -> bool:
        """Whether the hospital itself, not the run that asks, relies on differential privacy."""
        return self.policy.needs_privacy if self.demands_privacy is None else self.demands_privacy

    @property
    def simulated(self) -> bool:
        """Whether this is one of the hospitals that a researcher simulates."""
        return self.data is None


def read_site_context(node_config: Mapping[str, object], server_run: str = "") -> SiteContext:
    """Read a site's context from the settings that its node was started with; a run's configuration changes none of it.

    Args:
        node_config: `site` and `data` (from the hospital's own command line) or, in a simulation, `partition-id` and
            `num-partitions`; optionally `policy`, `state` and `server`. Without `state`, a simulation reads
            STATE_VARIABLE.
        server_run: the server's own number of the run that asks.

    Raises:
        ConfigError: neither pair is complete, or the policy file is wrong.
    """
    state = node_config.get("state")
    if "site" in node_config and "data" in node_config:
        given = node_config.get("policy")
        return SiteContext(
            policy=policy.load_policy(Path(str(given)) if given else None),
            site=str(node_config["site"]),
            data=Path(str(node_config["data"])),
            state=Path(str(state)) if state else None,
            server=str(node_config.get("server", "")),
            server_run=server_run,
        )
    if "partition-id" in node_config and "num-partitions" in node_config:
        state = state or os.environ.get(STATE_VARIABLE)
        return SiteContext(
            policy=policy.SIMULATION_POLICY,
            index=int(str(node_config["partition-id"])),
            count=int(str(node_config["num-partitions"])),
            state=Path(str(state)) if state else None,
        )
    raise ConfigError("this node does not know its site: start it with wardround client --site NAME --data DIR")
