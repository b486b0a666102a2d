"""nginx in front of a server: which calls pass, what is refused, and what is written."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.supernode.fleet_http_client import FleetHttpClient

from common.errors import ConfigError
from common.processes import find_free_port
from server.credentials import Credentials, create_credentials
from server.proxy import FLEET_CALLS, ProxySettings, format_nginx_config, require_loopback, write_proxy

SETTINGS = ProxySettings(Path("/etc/wardround-proxy"), "0.0.0.0:443", "127.0.0.1:8000", "fl.example.org")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return create_credentials(tmp_path_factory.mktemp("server"), ["fl.example.org"])


class Server(http.server.BaseHTTPRequestHandler):
    """A server that answers every call with its path, and remembers what reached it."""

    protocol_version = "HTTP/1.1"
    paths: list[str] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.paths.append(self.path)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = do_POST

    def log_message(self, format: str, *values: object) -> None: ...


@contextmanager
def serve(credentials: Credentials) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def run_nginx(config: Path, nginx: str, port: int) -> Iterator[None]:
    user = "user root;" if os.geteuid() == 0 else ""  # the folder of a test is its user's alone
    process = subprocess.Popen(
        [nginx, "-c", str(config), "-g", f"daemon off; {user}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=2).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        assert process.stderr is not None
        process.stderr.close()


def call(port: int, ca: Path, path: str, *, method: str = "POST", body: bytes = b"") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def call_quickly(port: int, ca: Path, path: str, count: int) -> tuple[Counter[int], float]:
    """Make calls over one connection; return how often each status was answered, and the seconds it took."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=60, context=ssl.create_default_context(cafile=ca)
    )
    answers: Counter[int] = Counter()
    start = time.monotonic()
    for _ in range(count):
        connection.request("POST", path, b"")
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1
    connection.close()
    return answers, time.monotonic() - start


@pytest.fixture
def proxy(tmp_path: Path, credentials: Credentials, nginx: str) -> Iterator[tuple[ProxySettings, int, str]]:
    """Return settings of a proxy in front of a server that answers everything, its port, and nginx."""
    port = find_free_port()
    Server.paths.clear()
    with serve(credentials) as behind:
        yield (
            replace(SETTINGS, folder=tmp_path / "proxy", listen=f"127.0.0.1:{port}", server=f"127.0.0.1:{behind}"),
            port,
            nginx,
        )


def test_the_calls_that_pass_are_those_that_flowers_node_makes() -> None:
    paths = {
        constant
        for name, function in vars(FleetHttpClient).items()
        if callable(function) and name not in ("RegisterNode", "UnregisterNode")
        for constant in getattr(getattr(function, "__code__", None), "co_consts", ())
        if isinstance(constant, str) and constant.startswith("/v1/")
    }
    assert paths == {f"/v1/fleet/{name}" for name in FLEET_CALLS}


@pytest.mark.nginx
def test_only_the_calls_of_a_node_reach_the_server(
    proxy: tuple[ProxySettings, int, str], credentials: Credentials
) -> None:
    settings, port, nginx = proxy
    with run_nginx(write_proxy(settings, credentials, nginx), nginx, port):
        for name in FLEET_CALLS:
            assert call(port, credentials.ca, f"/v1/fleet/{name}", body=b"x") == (200, f"/v1/fleet/{name}")
            assert call(port, credentials.ca, f"/v1/fleet/{name}", method="GET")[0] == 405
        assert Server.paths == [f"/v1/fleet/{name}" for name in FLEET_CALLS]
        others = [
            "/", "/docs", "/openapi.json", "/health", "/v1/control/start-run", "/v1/control/list-runs", "/v1/responses",
            "/v1/runtime/acquire-task", "/v1/runtime/pull-messages", "/v1/fleet/", "/v1/fleet/register-node",
            "/v1/fleet/unregister-node", "/v1/fleet/pull-messages/", "/v1/fleet/pull-messages/../../control/start-run",
            "/v1/fleet/%2e%2e/control/start-run", "/V1/FLEET/pull-messages", "/v1/fleet/pull-messages%00",
        ]  # fmt: skip
        for path in others:
            assert call(port, credentials.ca, path)[0] in (400, 404), path
            assert call(port, credentials.ca, path, method="GET")[0] in (400, 404), path
        assert len(Server.paths) == len(FLEET_CALLS)
        # a path that nginx reads as a call of a node's reaches the server as that call, not as it was written
        assert call(port, credentials.ca, "/v1/control/start-run/../../fleet/pull-messages")[1] == (
            "/v1/fleet/pull-messages"
        )
    log = (settings.folder / "refused.log").read_text()
    assert "404 POST /v1/control/start-run" in log
    assert " 200 " not in log


