"""The benchmark of trees: what it measures of a small federation (SYNTHETIC), and what it refuses."""

from __future__ import annotations

import pytest

from common.config import RunConfig, parse_config
from common.errors import ConfigError
from experiments.bench.trees import measure_trees, render_trees_table

PATIENTS, HOSPITALS, ROUNDS, DEPTH = 60, 2, 3, 2


def make_config(name: str = "boosting") -> RunConfig:
    options = {"trees": 6, "depth": DEPTH} if name == "boosting" else {}
    simulated = {"protocol": "explicit", "simulated": True, "hospitals": HOSPITALS, "patients": PATIENTS}
    return parse_config(
        {
            "data": {"dataset": "heart_disease", "options": simulated},
            "sites": {"scheme": "natural", "split": "published", "validation": 0.0},
            "model": {"name": name, "options": options},
            "federation": {"rounds": ROUNDS},
            "evaluation": {"metric": "auroc"},
        }
    )


@pytest.mark.slow
def test_both_are_timed_and_messages_are_counted() -> None:
    pytest.importorskip("lightgbm")
    measured = measure_trees(make_config(), 2)
    assert measured["trees"] == 6
    assert measured["patients"] == measured["rows"] > 0  # one row a patient
    for key in ("wall", "processor"):
        ratio = measured["federated"][key] / measured["lightgbm"][key]
        assert measured[key] == pytest.approx(ratio, rel=0.2)  # both times are rounded
    # a message for each depth of each round, two for the bins, one to open and one to test
    assert measured["messages"] == {"handshake": 1, "scaling": 2, "grow": ROUNDS * DEPTH, "test": 1}
    table = render_trees_table(measured)
    assert "messages to a site: 10 (handshake 1, scaling 2, grow 6, test 1)" in table
    assert "| federated / LightGBM |" in table


def test_a_network_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"bench trees: model\.name is mlp: name a configuration of boosting or"):
        measure_trees(make_config("mlp"), 1)
