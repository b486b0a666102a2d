"""The attack on trees' histograms succeeds where nothing protects them, and fails at a hospital's gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.site import load_site
from experiments.privacy.gate_attacks import Coordinator
from experiments.privacy.tree_attacks import attack_leaf_sums, attack_tree_histograms
from tests.client.gate.stranger import make_config, make_hospital

OPEN: dict[str, Any] = {
    "min_cell_patients": 1, "min_unit_patients": 0, "min_training_patients": 1, "record_noise": 0.0,
    "update_noise": 0.0, "count_noise": 0.0, "round_counts_to": 1, "replaced_values": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("policy", [OPEN, {}], ids=["open", "default"])
def test_it_reads_single_people_only_without_the_gates_floor_and_noise(policy: dict[str, Any], tmp_path: Path) -> None:
    context, config = make_hospital(tmp_path, patients=200, **policy), make_config()
    result = attack_tree_histograms(Coordinator(config, context), load_site(context, config))
    assert result.refused == ""
    assert result.people > 50
    assert result.rows > 0.9 * result.people if policy else result.rows == 0


@pytest.mark.parametrize("policy", [OPEN, {}], ids=["open", "default"])
def test_it_solves_for_outcomes_only_without_the_gates_noise(policy: dict[str, Any], tmp_path: Path) -> None:
    context, config = make_hospital(tmp_path, patients=200, **policy), make_config()
    result = attack_leaf_sums(Coordinator(config, context), load_site(context, config))
    assert result.refused == ""
    assert result.people > 50
    assert result.rows > 0.9 * result.people if policy else result.rows <= 3  # by chance one of a thousand
