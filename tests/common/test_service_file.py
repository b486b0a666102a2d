from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from common.errors import ConfigError
from common.files import write_json
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
    created = psutil.Process(process.pid).create_time()
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
        created = psutil.Process(process.pid).create_time()
        write_json(tmp_path / FILE_NAME, asdict(ServiceInfo("127.0.0.1:8000", pid=process.pid, created=created)))
        with pytest.raises(ConfigError, match=f"is in use by process {process.pid}"):
            announce_service(tmp_path, ServiceInfo("127.0.0.1:8001")).__enter__()
        assert find_service(tmp_path) is not None
        process.kill()
    with announce_service(tmp_path / "new", ServiceInfo("127.0.0.1:8001")):
        assert find_service(tmp_path / "new") is not None
