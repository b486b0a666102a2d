"""Who am I, where is my data, what do I allow: the one place that tells a simulation from a hospital."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from client import policy
from client.policy import SitePolicy
from common.errors import ConfigError

STATE_VARIABLE = "WARDROUND_STATE"
"""Names the state folder of simulated sites whose engine gives them no other word."""


@dataclass(frozen=True)
class SiteContext:
    """A site. In a simulation `index` of `count` says which; at a hospital `site` and `data` do.

    `state`: the folder of what sites keep from round to round (client/training/kept_state.py); it tells no two places
    apart.
    """

    policy: SitePolicy
    site: str | None = None
    data: Path | None = None
    index: int = 0
    count: int = 0
    state: Path | None = field(default=None, compare=False)

    @property
    def simulated(self) -> bool:
        """Whether this is one of the hospitals that a researcher simulates."""
        return self.data is None


def read_site_context(node_config: Mapping[str, object]) -> SiteContext:
    """Read what the node was started with.

    A hospital's node has `site` and `data` from the hospital's own command line; a simulated one has
    `partition-id` and `num-partitions`. Its `state` folder stands there too, or, where a simulation cannot say
    more to its nodes, in the environment. Nothing of a run's configuration counts here.

    Raises:
        ConfigError: neither is there, or the policy file is wrong.
    """
    state = node_config.get("state")
    if "site" in node_config and "data" in node_config:
        given = node_config.get("policy")
        return SiteContext(
            policy=policy.load_policy(Path(str(given)) if given else None),
            site=str(node_config["site"]),
            data=Path(str(node_config["data"])),
            state=Path(str(state)) if state else None,
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
