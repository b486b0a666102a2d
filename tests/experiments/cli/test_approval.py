from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.gate.approvals import check_approval, get_approval_file
from client.policy import SitePolicy
from client.site_context import SiteContext
from common.config import fingerprint_config, load_config
from common.errors import ApprovalPending, ConfigError, SiteError
from common.requests import HandshakeRequest
from tests.experiments.cli.test_site import CONFIG, output

CONFIGURATION = load_config(CONFIG)
FINGERPRINT = fingerprint_config(CONFIGURATION)


@pytest.fixture
def where(tmp_path: Path) -> tuple[str, ...]:
    return ("--site", "north", "--state", str(tmp_path))


def requested(tmp_path: Path) -> None:
    context = SiteContext(
        SitePolicy(approval="required"),
        site="north",
        data=tmp_path,
        state=tmp_path / "runs",
        server="fl.example.org:443",
    )
    check_approval(context, HandshakeRequest(CONFIGURATION, "1f" * 16), "1f" * 16)


def test_a_hospital_decides_on_a_run(tmp_path: Path, where: tuple[str, ...]) -> None:
    assert output("site", "pending", *where) == "no run waits for approval\n"
    with pytest.raises(ApprovalPending):
        requested(tmp_path)
    text = output("site", "pending", *where)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"{FINGERPRINT[:12]}  {CONFIGURATION.name}: waits since 20")
    assert "asked by fl.example.org:443" in " ".join(text.split())
    assert "  - Model: " in text
    assert "approved by" in output("site", "approve", FINGERPRINT[:8], *where, "--days", "3")
    requested(tmp_path)
    assert output("site", "pending", *where) == "no run waits for approval\n"
    printed = output("site", "pending", *where, "--all", "--json")
    (approval,) = json.loads(printed).values()
    assert approval["status"] == "approved"
    assert approval["until"] - approval["decided"] == pytest.approx(3 * 24 * 3600)
    assert approval["config"]["model"]["name"] == CONFIGURATION.model.name
    assert "declined by" in output("site", "refuse", FINGERPRINT[:8], *where, "--reason", "no")
    with pytest.raises(SiteError, match="declined"):
        requested(tmp_path)
    text = output("audit", "show", *where)
    assert f"run approved; run without id ({CONFIGURATION.name}" in " ".join(text.split())
    assert get_approval_file(tmp_path / "runs", "north").read()[FINGERPRINT].status == "declined"


def test_a_run_that_did_not_ask_cannot_be_decided_on(where: tuple[str, ...]) -> None:
    for command in ("approve", "refuse"):
        with pytest.raises(ConfigError, match="none of the runs here"):
            output("site", command, FINGERPRINT[:8], *where)
