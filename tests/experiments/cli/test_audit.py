from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.gate.audit_entry import AuditEntry
from client.gate.audit_log import AuditLog, get_audit_path
from common.errors import ConfigError, DataError
from tests.experiments.cli.test_site import call, output

RUN, OTHER = "1f" * 16, "2e" * 16


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(get_audit_path(tmp_path / "runs", "north"))
    about = {"kind": "train", "round": 3, "name": "heart_disease", "config": "9" * 64, "server": "fl.example.org:443"}
    for run in (RUN, OTHER):
        admitted = log.append(AuditEntry("admitted", run=run, server_run="77", **about))  # type: ignore[arg-type]
        log.append(AuditEntry("refused", run=run, answers=admitted.number, reason="policy: too few people", **about))  # type: ignore[arg-type]
    return log


def test_the_log_is_shown_in_words(log: AuditLog, tmp_path: Path) -> None:
    text = output("audit", "show", "--site", "north", "--state", tmp_path)
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert f"run {RUN[:8]} (heart_disease, configuration {'9' * 12})" in joined
    assert "asked by fl.example.org:443 as its run 77" in joined
    assert "request refused; train of round 3; on line 2" in joined
    assert "reason: policy: too few people" in joined


def test_lines_are_selected_by_run_and_from_the_end(log: AuditLog, tmp_path: Path) -> None:
    def numbers(*more: str) -> list[int]:
        lines = output("audit", "show", "--site", "north", "--state", tmp_path, "--json", *more).splitlines()
        return [json.loads(line)["number"] for line in lines]

    assert numbers() == [1, 2, 3, 4, 5]
    assert numbers("--run", RUN[:6]) == [2, 3]
    assert numbers("--run", "heart_disease", "--last", "1") == [5]
    assert numbers("--run", "none") == []


def test_verification_prints_what_to_note_and_names_the_line(log: AuditLog, tmp_path: Path) -> None:
    text = " ".join(output("audit", "verify", "--site", "north", "--state", tmp_path).split())
    noted = text.rpartition(" ")[2]
    assert noted == f"5:{log.read()[-1].hash}"
    log.append(AuditEntry("admitted"))
    output("audit", "verify", "--path", log.path, "--noted", noted)
    with pytest.raises(DataError, match="line 5 is not the one that was noted"):
        output("audit", "verify", "--path", log.path, "--noted", f"5:{'0' * 64}")
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    for command in ("verify", "show"):
        result = call("audit", command, "--site", "north", "--state", tmp_path)
        assert isinstance(result.exception, DataError)
        assert "line 3 was removed" in str(result.exception)
        assert result.exception.exit_code == 2


def test_a_log_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for command in ("verify", "show"):
        with pytest.raises(DataError, match=r"no audit log .*check --site and --state"):
            output("audit", command, "--site", "north", "--state", tmp_path)
        with pytest.raises(ConfigError, match="needs --site NAME or --path FILE"):
            output("audit", command)
