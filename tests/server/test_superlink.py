import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.proto.control_pb2 import ListNodesResponse
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from client.supernode import create_node_key
from common.errors import ConfigError, EngineError
from common.processes import (
    ProcessTree,
    build_environment,
    check_site_name,
    find_free_port,
    interrupt_on_signals,
    to_toml,
    write_guarded_programs,
)
from server.control import Control
from server.credentials import Credentials, create_credentials
from server.site_registry import read_registry
from server.superlink import Connection, SuperLink, format_app_settings

NASTY = 'a "quote", a \\ and \n a line, \x7f, é, 😀, ${x} %s {y}'


def test_settings_carry_any_text_and_no_code(tmp_path: Path) -> None:
    read = tomllib.loads(format_app_settings(NASTY, tmp_path))
    app = read["tool"]["flwr"]["app"]
    assert app["config"] == {"wardround-config": NASTY, "wardround-out": str(tmp_path)}
    assert app["components"] == {"serverapp": "server.app:app", "clientapp": "client.app:app"}


@pytest.mark.parametrize("value", [True, 3, 0.25, 1e-9, NASTY])
def test_toml_values_come_back(value: str | int | float | bool) -> None:
    assert tomllib.loads(f"x = {to_toml(value)}") == {"x": value}


def test_a_resumed_run_does_not_read_what_a_full_disk_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.cli.install import install_from_fab

    from server.control import build_bundle

    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    first, second = (build_bundle({"pyproject.toml": format_app_settings("{}", tmp_path).encode()}) for _ in range(2))
    half = install_from_fab(first, skip_prompt=True) / "pyproject.toml"
    half.write_bytes(b"")  # as of a disk that was full
    assert (install_from_fab(first, skip_prompt=True) / "pyproject.toml").read_bytes() == b""  # what Flower does
    read = tomllib.loads((install_from_fab(second, skip_prompt=True) / "pyproject.toml").read_text())
    assert read["tool"]["flwr"]["app"]["config"]["wardround-config"] == "{}"


@pytest.mark.parametrize("name", ["", "North", "a b", "north/1", "é", "n" * 41, "north\n"])
def test_bad_site_names(name: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 40 of the characters"):
        check_site_name(name)


def test_good_site_names() -> None:
    for name in ("a", "north-1", "n" * 40):
        check_site_name(name)


def test_a_state_folder_that_others_can_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "state" / "flower"
    inner.mkdir(parents=True)
    for path in (tmp_path / "state", inner):
        path.chmod(0o755)
    monkeypatch.setattr("server.superlink.ProcessTree", lambda *_, **__: None)
    monkeypatch.setattr(SuperLink, "_answers", lambda self: True)
    SuperLink(tmp_path / "state", None, port=find_free_port()).start()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "state", inner)] == [0o700, 0o700]


def test_command_lines(tmp_path: Path) -> None:
    link = SuperLink(tmp_path, Credentials.in_folder(tmp_path), host="0.0.0.0", port=8443)
    line = link.command()
    assert "--enable-supernode-auth" in line
    assert "--insecure" not in line
    assert line[line.index("--database") + 1] == str(tmp_path / "federation.db")
    assert link.connection == Connection("127.0.0.1:8443", tmp_path / "ca.pem", tmp_path)
    simulated = SuperLink(tmp_path, None, port=8443).command()
    assert "--simulation" in simulated
    assert simulated[simulated.index("--host") + 1] == "127.0.0.1"


def test_commands_are_quiet_and_use_this_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    found = build_environment(tmp_path)
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["FLWR_HOME"] == str(tmp_path)
    assert str(Path(__file__).parents[2]) in found["PYTHONPATH"].split(os.pathsep)


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        link = SuperLink(tmp_path / "state", create_credentials(tmp_path, []), port=port)
        with pytest.raises(EngineError, match=f"port {port} on 127.0.0.1 is in use"):
            link.start()
    assert not link.log.exists()


def test_bad_credentials_stop_the_start(tmp_path: Path) -> None:
    link = SuperLink(tmp_path, Credentials.in_folder(tmp_path), port=find_free_port())
    with pytest.raises(ConfigError, match=r"cannot read .*ca\.pem"):
        link.start()


def test_registering_needs_a_new_name_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "sites.json").write_text('{"north": "17"}')
    connection = Connection("127.0.0.1:1", None, tmp_path)
    with pytest.raises(ConfigError, match="site north is registered already"):
        connection.register("north", tmp_path / "north.pub")
    with pytest.raises(ConfigError, match=r"cannot read .*south\.pub"):
        connection.register("south", tmp_path / "south.pub")
    with pytest.raises(ConfigError, match="no site south; registered: north"):
        connection.unregister("south")


