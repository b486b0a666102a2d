"""The units, the Dockerfile and the compose files: they call this program as it is, with as few rights as it needs."""

from __future__ import annotations

import ctypes.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tests.deploy.units import FOLDER, ROOT, get_value, read_unit, split_command
from tests.test_docs import parse

UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/wardround/bin/wardround"
VARIABLES = {"DATA": "/srv/ecg", "SUPERLINK": "fl.example.org:443", "SITE": "north", "CONFIG": "/etc/wardround/north"}
DOCKER = ROOT / "deploy" / "docker"
COMPOSE = sorted(DOCKER.glob("*.yaml"))
HARDENED = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "UMask": "0077",
    "PrivateDevices": "yes", "RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes", "StateDirectoryMode": "0700",
    "ProtectProc": "invisible", "SystemCallArchitectures": "native", "KillMode": "mixed", "Restart": "always",
}  # fmt: skip


def name(path: Path) -> str:
    return path.name


def check_command(words: list[str]) -> None:
    """Fail if this program has no such command, option or necessary argument."""
    try:
        values = parse(shlex.join(words))
    except click.UsageError as error:
        pytest.fail(f"wardround {shlex.join(words)}: {error.format_message()}")
    assert values


def test_there_is_a_unit_for_each_part() -> None:
    parts = ["wardround-client@", "wardround-proxy", "wardround-server", "wardround-worker@"]
    assert [path.stem for path in UNITS] == parts


@pytest.mark.parametrize("path", UNITS, ids=name)
def test_a_unit_calls_the_program_as_it_is(path: Path) -> None:
    unit = read_unit(path, "north")
    program, *words = split_command(get_value(unit, "Service", "ExecStart"), VARIABLES)
    if path.stem == "wardround-proxy":
        assert program == "/usr/sbin/nginx"
        return
    assert program == PROGRAM
    check_command(words)
    assert get_value(unit, "Service", "Type") == "notify"
    assert float(get_value(unit, "Service", "WatchdogSec")) >= 60
    assert get_value(unit, "Service", "RestartPreventExitStatus") == "2"
    assert get_value(unit, "Service", "SuccessExitStatus") == "130"
    folder = get_value(unit, "Service", "StateDirectory")
    assert any(word.startswith(f"/var/lib/{folder}") for word in words)
    assert get_value(unit, "Service", "Environment") == f"HOME=/var/lib/{folder}", "prepared data are cached below HOME"


def test_the_check_of_commands_notices_a_renamed_option() -> None:
    text = get_value(read_unit(FOLDER / "wardround-client@.service", "north"), "Service", "ExecStart")
    words = split_command(text.replace("--worker-user", "--worker-account"), VARIABLES)[1:]
    with pytest.raises(pytest.fail.Exception, match="--worker-account"):
        check_command(words)


@pytest.mark.parametrize("path", UNITS, ids=name)
def test_a_unit_has_a_user_of_its_own_and_few_rights(path: Path) -> None:
    unit = read_unit(path, "north")
    service = unit["Service"]
    assert {key: service[key] for key in HARDENED} == {key: [value] for key, value in HARDENED.items()}
    assert get_value(unit, "Service", "User") not in ("", "root", "nobody")
    bounds = get_value(unit, "Service", "CapabilityBoundingSet")
    assert bounds == ("CAP_NET_BIND_SERVICE" if path.stem == "wardround-proxy" else "")


def test_no_two_parts_share_a_user_and_the_worker_has_no_network() -> None:
    units = {path.stem: read_unit(path, "north") for path in UNITS}
    assert len({get_value(unit, "Service", "User") for unit in units.values()}) == len(units)
    worker = units["wardround-worker@"]
    assert get_value(worker, "Service", "PrivateNetwork") == "yes"
    assert get_value(worker, "Service", "RestrictAddressFamilies") == "AF_UNIX"
    assert get_value(units["wardround-server"], "Service", "IPAddressDeny") == "any"
    words = split_command(get_value(units["wardround-client@"], "Service", "ExecStart"), VARIABLES)
    assert words[words.index("--worker-user") + 1] == get_value(worker, "Service", "User")
    socket = words[words.index("--worker-socket") + 1]
    words = split_command(get_value(worker, "Service", "ExecStart"), VARIABLES)
    assert words[words.index("--socket") + 1] == socket
    assert Path(socket).parent == Path("/run") / get_value(worker, "Service", "RuntimeDirectory")
    assert words[words.index("--node-user") + 1] == get_value(units["wardround-client@"], "Service", "User")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units_and_counts_little_exposure(tmp_path: Path) -> None:
    for path in UNITS:  # the program is not installed under /opt here
        text = re.sub(r"^(Exec\w+)=/\S+", r"\1=/bin/true", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    verified = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, timeout=600)
    assert (verified.returncode, verified.stderr) == (0, "")
    for file in files:
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", file]
        output = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
        (exposure,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d+)", output)
        assert float(exposure) < 2.0, f"{file}: {exposure} of 10"


