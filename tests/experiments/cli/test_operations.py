"""`wardround server status | nodes | renew` and `wardround client status`, without any server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog, get_audit_path
from common.certificates import days_left, read_certificates
from common.errors import ConfigError, EngineError
from common.run_folder import RunFolder
from common.service_file import ServiceInfo, announce_service
from experiments.cli import federation
from server.credentials import create_credentials
from server.run_list import record_run
from server.site_registry import REGISTRY_VARIABLE, registry_path
from server.superlink import Connection
from tests.experiments.cli.test_site import call, output


@pytest.fixture
def server(tmp_path: Path) -> Path:
    create_credentials(tmp_path / "server", ["fl.example.org"], days=40)
    return tmp_path / "server"


def test_a_server_that_does_not_run_is_a_failure_with_its_certificates(server: Path) -> None:
    result = call("server", "status", "--state", server)
    assert result.exit_code == 1
    assert result.output.splitlines() == ["does not run", "certificate: 40 days left, authority: 3650"]
    with pytest.raises(ConfigError, match=r"no server in .*: make one"):
        output("server", "status", "--state", server / "none")


def test_a_running_server_is_described(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "nodes", lambda self: {"north": "online"})
    run = tmp_path / "run"
    run.mkdir()
    RunFolder(run).events.write_text('{"event": "round", "seconds": 1.0}\n')
    record_run("77", "hearts", 3, run, {REGISTRY_VARIABLE: str(registry_path(server))})
    canary = tmp_path / "canary"
    canary.mkdir()
    RunFolder(canary).canary.write_text("{}")
    record_run("78", "canary", 3, canary, {REGISTRY_VARIABLE: str(registry_path(server))})  # no run: not listed
    with announce_service(server, ServiceInfo("127.0.0.1:8000", metrics="127.0.0.1:9100")):
        status = json.loads(output("server", "status", "--state", server, "--json"))
        text = output("server", "status", "--state", server)
        nodes = json.loads(output("server", "nodes", "--state", server, "--json"))
    assert status["running"]
    assert (status["address"], status["metrics"]) == ("127.0.0.1:8000", "127.0.0.1:9100")
    assert status["sites"] == nodes == {"north": "online"}
    (described,) = status["runs"]
    assert (described["name"], described["status"], described["round"], described["rounds"]) == (
        "hearts",
        "running",
        1,
        3,
    )
    assert "runs on 127.0.0.1:8000 as process" in text
    assert "site north: online" in text
    assert "run hearts: running, round 1 of 3" in text


def test_a_start_that_was_resumed_is_not_listed_as_the_later_one(server: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    RunFolder(run).events.write_text(
        '{"event": "round"}\n{"event": "round"}\n{"event": "done", "status": "complete"}\n'
    )
    for number in ("77", "78"):
        record_run(number, "hearts", 2, run, {REGISTRY_VARIABLE: str(registry_path(server))})
    first, last = json.loads(call("server", "status", "--state", server, "--json").stdout)["runs"]
    assert (first["run"], first["status"], first["round"], first["resumed_as"]) == ("77", "resumed", None, "78")
    assert (last["run"], last["status"], last["round"]) == ("78", "complete", 2)
    lines = call("server", "status", "--state", server).stdout
    assert lines.count("complete") == 1
    assert "run hearts: broken off, and resumed by a later start, started " in " ".join(lines.split())


def test_keygen_prints_the_public_key_and_says_where_both_halves_are(tmp_path: Path) -> None:
    key = tmp_path / "north.key"
    result = call("client", "keygen", key)
    assert result.stdout == (tmp_path / "north.key.pub").read_text()
    assert result.stderr.splitlines() == [
        f"written: {key} (stays here) and {key}.pub (the key above: send it to the coordinator)"
    ]


def test_a_server_that_gives_no_answer_is_named_as_such(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Connection) -> dict[str, str]:
        raise EngineError("the server gave no answer")

    monkeypatch.setattr(Connection, "nodes", fail)
    with announce_service(server, ServiceInfo("127.0.0.1:8000")):
        assert "sites: the server gave no answer" in output("server", "status", "--state", server)


def test_commands_find_the_running_server_by_its_folder(server: Path) -> None:
    assert federation._connection(server, "").address == federation.DEFAULT_ADDRESS
    with announce_service(server, ServiceInfo("127.0.0.1:8443")):
        assert federation._connection(server, "").address == "127.0.0.1:8443"
        assert federation._connection(server, "10.0.0.1:1").address == "10.0.0.1:1"


def test_a_certificate_is_renewed(server: Path) -> None:
    text = output("server", "renew", "--state", server, "--days", "100")
    assert "for 100 days" in text
    assert "restart" not in text
    assert days_left(read_certificates(server / "server.pem")[0]) == pytest.approx(100, abs=0.1)
    with announce_service(server, ServiceInfo("127.0.0.1:8000")):
        assert "restart the server" in output("server", "renew", "--state", server)


def test_a_client_is_described(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no client has used"):
        output("client", "status", "--state", tmp_path)
    (tmp_path / "site").write_text("north\n")
    log = AuditLog(get_audit_path(tmp_path / "runs", "north"))
    log.append(AuditEntry("refused", kind="handshake", name="hearts", reason="policy: no"))
    result = call("client", "status", "--state", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("north: does not run\n")
    assert "request refused; handshake" in " ".join(result.output.split())
    with announce_service(tmp_path, ServiceInfo("fl.example.org:443", site="north")):
        status = json.loads(output("client", "status", "--state", tmp_path, "--json"))
        assert "server fl.example.org:443" in output("client", "status", "--state", tmp_path)
    assert (status["running"], status["server"], status["log_lines"]) == (True, "fl.example.org:443", 2)
    assert (status["epsilon"], status["pending"]) == (0.0, [])