def test_a_registration_that_was_cut_off_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_node_key(tmp_path / "node.key")
    file = tmp_path / "node.key.pub"
    key = public_key_to_bytes(load_ssh_public_key(file.read_bytes()))  # type: ignore[arg-type]
    listed = ListNodesResponse(nodes_info=[NodeInfo(node_id=17, public_key=key), NodeInfo(node_id=3, public_key=b"x")])

    def call(self: Control, what: str, send: object) -> ListNodesResponse:
        if what == "list the sites":
            return listed
        raise EngineError("the server refused to register a site: Public key already in use.")

    monkeypatch.setattr(Control, "_call", call)
    connection = Connection("127.0.0.1:1", None, tmp_path)
    assert connection.register("north", file) == "17"
    assert read_registry(tmp_path / "sites.json") == {"north": "17"}
    with pytest.raises(ConfigError, match="is the key of site north already: each site makes a key of its own"):
        connection.register("south", file)
    listed.nodes_info[0].unregistered_at = "2026-01-01T00:00:00+00:00"
    (tmp_path / "sites.json").unlink()
    with pytest.raises(EngineError, match=r"Public key already in use"):
        connection.register("north", file)


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the server at 127\.0\.0\.1:1 gave no answer when asked to list the sites"):
        Connection("127.0.0.1:1", None, tmp_path).nodes()


def test_a_child_ends_with_all_it_started(tmp_path: Path) -> None:
    # The grandchild leaves the group and ignores SIGTERM, as a detached helper might.
    grandchild = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"
    source = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
        "print('grandchild', p.pid, flush=True)\ntime.sleep(600)\n"
    )
    child = ProcessTree([sys.executable, "-c", source], home=tmp_path / "home", log=tmp_path / "log")
    while "up" not in child.output():
        time.sleep(0.02)
    pid = int(child.output().split()[1])
    child.stop(patience=1.0)
    assert child.poll() is not None
    deadline = time.monotonic() + 120  # a killed process lingers until its parent's heir has noticed
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)


def test_helpers_end_with_the_process_that_started_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "flwr-helper").write_text("#!/bin/sh\necho up $$ $1\nexec sleep 600\n")
    (installed / "flwr-helper").chmod(0o700)
    monkeypatch.setattr("common.processes.sysconfig.get_path", lambda name: str(installed))
    folder = write_guarded_programs(tmp_path / "bin", ["flwr-helper"])
    source = (
        "import subprocess, time\nsubprocess.Popen(['flwr-helper', 'x y'], start_new_session=True)\ntime.sleep(600)\n"
    )
    environment = {**build_environment(tmp_path), "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        up, pid, *given = parent.stdout.readline().split()
        assert (up, given) == ("up", ["x", "y"])
        parent.kill()
    deadline = time.monotonic() + 120
    while _runs(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_whose_helper_was_killed_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', 'flower-superexec'])\n"
        "print(p.pid, flush=True)\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(SuperLink, "command", lambda self: [sys.executable, "-c", source])
    link = SuperLink(tmp_path / "state", None, port=find_free_port())
    monkeypatch.setattr(SuperLink, "_answers", lambda self: bool(self._child and self._child.output()))
    with link:
        assert link._child is not None
        pid = int(link._child.output())
        assert link.poll() is None
        assert link.poll() is None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while link.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert link.poll() != 0
    assert "flower-superexec has ended" in caplog.text


def test_a_server_whose_helper_was_killed_at_once_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anybody has looked for it: the run that is waiting would wait for ever."""
    source = "print('up', flush=True)\nimport time\ntime.sleep(600)\n"
    monkeypatch.setattr(SuperLink, "command", lambda self: [sys.executable, "-c", source])
    monkeypatch.setattr(SuperLink, "_answers", lambda self: bool(self._child and self._child.output()))
    monkeypatch.setattr("server.superlink.HELPER_SECONDS", 0.5)
    link = SuperLink(tmp_path / "state", None, port=find_free_port())
    with link:
        link.credentials = Credentials(tmp_path / "ca", tmp_path / "certificate", tmp_path / "key")
        deadline = time.monotonic() + 120
        while link.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert "flower-superexec has ended" in caplog.text


def test_the_reason_of_a_death_is_its_last_error(tmp_path: Path) -> None:
    source = "print('\\x1b[91mERROR \\x1b[0m: no such key'); print('bye')"
    child = ProcessTree([sys.executable, "-c", source], home=tmp_path / "home", log=tmp_path / "log")
    while child.poll() is None:
        time.sleep(0.02)
    assert child.reason() == "ERROR : no such key"
    child.stop()


def test_sigterm_interrupts_and_the_handler_goes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupt_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_service_without_a_terminal_goes_on_at_sighup() -> None:
    heard: list[int] = []
    with interrupt_on_signals(lambda: heard.append(1)):
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
    assert heard == [1, 1]
    with pytest.raises(KeyboardInterrupt), interrupt_on_signals():
        signal.raise_signal(signal.SIGHUP)


def test_a_childs_log_has_times_and_no_colours(tmp_path: Path) -> None:
    source = "print('\\x1b[91mERROR \\x1b[0m: no such key')"
    child = ProcessTree([sys.executable, "-c", source], home=tmp_path / "home", log=tmp_path / "log")
    while child.poll() is None:
        time.sleep(0.02)
    child.stop()
    assert re.fullmatch(r"\S+Z ERROR flwr: no such key\n", (tmp_path / "log").read_text())
