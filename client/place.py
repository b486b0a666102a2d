"""Who am I, where is my data, what do I allow: the one place that tells a simulation from a hospital."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client import policy
from client.policy import SitePolicy
from common.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A site. In a simulation `index` of `count` says which; at a hospital `site` and `data` do."""

    policy: SitePolicy
    site: str | None = None
    data: Path | None = None
    index: int = 0
    count: int = 0

    @property
    def simulated(self) -> bool:
        """Whether this is one of the hospitals that a researcher simulates."""
        return self.data is None


def place_of(node_config: Mapping[str, object]) -> Place:
    """Read what the node was started with.

    A hospital's node has `site` and `data` from the hospital's own command line; a simulated one has
    `partition-id` and `num-partitions`. Nothing of a run's configuration counts here.

    Raises:
        ConfigError: neither is there, or the policy file is wrong.
    """
    if "site" in node_config and "data" in node_config:
        given = node_config.get("policy")
        return Place(
            policy=policy.load(Path(str(given)) if given else None),
            site=str(node_config["site"]),
            data=Path(str(node_config["data"])),
        )
    if "partition-id" in node_config and "num-partitions" in node_config:
        return Place(
            policy=policy.SIMULATION,
            index=int(str(node_config["partition-id"])),
            count=int(str(node_config["num-partitions"])),
        )
    raise ConfigError("this node does not know its site: start it with wardround client --site NAME --data DIR")
