"""`wardround site` and `wardround privacy gate` at a hospital with SYNTHETIC rows in UCI heart disease's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from client import requests
from client.gate.explain import REPLY_RISKS
from client.gate.guarded_settings import GUARDED_SETTINGS
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site import load_site, read_site
from client.site_context import SiteContext
from common.config import load_config
from common.errors import AuditError, ConfigError, UsageError
from common.requests import HandshakeRequest, RequestKind
from experiments.cli.main import app
from experiments.privacy.gate_attacks import ATTACKS
from experiments.privacy.tree_attacks import TREE_ATTACKS
from experiments.privacy.weight_attacks import WEIGHT_ATTACKS
from sites.datasets.heart_disease import simulate

CONFIG = Path(__file__).parents[3] / "experiments" / "heart_disease.yaml"
SETTINGS = ("data.options={}", "sites.split=patient")
PATIENTS = 90


def call(*arguments: Any, **more: Any) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(each) for each in arguments], **more)


def output(*arguments: Any) -> str:
    result = call(*arguments)
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "heart-disease"
    simulate.generate(folder, hospitals=1, patients=PATIENTS, seed=3)
    return folder


@pytest.fixture
def everything_allowed(tmp_path: Path) -> Path:
    file = tmp_path / "everything.yaml"
    file.write_text(yaml.safe_dump(SIMULATION_POLICY.model_dump(mode="json", exclude_defaults=True)))
    return file


@pytest.fixture
def state(data: Path, tmp_path: Path) -> Path:
    """Return the state folder of a hospital that has answered one handshake."""
    context = SiteContext(SitePolicy(), site="north", data=data, state=tmp_path / "state" / "runs")
    requests.handle(context, HandshakeRequest(load_config(CONFIG, list(SETTINGS))))
    return tmp_path / "state"


def test_what_a_policy_says_of_evaluation_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "private.yaml"
    file.write_text("evaluation: private\nmax_evaluation_epsilon: 3\n")
    text, plain = (" ".join(output("site", "explain", *each).split()) for each in ((file,), ()))
    for part in (
        "Validation and test patients: counts of people with noise, each person counted once, at most epsilon 3",
        "about these patients no more than epsilon allows, whatever weights are sent",
    ):
        assert part in text
        assert part not in plain
    assert "Evaluation need not be differentially private: a run may ask for it." in plain
    assert "no value of an input, and no lack of one, counts below 5 people" in plain


def test_a_policy_is_explained_within_the_width_of_a_terminal(everything_allowed: Path) -> None:
    text = output("site", "explain")
    assert max(map(len, text.splitlines())) <= 80
    for setting in GUARDED_SETTINGS:
        assert f"- {setting.key}: {'refused' if setting.refuses else 'left out'}." in text
    assert {risk.reply for risk in REPLY_RISKS} == set(get_args(RequestKind))
    for risk in REPLY_RISKS:
        assert f"\n{risk.reply}\n  holds:" in text
    assert "WARNING" not in text
    allowed = output("site", "explain", everything_allowed)
    assert max(map(len, allowed.splitlines())) <= 80
    assert "counts are exact" in allowed
    assert "WARNING: noise may be repeated: NOT PRIVATE." in allowed
    assert "sites.limit: allowed." in allowed


def test_the_explanation_of_private_training_names_its_limit(tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text("private_only: true\n")
    assert "at most epsilon 8 at" in " ".join(output("site", "explain", policy).split())
    with pytest.raises(ConfigError, match="cannot read the policy"):
        output("site", "explain", tmp_path / "none.yaml")


def test_the_register_counts_people_by_split(state: Path) -> None:
    lines = output("site", "register", "--site", "north", "--state", state).splitlines()
    people = dict(line.removeprefix("people: ").rsplit(": ", 1) for line in lines if line.startswith("people"))
    assert set(people) == {f"heart_disease: {split}" for split in ("train", "validation", "test")}
    assert sum(map(int, people.values())) == PATIENTS
    assert "releases: cohort of train: 1" in lines
    with pytest.raises(UsageError, match=r"no register at .*south.* --site and --state"):
        output("site", "register", "--site", "south", "--state", state)


def test_a_split_is_redrawn_only_on_purpose(state: Path, data: Path) -> None:
    def validation_people() -> tuple[str, ...]:  # who is tested is published
        read_site.cache_clear()
        context = SiteContext(SitePolicy(), site="north", data=data, state=state / "runs")
        return load_site(context, load_config(CONFIG, list(SETTINGS))).validation.people_names

    arguments = ("site", "redraw", "--site", "north", "--state", state, "--dataset", "heart_disease")
    before = validation_people()
    refused = call(*arguments, input="n\n")
    assert isinstance(refused.exception, UsageError)
    assert validation_people() == before
    assert f"{PATIENTS} people will be drawn anew" in output(*arguments, "--yes")
    assert validation_people() != before


def gate(data: Path, *more: Any) -> Result:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return call("privacy", "gate", CONFIG, "--data", data, *settings, *more)


@pytest.mark.slow
def test_no_attack_recovers_a_row_under_the_default_policy(data: Path) -> None:
    result = gate(data)
    assert result.exception is None
    rows = [line for line in result.output.splitlines() if " of " in line]
    assert len(rows) == len(ATTACKS) + len(WEIGHT_ATTACKS) + len(TREE_ATTACKS)
    assert all("| 0 of " in line for line in rows)


@pytest.mark.slow
def test_attacks_that_a_policy_allows_fail_the_audit(data: Path, everything_allowed: Path) -> None:
    result = gate(data, "--policy", everything_allowed, "--json")
    assert isinstance(result.exception, AuditError)
    attacks = json.loads(result.output)["attacks"]
    assert [item["name"] for item in attacks[: len(ATTACKS)] if not item["rows"]] == []
    assert any(item["rows"] for item in attacks[len(ATTACKS) :])  # not every one finds its kind of patient here
