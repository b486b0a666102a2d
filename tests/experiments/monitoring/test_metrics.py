"""Metrics of a client and a server: each number against what was written into the files it is read from."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog, get_audit_path
from client.privacy.accounting import GaussianSteps
from client.privacy.charges import Charge
from client.privacy.ledger import Ledger, get_ledger_path
from common.errors import EngineError
from common.processes import find_free_port
from common.run_folder import RunFolder
from experiments.monitoring.client_files import ClientFiles
from experiments.monitoring.client_metrics import ClientMetrics
from experiments.monitoring.endpoint import serve_metrics
from experiments.monitoring.log_followers import AuditFollower, LineFollower
from experiments.monitoring.polling import PolledValue
from experiments.monitoring.server_metrics import ServerMetrics
from server.credentials import create_credentials
from server.run_list import FILE_NAME, read_runs, record_run
from server.site_registry import REGISTRY_VARIABLE, registry_path

Sample = tuple[str, tuple[tuple[str, str], ...]]
RUN, OTHER = "1f" * 16, "2e" * 16


def scrape(collector: Collector) -> dict[Sample, float]:
    """Return all samples as a scraper would read them: name and labels with the value."""
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    return {
        (sample.name.removeprefix("wardround_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Mapping[Sample, float], name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.fixture
def files(tmp_path: Path) -> ClientFiles:
    ca = create_credentials(tmp_path / "server", ["fl.example.org"]).ca
    return ClientFiles("north", tmp_path / "state" / "runs", None, ca)


def test_requests_replies_and_bytes_are_those_of_the_audit_log(files: ClientFiles) -> None:
    log = AuditLog(get_audit_path(files.runs, files.site))
    metrics = ClientMetrics(files, lambda: True, lambda: 12.5)
    assert value(scrape(metrics), "rounds_total") == 0

    def request(kind: str, run: str, outcome: str = "", size: int = 0, seconds: float = 0.0) -> None:
        number = log.append(AuditEntry("admitted", kind=kind, run=run)).number
        if outcome:
            log.append(AuditEntry(outcome, kind=kind, run=run, answers=number, size=size, seconds=seconds))  # type: ignore[arg-type]

    request("train", RUN, "released", 100, 2.0)
    request("train", OTHER, "released", 50, 1.0)
    request("train", RUN, "refused", 0, 0.5)  # a spent budget
    request("test", RUN, "withheld")
    request("test", RUN, "failed")
    log.append(AuditEntry("refused", kind="handshake", run="3d" * 16))
    log.append(AuditEntry("unreadable", kind="train"))
    samples = scrape(metrics)
    assert value(samples, "requests_total", kind="train", decision="admitted") == 3
    assert value(samples, "requests_total", kind="train", decision="unreadable") == 1
    assert value(samples, "requests_total", kind="handshake", decision="refused") == 1
    assert value(samples, "replies_total", kind="train", outcome="released") == 2
    assert value(samples, "replies_total", kind="train", outcome="refused") == 1
    assert value(samples, "replies_total", kind="test", outcome="withheld") == 1
    assert value(samples, "replies_total", kind="test", outcome="failed") == 1
    assert value(samples, "sent_bytes_total", kind="train") == 150
    assert value(samples, "request_seconds_sum", kind="train") == 3.5
    assert value(samples, "request_seconds_count", kind="train") == 3
    assert (value(samples, "rounds_total"), value(samples, "runs")) == (2, 3)
    assert value(samples, "connected") == 1
    assert value(samples, "certificate_days", certificate="server") == 12.5
    assert 3600 < value(samples, "certificate_days", certificate="authority") <= 3650
    assert value(samples, "audit_log_intact") == 1
    assert value(scrape(metrics), "rounds_total") == 2  # what was counted is not counted again


def test_a_log_that_was_tampered_with_or_made_anew_is_noticed(files: ClientFiles) -> None:
    log = AuditLog(get_audit_path(files.runs, files.site))
    for _ in range(4):
        log.append(AuditEntry("admitted", kind="train"))
    metrics = ClientMetrics(files, lambda: False)
    assert value(scrape(metrics), "audit_log_intact") == 1
    lines = log.path.read_bytes().splitlines(keepends=True)
    with log.path.open("ab") as file:
        file.write(lines[2])
    assert value(scrape(metrics), "audit_log_intact") == 0
    log.path.write_bytes(b"".join(lines[:2]))
    samples = scrape(metrics)
    assert value(samples, "audit_log_intact") == 1
    assert value(samples, "requests_total", kind="train", decision="admitted") == 1
    assert value(samples, "connected") == 0


def test_epsilon_is_that_of_the_ledger_and_its_limit_that_of_the_policy(files: ClientFiles, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    metrics = ClientMetrics(ClientFiles(files.site, files.runs, policy, files.ca), lambda: True)
    assert value(scrape(metrics), "epsilon_spent") == 0
    row = Ledger(get_ledger_path(files.runs, "north"), "d").charge(
        Charge(RUN, 1, "patient", "person", 50, GaussianSteps(0.1, 4.0, 10), 1e-5, "rdp")
    )
    policy.write_text("max_epsilon: 3\n")
    samples = scrape(metrics)
    assert value(samples, "epsilon_spent") == pytest.approx(row.epsilon)
    assert value(samples, "epsilon_limit") == 3
    policy.write_text("default_max_epsilon: null\n")
    assert value(scrape(metrics), "epsilon_limit") == float("inf")
    policy.write_text("wrong: true\n")
    assert not [name for name, _ in scrape(metrics) if name == "epsilon_limit"]


# The server


def write_events(folder: Path, *events: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder).events.open("a") as file:
        file.write("".join(json.dumps(event) + "\n" for event in events))


def reply(site: str, ok: bool = True) -> dict[str, Any]:
    return {"event": "reply", "site": site, "phase": "train", "ok": ok}


def start_run(state: Path, number: str, folder: Path) -> None:
    record_run(number, "hearts", 3, folder, {REGISTRY_VARIABLE: str(registry_path(state))})


def test_rounds_replies_and_losses_are_those_of_the_events(tmp_path: Path) -> None:
    state = tmp_path / "state"
    create_credentials(state, [])
    metrics = ServerMetrics(
        state, lambda: {"north": "online", "south": "offline"}, lambda: {"1": (10, 20), "2": (1, 2)}
    )
    assert value(scrape(metrics), "server_rounds_total") == 0
    for number in ("1", "2"):
        start_run(state, number, tmp_path / number)
    private = {"train": {"privacy": {"epsilon_run": 0.75}}}
    write_events(
        tmp_path / "1", {"event": "connect"}, reply("north"), reply("south", ok=False),
        {"event": "round", "seconds": 2.0, "lost": {"south": "no answer"}, "sites": {"north": private}},
    )  # fmt: skip
    write_events(tmp_path / "2", reply("north"), {"event": "round", "seconds": 1.5, "lost": {}, "sites": {"north": {}}},
                 {"event": "done", "status": "complete"})  # fmt: skip
    samples = scrape(metrics)
    assert value(samples, "server_rounds_total") == 2
    assert value(samples, "server_round_seconds_sum") == 3.5
    assert value(samples, "server_runs_started_total") == 2
    assert value(samples, "server_runs", status="running") == 1
    assert value(samples, "server_runs", status="complete") == 1
    assert value(samples, "server_replies_total", site="north", phase="train", usable="true") == 2
    assert value(samples, "server_replies_total", site="south", phase="train", usable="false") == 1
    assert value(samples, "server_lost_rounds_total", site="south") == 1
    assert value(samples, "server_run_epsilon", site="north") == 0.75
    assert value(samples, "server_site_online", site="north") == 1
    assert value(samples, "server_site_online", site="south") == 0
    assert value(samples, "server_sent_bytes_total") == 11
    assert value(samples, "server_received_bytes_total") == 22
    assert 390 < value(samples, "certificate_days", certificate="server") <= 397
    write_events(tmp_path / "1", {"event": "round", "seconds": 1.0, "lost": {}}, {"event": "done", "status": "failed"})
    samples = scrape(metrics)
    assert value(samples, "server_rounds_total") == 3
    assert value(samples, "server_runs", status="failed") == 1


def test_a_run_that_is_resumed_is_counted_once(tmp_path: Path) -> None:
    create_credentials(tmp_path, [])
    start_run(tmp_path, "1", tmp_path / "run")
    write_events(
        tmp_path / "run", reply("north"), {"event": "round", "seconds": 2.0}, {"event": "done", "status": "failed"}
    )
    metrics = ServerMetrics(tmp_path, dict)
    scrape(metrics)
    start_run(tmp_path, "2", tmp_path / "run")
    write_events(tmp_path / "run", {"event": "round", "seconds": 1.0}, {"event": "done", "status": "complete"})
    samples = scrape(metrics)
    assert (value(samples, "server_runs_started_total"), value(samples, "server_rounds_total")) == (2, 2)
    assert value(samples, "server_round_seconds_sum") == 3.0
    assert value(samples, "server_runs", status="complete") == 1
    assert value(samples, "server_replies_total", site="north", phase="train", usable="true") == 1


def test_a_damaged_event_or_list_ends_nothing(tmp_path: Path) -> None:
    create_credentials(tmp_path, [])
    start_run(tmp_path, "1", tmp_path / "run")
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"time": 1}\nnothing\n')
    write_events(tmp_path / "run", reply("north"))
    with RunFolder(tmp_path / "run").events.open("a") as file:
        file.write('[1]\n{"event"\n')
    assert len(read_runs(tmp_path)) == 1
    assert value(scrape(ServerMetrics(tmp_path, dict)), "server_runs_started_total") == 1


def test_a_simulation_is_in_no_list(tmp_path: Path) -> None:
    record_run("1", "hearts", 3, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


# Serving


def test_metrics_are_served_while_the_block_lasts(files: ClientFiles) -> None:
    address = f"127.0.0.1:{find_free_port()}"
    with serve_metrics(address, ClientMetrics(files, lambda: True)):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        with pytest.raises(EngineError, match="is in use"), serve_metrics(address, ClientMetrics(files, lambda: True)):
            pass
    assert "wardround_connected 1.0" in text
    assert "process_resident_memory_bytes" in text
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=2)


def test_a_value_that_cannot_be_read_is_absent() -> None:
    answers: list[Any] = [EngineError("no answer"), {"north": "online"}, OSError("gone")]

    def read() -> dict[str, str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    polled: PolledValue[dict[str, str]] = PolledValue(read, {})
    observed = []
    for _ in range(3):
        polled.update()
        observed.append(polled.get())
    assert observed == [{}, {"north": "online"}, {}]


def test_a_value_is_read_in_the_background() -> None:
    import time

    count = [0]

    def read() -> int:
        count[0] += 1
        return count[0]

    polled = PolledValue(read, 0)
    with polled.keep_updated(0.01):
        deadline = time.monotonic() + 120
        while polled.get() < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert polled.get() >= 3


def test_followers_read_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = LineFollower(path)
    assert lines.read_new() == (False, [])
    path.write_bytes(b"a\nb\nhal")
    assert lines.read_new() == (False, [b"a", b"b"])
    assert lines.read_new() == (False, [])
    path.write_bytes(b"a\nb\nhalf\n")
    assert lines.read_new() == (False, [b"half"])
    path.write_bytes(b"c\n")
    assert lines.read_new() == (True, [b"c"])
    assert AuditFollower(path).read_new() == (False, [])


def test_a_node_without_records_and_a_worker_without_network_serve_their_own_half(files: ClientFiles) -> None:
    node = scrape(ClientMetrics(ClientFiles("north", None, None, files.ca), lambda: True, lambda: 5.0))
    names = {name for name, _ in node}
    assert names == {"connected", "certificate_days", "release_info"}
    worker = {name for name, _ in scrape(ClientMetrics(ClientFiles("north", files.runs, None, None)))}
    assert {"rounds_total", "epsilon_spent", "audit_log_intact"} <= worker
    assert not worker & {"connected", "certificate_days"}
