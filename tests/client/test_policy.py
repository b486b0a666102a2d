"""The site policy: strict by default, and never silently wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from client import policy
from client.policy import SitePolicy
from common.errors import ConfigError
from common.metrics.figures import FEW_PATIENTS


def test_the_default_policy_is_strict(tmp_path: Path) -> None:
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
        ("min_cell_patients: 5\nmin_cell_patients: 1\n", "the key min_cell_patients occurs twice"),
        ("min_cell_patients: 010", "min_cell_patients: .*got '010'"),
        ("a: &a [*a]", "cannot read the policy .*contains itself"),
        ("? [a]\n: 1", "a key must be a word"),
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


PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "policy.md").read_text(encoding="utf-8")


def test_the_reference_page_names_every_key_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \| \S", PAGE, re.MULTILINE))
    assert {key: yaml.safe_load(value) for key, value in rows.items()} == SitePolicy().model_dump(mode="json")
    assert len(re.findall(r"^\| `\w+` \|", PAGE, re.MULTILINE)) == len(rows)  # none stands there twice


def test_the_policies_of_the_reference_page_are_accepted(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    policies = []
    for text in examples:
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        policies.append(policy.load_policy(file))
    careful, strict, open_ = policies
    assert not careful.needs_privacy
    assert strict.needs_privacy
    simulated = policy.SIMULATION_POLICY.model_dump(exclude_defaults=True)
    assert open_.model_dump(exclude_defaults=True).items() <= simulated.items()  # without keys of private training