# --- containers ---


def read_dockerfile() -> list[tuple[str, str]]:
    """Return (instruction, arguments) of each line, continued lines joined."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], " ".join(line.split()[1:])) for line in lines if line.strip()]


def test_the_image_is_pinned_small_and_no_part_runs_as_root() -> None:
    steps = read_dockerfile()
    stages = [arguments for instruction, arguments in steps if instruction == "FROM"]
    for stage in stages:
        image = stage.split(" AS ")[0]
        assert image in [other.split(" AS ")[1] for other in stages] or re.fullmatch(r"[\w/-]+:\d[\w.-]+", image)
    user = ""
    for instruction, arguments in steps:
        assert instruction in {"FROM", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
        if instruction == "USER":
            user = arguments
        if instruction in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(arguments), list), "a shell would not pass SIGTERM on"
            assert user not in ("", "root")
        if instruction == "RUN" and "apt-get install" in arguments:
            assert "apt-get update" in arguments
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists/*" in arguments
        if instruction == "RUN" and "pip install" in arguments:
            assert "-c /src/constraints.txt" in arguments
            assert "--no-cache-dir" in arguments


def test_what_the_image_copies_is_what_is_installed() -> None:
    copied = {word for instruction, arguments in read_dockerfile() if instruction == "COPY" for word in
              arguments.split()[:-1]}  # fmt: skip
    assert all((ROOT / word).exists() for word in copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (packages,) = re.findall(r"\[tool.hatch.build.targets.wheel\]\ninclude = (.*)", project)
    assert {f"/{word}" for word in copied if (ROOT / word).is_dir()} == set(json.loads(packages))


def get_services(path: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))["services"])


@pytest.mark.parametrize("path", COMPOSE, ids=name)
def test_containers_have_few_rights_and_call_the_program_as_it_is(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    users = {line.split()[-1] for instruction, text in read_dockerfile() if instruction == "RUN"
             for line in text.split("&&") if "useradd" in line}  # fmt: skip
    for service in content["services"].values():
        assert service["restart"] == "always"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")
        assert re.fullmatch(r"wardround(-proxy)?:\d[\d.]+", service["image"])
        if "user" in service:
            assert service["user"] in users
        if "command" in service:
            check_command([re.sub(r"\$\{(\w+):\?\}", lambda m: VARIABLES[m[1]], word) for word in service["command"]])
        if "healthcheck" in service:
            program, *words = service["healthcheck"]["test"][1:]
            assert program == "wardround"
            check_command(words)
        volumes = {volume.split(":")[0] for volume in service["volumes"] if volume[0] != "$"}
        assert volumes <= set(content["volumes"])


def test_only_the_proxy_can_be_reached_and_the_worker_has_no_network() -> None:
    coordinator, hospital = get_services(DOCKER / "coordinator.yaml"), get_services(DOCKER / "hospital.yaml")
    assert coordinator["proxy"]["network_mode"] == "service:server"
    listen = coordinator["server"]["command"]
    assert listen[listen.index("--listen") + 1].startswith("127.0.0.1:")
    assert coordinator["server"]["ports"] == ["443:8443"]
    assert hospital["worker"]["network_mode"] == "none"
    assert not any("ports" in service for service in hospital.values())
    data = [volume for volume in hospital["client"]["volumes"] if "/data" in volume]
    assert data == []
    assert [volume for volume in hospital["worker"]["volumes"] if ":/data" in volume] == ["${DATA:?}:/data:ro"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze names the calls of a group")
@pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed")
def test_calls_that_a_unit_does_not_allow_fail_where_the_page_is_followed() -> None:
    setting = ";".join(read_unit(FOLDER / "wardround-worker@.service", "north")["Service"]["SystemCallFilter"])
    code = "import os\ntry: os.nice(1)\nexcept PermissionError: print('refused', os.getpid() > 0)"
    command = [sys.executable, str(Path(__file__).with_name("confine.py")), "calls", setting, "no"]
    result = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (result.stdout, result.stderr) == ("refused True\n", "")
