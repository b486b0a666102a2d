from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.files import write_json
from common.process_identity import read_start
from common.service_file import FILE_NAME, ServiceInfo, announce_service, find_service


def test_a_running_service_is_found_and_an_ended_one_is_not(tmp_path: Path) -> None:
    assert find_service(tmp_path) is None
    info = ServiceInfo("127.0.0.1:8000", metrics="127.0.0.1:9100")
    with announce_service(tmp_path, info):
        assert find_service(tmp_path) == info
        assert info.pid == os.getpid()
    assert find_service(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_service_left_is_not_taken_for_one(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    created = read_start(process.pid)
    info = ServiceInfo("127.0.0.1:8000", pid=process.pid, created=created)
    write_json(tmp_path / FILE_NAME, asdict(info))
    assert find_service(tmp_path) == info
    process.kill()
    process.communicate()
    assert find_service(tmp_path) is None
    write_json(tmp_path / FILE_NAME, asdict(ServiceInfo("127.0.0.1:8000", created=created - 99)))  # the number again
    assert find_service(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"pid": "x"})])
def test_a_damaged_file_is_no_service(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert find_service(tmp_path) is None


def test_two_services_do_not_share_a_folder(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = read_start(process.pid)
        write_json(tmp_path / FILE_NAME, asdict(ServiceInfo("127.0.0.1:8000", pid=process.pid, created=created)))
        with pytest.raises(ConfigError, match=f"is in use by process {process.pid}"):
            announce_service(tmp_path, ServiceInfo("127.0.0.1:8001")).__enter__()
        assert find_service(tmp_path) is not None
        process.kill()
    with announce_service(tmp_path / "new", ServiceInfo("127.0.0.1:8001")):
        assert find_service(tmp_path / "new") is not None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps the date of a process's start")
def test_a_clock_that_jumps_makes_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psutil import _pslinux

    with announce_service(tmp_path, ServiceInfo("127.0.0.1:8000")):
        before = _pslinux.boot_time()
        monkeypatch.setattr(_pslinux, "boot_time", lambda: before + 7200)
        assert find_service(tmp_path) is not None