@pytest.mark.nginx
def test_large_bodies_and_too_many_calls_are_refused(
    proxy: tuple[ProxySettings, int, str], credentials: Credentials
) -> None:
    settings, port, nginx = proxy
    settings = replace(settings, body_mib=6, calls_per_second=2, sign_ons_per_second=1)
    with run_nginx(write_proxy(settings, credentials, nginx), nginx, port):
        assert call(port, credentials.ca, "/v1/fleet/push-object", body=b"x" * (6 << 20))[0] == 200
        assert call(port, credentials.ca, "/v1/fleet/push-object", body=b"x" * ((6 << 20) + 1))[0] == 413
        answers, seconds = call_quickly(port, credentials.ca, "/v1/fleet/pull-messages", 60)
        assert set(answers) == {200, 429}
        assert 15 <= answers[200] <= 20 + 2 * seconds + 1  # 20 at once and 2 a second, of which 2 were spent
        assert 429 in call_quickly(port, credentials.ca, "/v1/fleet/activate-node", 60)[0]


@pytest.mark.nginx
def test_a_server_that_another_authority_vouches_for_is_not_passed_to(
    tmp_path: Path, credentials: Credentials, nginx: str
) -> None:
    port = find_free_port()
    with serve(create_credentials(tmp_path / "other", [])) as behind:
        settings = replace(SETTINGS, folder=tmp_path / "p", listen=f"127.0.0.1:{port}", server=f"127.0.0.1:{behind}")
        with run_nginx(write_proxy(settings, credentials, nginx), nginx, port):
            assert call(port, credentials.ca, "/v1/fleet/pull-messages")[0] == 502


@pytest.mark.nginx
def test_a_configuration_that_nginx_refuses_replaces_nothing(
    proxy: tuple[ProxySettings, int, str], credentials: Credentials
) -> None:
    settings, _, nginx = proxy
    config = write_proxy(settings, credentials, nginx)
    before = config.read_text()
    (settings.folder / "broken.key").write_text("no key\n")
    with pytest.raises(ConfigError, match=r"nginx refuses the configuration, and nothing was changed: .*broken\.key"):
        write_proxy(
            replace(settings, certificate=credentials.certificate, key=settings.folder / "broken.key"),
            credentials,
            nginx,
        )
    assert config.read_text() == before
    assert not list(settings.folder.glob(".*part"))
    assert (settings.folder / "proxy.key").stat().st_mode & 0o777 == 0o600
    assert settings.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other.example.org"}, "does not name other.example.org"),
        ({"folder": Path("/tmp/a b;")}, "nginx needs a path of letters"),
        ({"listen": "0.0.0.0:443; include /etc/passwd"}, "is no HOST:PORT"),
        ({"key": Path("/k")}, "belong together"),
        ({"user": "no-such-user"}, "this system has no user 'no-such-user'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    changes: dict[str, object], message: str, tmp_path: Path, credentials: Credentials
) -> None:
    settings = replace(SETTINGS, **{"folder": tmp_path / "proxy", **changes})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        write_proxy(settings, credentials, "true")
    assert not (tmp_path / "proxy").exists()


@pytest.mark.nginx
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_user_that_nginx_runs_under_gets_the_folder(
    proxy: tuple[ProxySettings, int, str], credentials: Credentials
) -> None:
    settings, _, nginx = proxy
    write_proxy(replace(settings, user="nobody"), credentials, nginx)
    owners = {path.owner() for path in (settings.folder, *settings.folder.rglob("*"))}
    assert owners == {"nobody"}


def test_a_machine_without_nginx_is_named(tmp_path: Path, credentials: Credentials) -> None:
    with pytest.raises(ConfigError, match="no program no-such-nginx: install it"):
        write_proxy(replace(SETTINGS, folder=tmp_path / "proxy"), credentials, "no-such-nginx")
    assert not (tmp_path / "proxy").exists()


def test_a_certificate_of_the_institution_is_named_and_not_copied() -> None:
    text = format_nginx_config(replace(SETTINGS, certificate=Path("/etc/ssl/fl.pem"), key=Path("/etc/ssl/fl.key")))
    assert "ssl_certificate /etc/ssl/fl.pem;" in text
    assert "ssl_certificate_key /etc/ssl/fl.key;" in text
    assert "proxy.key" not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.1.9", "::1", "[::1]", "localhost"])
def test_a_server_may_listen_on_this_machine(host: str) -> None:
    require_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.168.3.4", "10.0.0.1", "no-such-host.invalid"])
def test_a_server_that_others_could_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"Flower's control interface has no login.*wardround server proxy"):
        require_loopback(host)
