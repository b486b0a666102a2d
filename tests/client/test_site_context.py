"""A node's context: a hospital by its own settings, a simulated site by its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.policy import SIMULATION_POLICY, SitePolicy
from client.site_context import SiteContext, read_site_context
from common.errors import ConfigError


def test_a_hospital_is_known_by_site_and_data() -> None:
    context = read_site_context({"site": "north", "data": "/data/north"})
    assert context == SiteContext(SitePolicy(), site="north", data=Path("/data/north"))
    assert not context.simulated
    assert not context.policy.share_resamples


def test_a_hospital_reads_its_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("share_resamples: true\nmin_training_patients: 7\n")
    context = read_site_context({"site": "north", "data": "/data/north", "policy": str(file)})
    assert context.policy == SitePolicy(share_resamples=True, min_training_patients=7)


def test_a_hospital_ignores_simulation_settings() -> None:
    context = read_site_context({"site": "north", "data": "/data", "partition-id": 0, "num-partitions": 2})
    assert not context.simulated
    assert context.policy == SitePolicy()


def test_a_simulated_site_is_known_by_its_number() -> None:
    assert read_site_context({"partition-id": 1, "num-partitions": 3}) == SiteContext(
        SIMULATION_POLICY, index=1, count=3
    )
    assert read_site_context({"partition-id": 1, "num-partitions": 3}).simulated


@pytest.mark.parametrize("config", [{}, {"site": "north"}, {"data": "/data"}, {"partition-id": 1}])
def test_a_node_without_either_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="does not know its site: start it with wardround client"):
        read_site_context(config)
