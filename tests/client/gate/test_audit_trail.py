"""What the audit log says about the requests of a run at a hospital with SYNTHETIC rows of heart disease patients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests
from client.gate import audit_trail
from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog
from client.gate.audit_trail import UNWRITABLE, open_audit_log
from client.policy import SIMULATION_POLICY, SitePolicy
from client.privacy.ledger import Ledger, get_ledger_path
from client.site_context import SiteContext
from common import messages, models
from common.config import RunConfig, fingerprint_config, load_config
from common.errors import DataError, SiteError
from common.release import identify_release
from common.reply_arrays import name_arrays
from common.requests import HandshakeRequest, TrainRequest
from sites.datasets.heart_disease import simulate
from tests.client.test_app import ask_node, read_error

CONFIG = Path(__file__).parents[3] / "experiments" / "heart_disease.yaml"
SETTINGS = ["data.options={}", "sites.split=patient", "data.scaling=none"]
PRIVATE = ["privacy.epsilon=2", "privacy.delta=1e-3", "privacy.sampling=0.5", "privacy.accountant=rdp",
           "training.loss=cross_entropy", "federation.choose=last", "evaluation.threshold=likelier",
           "training.patience=0"]  # fmt: skip
RUN = "1f" * 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "heart-disease"
    simulate.generate(folder, hospitals=1, patients=90, seed=3)
    return folder


@pytest.fixture
def north(data: Path, tmp_path: Path) -> SiteContext:
    return SiteContext(SitePolicy(max_delta=0.01), site="north", data=data, state=tmp_path / "runs",
                       server="fl.example.org:443", server_run="77")  # fmt: skip


def read(context: SiteContext) -> list[AuditEntry]:
    return open_audit_log(context).read()[1:]


def train_request(context: SiteContext, config: RunConfig) -> TrainRequest:
    report = requests.handle(context, HandshakeRequest(config)).report
    model = models.build_model(report.task, config.model, config.seed)  # type: ignore[attr-defined]
    weights = {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}
    return TrainRequest(config, 1, weights, run_id=RUN)


def test_a_round_is_two_lines_that_say_who_asked_and_what_left(north: SiteContext) -> None:
    config = load_config(CONFIG, SETTINGS)
    request = train_request(north, config)
    reply = requests.handle(north, request)
    lines = read(north)
    assert [(line.event, line.kind) for line in lines] == [
        ("admitted", "handshake"), ("released", "handshake"), ("admitted", "train"), ("released", "train"),
    ]  # fmt: skip
    admitted, released = lines[2:]
    for line in (admitted, released):
        assert (line.run, line.round, line.name) == (RUN, 1, config.name)
        assert (line.server, line.server_run) == ("fl.example.org:443", "77")
        assert line.config == fingerprint_config(config)
        assert line.release == identify_release()
    assert released.answers == admitted.number
    arrays = name_arrays(reply)
    assert [(name, shape) for name, _, shape, _ in released.arrays] == [(n, v.shape) for n, v in arrays.items()]
    for name, dtype, _, norm in released.arrays:
        assert dtype == "float32"
        assert norm == pytest.approx(np.sqrt((arrays[name].astype(float) ** 2).sum()), rel=1e-5)
    moved = np.concatenate([(arrays[name] - request.weights[name]).ravel() for name in arrays])
    assert released.change == pytest.approx(np.linalg.norm(moved), rel=1e-4)
    assert released.size == sum(value.nbytes for value in arrays.values()) + len(reply.report.to_json())
    assert "loss" not in released.report
    assert "examples" in released.report
    words = released.describe()
    assert f"run {RUN[:8]} ({config.name}" in words
    assert f"{len(arrays)} arrays" in words
    assert "asked by fl.example.org:443 as its run 77" in admitted.describe()


@pytest.mark.slow
def test_a_private_round_states_what_was_charged(north: SiteContext) -> None:
    requests.handle(north, train_request(north, load_config(CONFIG, [*SETTINGS, *PRIVATE])))
    lines = read(north)
    path = get_ledger_path(north.state or Path(), "north")
    rows = Ledger.read(path).rows()
    assert [len(line.charges) for line in lines] == [0, 1, 0, 1]  # noisy counts, then the round
    charges = [charge for line in lines for charge in line.charges]
    assert charges == [(row.number, row.epsilon_run, row.epsilon, row.delta) for row in rows]
    assert "charge 2: epsilon " in lines[-1].describe()


def test_a_refusal_says_why_and_no_work_follows(north: SiteContext) -> None:
    with pytest.raises(SiteError, match="hospital's to allow"):
        requests.handle(north, HandshakeRequest(load_config(CONFIG, [*SETTINGS, "sites.limit=1"])))
    (line,) = read(north)
    assert (line.event, line.answers, line.arrays, line.size) == ("refused", 0, (), 0)
    assert line.reason.startswith("policy: sites.limit is this hospital's to allow")


def test_of_an_unplanned_error_no_text_is_logged(north: SiteContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("Jane Roe born 1950-01-01")

    monkeypatch.setattr(requests, "HANDLERS", {HandshakeRequest: fail})
    with pytest.raises(ValueError, match="Roe"):
        requests.handle(north, HandshakeRequest(load_config(CONFIG, SETTINGS)))
    assert [line.event for line in read(north)] == ["admitted", "failed"]
    assert read(north)[-1].reason.startswith("ValueError in tests/")
    assert "Roe" not in open_audit_log(north).path.read_text()


def test_a_reply_that_the_policy_keeps_back_is_logged_as_such(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(CONFIG, SETTINGS)
    reply = replace(requests.handle(north, HandshakeRequest(config)), site="south")
    monkeypatch.setattr(requests, "HANDLERS", {HandshakeRequest: lambda *_: reply})
    with pytest.raises(SiteError, match="it is not sent"):
        requests.handle(north, HandshakeRequest(config))
    assert [line.event for line in read(north)][2:] == ["admitted", "withheld"]


@pytest.mark.parametrize("written", [0, 1])
def test_nothing_leaves_where_the_log_cannot_be_written(
    north: SiteContext, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """With no line written the request is not worked on; with its admission alone the reply does not leave."""
    lines: list[AuditEntry] = []

    def append(log: AuditLog, entry: AuditEntry) -> AuditEntry:
        if len(lines) == written:
            raise DataError("No space left on device")
        lines.append(replace(entry, number=1))
        return lines[-1]

    worked: list[int] = []
    handler = requests.HANDLERS[HandshakeRequest]
    monkeypatch.setattr(requests, "HANDLERS", {HandshakeRequest: lambda *a: worked.append(1) or handler(*a)})
    monkeypatch.setattr(audit_trail.AuditLog, "append", append)
    with pytest.raises(SiteError, match=UNWRITABLE):
        requests.handle(north, HandshakeRequest(load_config(CONFIG, SETTINGS)))
    assert len(worked) == written


def test_a_message_that_is_no_request_is_logged_as_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"site": "north", "data": str(data), "state": str(tmp_path / "runs"), "server": "fl.example.org:443"}
    pack = messages.pack_request
    monkeypatch.setattr(messages, "pack_request", lambda request: _with_protocol(pack(request), 3))
    reply = read_error(ask_node("handshake", node))
    assert "protocol" in reply["text"]
    context = SiteContext(SitePolicy(), site="north", data=data, state=tmp_path / "runs")
    (line,) = read(context)
    assert (line.event, line.kind, line.server, line.server_run) == (
        "unreadable",
        "handshake",
        "fl.example.org:443",
        "1",
    )
    assert line.reason == reply["text"]


def _with_protocol(content: Any, number: int) -> Any:
    content.config_records["config"]["protocol"] = number
    return content


def test_a_simulation_keeps_no_log(tmp_path: Path) -> None:
    trail = audit_trail.AuditTrail(
        SiteContext(SIMULATION_POLICY, site="north", state=tmp_path), HandshakeRequest(load_config(CONFIG, SETTINGS))
    )
    trail.record_admission()
    assert list(tmp_path.iterdir()) == []


def test_a_line_holds_no_more_than_it_says(north: SiteContext) -> None:
    """The file as it stands: its keys are those of the documentation, and no row of the data is in it."""
    requests.handle(north, train_request(north, load_config(CONFIG, SETTINGS)))
    text = open_audit_log(north).path.read_text()
    known = set(AuditEntry.__dataclass_fields__)
    assert all(set(json.loads(line)) <= known for line in text.splitlines())
    assert north.data is not None
    for file in north.data.rglob("*.data"):
        for row in file.read_text().splitlines():
            assert row not in text


def test_a_hospital_without_a_folder_for_its_log_answers_nothing(data: Path) -> None:
    context = SiteContext(SitePolicy(), site="north", data=data)
    with pytest.raises(SiteError, match="give --state"):
        requests.handle(context, HandshakeRequest(load_config(CONFIG, SETTINGS)))
