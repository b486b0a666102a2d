"""Each check finds what it is there for: in order, about to become wrong, or wrong, with what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog, get_audit_path
from client.supernode import create_node_key
from common.config import load_config
from common.errors import ConfigError
from common.service_file import ServiceInfo, announce_service
from experiments.doctor import checks, machine
from experiments.doctor.checks import Check, run_checks
from experiments.doctor.coordinator import check_coordinator
from experiments.doctor.experiment import check_experiment
from experiments.doctor.hospital import Hospital, check_hospital
from server.credentials import create_credentials
from server.site_registry import registry_path, write_registry
from sites.datasets.heart_disease import simulate
from tests.experiments.cli.test_site import CONFIG, call, output

Results = dict[str, Check]


def by_topic(actual: list[Check]) -> Results:
    """Return the worst check of each topic."""
    order = ["ok", "warn", "fail"]
    worst: Results = {}
    for check in actual:
        assert bool(check.advice) == (check.level != "ok"), check
        if check.topic not in worst or order.index(check.level) > order.index(worst[check.topic].level):
            worst[check.topic] = check
    return worst


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    key = tmp_path / "node.key"
    create_node_key(key)
    ca = create_credentials(tmp_path / "server", ["fl.example.org"]).ca
    return Hospital("north", None, "", ca, key, None, tmp_path / "state")


def change(hospital: Hospital, **values: Any) -> Hospital:
    return Hospital(**{**hospital.__dict__, **values})


def test_a_hospital_in_order_passes(hospital: Hospital) -> None:
    actual = by_topic(check_hospital(hospital, None))
    assert {check.level for check in actual.values()} == {"ok"}
    assert set(actual) == {"name", "node key", "authority", "state folder", "policy"}


def test_keys_that_others_can_read_fail(hospital: Hospital) -> None:
    hospital.key.chmod(0o640)
    check = by_topic(check_hospital(hospital, None))["node key"]
    assert (check.level, check.advice) == ("fail", f"chmod 600 {hospital.key}")
    assert "mode 0640" in check.finding


def test_a_key_that_is_none_fails(hospital: Hospital, tmp_path: Path) -> None:
    for content in ("", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"):
        path = tmp_path / "wrong.key"
        path.write_text(content)
        path.chmod(0o600)
        assert by_topic(check_hospital(change(hospital, key=path), None))["node key"].level == "fail"
    other = tmp_path / "other.key"
    create_node_key(other)
    hospital.key.with_name("node.key.pub").write_bytes(other.with_name("other.key.pub").read_bytes())
    assert by_topic(check_hospital(hospital, None))["public key"].level == "fail"
    missing = by_topic(check_hospital(change(hospital, key=tmp_path / "none"), None))["node key"]
    assert missing.advice == "make one with wardround client keygen"


def test_certificates_are_warned_about_before_they_end(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = create_credentials(tmp_path / "short", [], days=29)
    for days, level in ((0, "warn"), (28.5, "warn"), (29.5, "fail")):
        monkeypatch.setattr(checks, "days_left", lambda certificate, days=days: 29 - days)
        check = by_topic(check_hospital(change(hospital, ca=short.certificate), None))["authority"]
        assert check.level == level
    monkeypatch.undo()
    assert by_topic(check_hospital(change(hospital, ca=hospital.key), None))["authority"].level == "fail"


def test_a_state_folder_of_another_site_or_open_to_others_is_found(hospital: Hospital) -> None:
    hospital.state.mkdir()
    hospital.state.chmod(0o755)
    assert by_topic(check_hospital(hospital, None))["state folder"].level == "warn"
    hospital.state.chmod(0o700)
    (hospital.state / "site").write_text("south\n")
    check = by_topic(check_hospital(hospital, None))["state folder"]
    assert (check.level, "belongs to the site south" in check.finding) == ("fail", True)
    (hospital.state / "site").write_text("north\n")
    with announce_service(hospital.state, ServiceInfo("fl.example.org:443", site="north")):
        assert f"process {os.getpid()}" in by_topic(check_hospital(hospital, None))["client"].finding


def test_a_policy_is_read_and_what_it_gives_up_is_pointed_out(hospital: Hospital, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("share_resamples: true\n")
    check = by_topic(check_hospital(change(hospital, policy=policy), None))["policy"]
    assert (check.level, "resampled counts leave" in check.finding) == ("warn", True)
    policy.write_text("share_resample: true\n")
    check = by_topic(check_hospital(change(hospital, policy=policy), None))["policy"]
    assert (check.level, "did you mean share_resamples" in check.advice) == ("fail", True)


def test_an_audit_log_that_was_cut_fails(hospital: Hospital) -> None:
    log = AuditLog(get_audit_path(hospital.state / "runs", "north"))
    for _ in range(3):
        log.append(AuditEntry("admitted"))
    assert by_topic(check_hospital(hospital, None))["audit log"].finding == "4 lines, intact"
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:2]))
    assert by_topic(check_hospital(hospital, None))["audit log"].level == "fail"


def test_the_data_of_a_run_are_opened_and_people_counted(hospital: Hospital, tmp_path: Path) -> None:
    data = tmp_path / "hearts"
    simulate.generate(data, hospitals=1, patients=60, seed=3)
    run = load_config(CONFIG, ["data.options={}", "sites.split=patient"])
    actual = by_topic(check_hospital(change(hospital, data=data), run))
    assert (actual["data"].level, actual["people"].level) == ("ok", "ok")
    assert "heart_disease" in actual["data"].finding
    strict = tmp_path / "strict.yaml"
    strict.write_text("min_training_patients: 1000\n")
    people = by_topic(check_hospital(change(hospital, data=data, policy=strict), run))["people"]
    assert people.level == "fail"
    assert not (hospital.state / "runs").exists()  # the hospital's own split is drawn at its first request
    (tmp_path / "empty").mkdir()
    assert by_topic(check_hospital(change(hospital, data=tmp_path / "empty"), run))["data"].level == "fail"
    assert by_topic(check_hospital(change(hospital, data=tmp_path / "none"), run))["data"].level == "fail"


# A coordinator's server


def test_a_server_that_was_set_up_passes(tmp_path: Path) -> None:
    state = tmp_path / "server"
    create_credentials(state, ["fl.example.org"])
    (state / "ca.key").rename(tmp_path / "offline.key")
    write_registry(registry_path(state), {"north": "1"})
    with announce_service(state, ServiceInfo("127.0.0.1:8000")):
        actual = by_topic(check_coordinator(state, None))
    assert {check.level for check in actual.values()} == {"ok"}
    assert actual["sites"].finding == "1 registered: north"


@pytest.mark.parametrize(
    ("break_it", "topic", "level"),
    [
        (lambda state: (state / "server.key").chmod(0o644), "server's key", "fail"),
        (lambda state: (state / "server.pem").unlink(), "certificates", "fail"),
        (lambda state: (state / "server.key").write_text("x"), "certificates", "fail"),
        (lambda state: state.chmod(0o755), "state folder", "warn"),
        (lambda state: registry_path(state).write_text("["), "sites", "fail"),
        (lambda state: registry_path(state).unlink(), "sites", "warn"),
        (lambda state: None, "server", "warn"),  # it does not run
        (lambda state: None, "authority's key", "warn"),  # it lies there
    ],
)
def test_what_is_wrong_with_a_server_is_found(
    tmp_path: Path, break_it: Callable[[Path], object], topic: str, level: str
) -> None:
    state = tmp_path / "server"
    create_credentials(state, ["fl.example.org"])
    write_registry(registry_path(state), {"north": "1"})
    break_it(state)
    assert by_topic(check_coordinator(state, None))[topic].level == level


def test_an_address_that_is_open_to_the_network_fails(tmp_path: Path) -> None:
    create_credentials(tmp_path, [])
    with announce_service(tmp_path, ServiceInfo("0.0.0.0:8000")):
        assert by_topic(check_coordinator(tmp_path, None))["address"].level == "fail"
    assert by_topic(check_coordinator(tmp_path, None))["names"].level == "warn"


def test_sites_that_a_run_expects_must_be_registered(tmp_path: Path) -> None:
    create_credentials(tmp_path, [])
    write_registry(registry_path(tmp_path), {"north": "1"})
    run = load_config(CONFIG, ["federation.expect=[north, west]"])
    check = next(each for each in check_coordinator(tmp_path, run) if each.finding.startswith("the run expects"))
    assert (check.level, "expects west" in check.finding) == ("fail", True)


# A run


def levels(*settings: str) -> dict[str, str]:
    return {topic: check.level for topic, check in by_topic(check_experiment(load_config(CONFIG, settings))).items()}


def test_a_run_that_fits_passes(tmp_path: Path) -> None:
    assert levels(f"data.path={tmp_path}") == {"task and model": "ok", "strategy": "ok", "privacy": "ok"}


@pytest.mark.parametrize(
    ("setting", "topic", "level"),
    [("data.options={protocol: none}", "task and model", "fail"), ("model={name: none}", "task and model", "fail"),
     ("federation.strategy={name: none}", "strategy", "fail"), ("federation.start=/nowhere", "start", "fail"),
     ("federation.site_policy={max_bin: 3}", "site policy", "fail"), ("data.path=/nowhere", "data", "fail"),
     ("federation.site_policy={max_bins: 32}", "site policy", "ok"), ("sites.split=beat-level", "split", "warn")],
)  # fmt: skip
def test_what_is_wrong_with_a_run_is_found(setting: str, topic: str, level: str) -> None:
    assert levels(setting)[topic] == level


def test_a_server_without_its_authority_is_found() -> None:
    where = ("federation.engine=federation", "federation.address=127.0.0.1:8000")
    assert levels(*where, "federation.ca=/nowhere")["server"] == "fail"


# This machine, and the command


def test_little_memory_and_disk_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gib = machine.GIB
    for free, level in ((8, "ok"), (1, "warn"), (0.5, "fail")):
        memory = SimpleNamespace(available=free * gib, total=16 * gib)
        monkeypatch.setattr(machine.psutil, "virtual_memory", lambda memory=memory: memory)
        assert [check.level for check in machine.check_memory()] == [level]
    for free, level in ((8, "ok"), (1, "warn"), (0.1, "fail")):
        usage = SimpleNamespace(free=free * gib)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert [check.level for check in machine.check_disk(tmp_path / "not" / "yet")] == [level]


def test_packages_of_other_versions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.level for check in machine.check_packages()] == ["ok"]
    needs = ["flwr<1", "no-such-package>=1", "ray>=99; extra == 'ray'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda _: needs)
    (check,) = machine.check_packages()
    assert check.level == "fail"
    assert "is not <1; no-such-package is missing" in check.finding


def test_a_check_that_breaks_is_a_result() -> None:
    def broken() -> list[Check]:
        raise ValueError("Jane Roe")

    (check,) = run_checks([("thing", broken)])
    assert (check.level, "Roe" in check.finding) == ("fail", False)


def test_the_command_prints_lines_or_json_and_fails_where_a_check_does(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "check_machine", lambda _: [checks.ok("release", "this")])
    node = ("--site", "north", "--key", hospital.key, "--ca", hospital.ca, "--state", hospital.state)
    text = output("doctor", *node)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1] == "6 checks: 0 failed, 0 warnings"
    assert all(line.startswith(("ok  ", " ", "6 checks")) for line in text.splitlines())
    hospital.key.chmod(0o644)
    result = call("doctor", *node, "--json")
    actual = json.loads(result.output)
    assert (result.exit_code, actual["ok"]) == (1, False)
    assert [check["topic"] for check in actual["checks"] if check["level"] == "fail"] == ["node key"]
    with pytest.raises(ConfigError, match="add --site NAME"):
        output("doctor", "--superlink", "a:1")
