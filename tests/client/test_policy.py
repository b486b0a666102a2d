"""What a hospital allows: strict where it says nothing, and never silently wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import policy
from client.policy import SitePolicy
from common.errors import ConfigError
from common.metrics.figures import FEW_PATIENTS


def test_strict_by_default(tmp_path: Path) -> None:
    empty = tmp_path / "policy.yaml"
    empty.write_text("# nothing\n")
    assert policy.load_policy(None) == policy.load_policy(empty) == SitePolicy()
    assert not SitePolicy().share_resamples
    assert (SitePolicy().min_cell_patients, policy.SIMULATION_POLICY.min_cell_patients) == (FEW_PATIENTS, 1)
    assert FEW_PATIENTS == 5


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("share_resample: true", "unknown key share_resample .did you mean share_resamples"),
        ("share_resamples: 1", "share_resamples: .*got 1"),
        ("min_training_patients: 0", "min_training_patients: .*got 0"),
        ("- a\n- b", "must hold keys and values"),
        ("a: [", "cannot read the policy"),
        ("\xff\xfe", "cannot read the policy"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=why) as caught:
        policy.load_policy(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the policy"):
        policy.load_policy(tmp_path / "none.yaml")
