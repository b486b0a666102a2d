"""A hospital's node: its key, the check of the server, and what a run may bring along."""

from __future__ import annotations

import io
import socket
import ssl
import stat
import threading
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from client import supernode
from client.supernode import NodeSettings, check_server, create_node_key, require_settings_only
from common.errors import ConfigError, EngineError
from server.credentials import create_credentials
from server.superlink import format_app_settings


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    create_node_key(tmp_path / "node.key")
    (tmp_path / "ca.pem").write_text("x")
    config = {"site": "north", "data": 'C:\\d "x"', "n": 3, "cold": True}
    return NodeSettings(
        "north",
        "host.example.org:443",
        tmp_path / "ca.pem",
        tmp_path / "node.key",
        tmp_path / "state",
        config,
    )


def test_a_node_key_is_private_and_readable_by_flower(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "node.key"
    public = create_node_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    private = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert public.startswith("ecdsa-sha2-nistp384 ")
    assert private.public_key() == load_ssh_public_key((tmp_path / "keys" / "node.key.pub").read_bytes())


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    create_node_key(tmp_path / "node.key")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(ConfigError, match=r"node\.key exists"):
        create_node_key(tmp_path / "node.key")
    assert (tmp_path / "node.key").read_bytes() == before


@pytest.mark.parametrize("address", ["host", "https://host:443", "host:", "host:0", "host:99999", ":80", "h:x"])
def test_malformed_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="give it as HOST:PORT"):
        supernode.split_address(address)


def test_addresses_are_split_into_host_and_port() -> None:
    assert supernode.split_address("host.example.org:443") == ("host.example.org", 443)
    assert supernode.split_address("[2001:db8::1]:8000") == ("2001:db8::1", 8000)


def test_missing_files_are_named(settings: NodeSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="site name 'North'"):
        NodeSettings("North", "h:1", settings.ca, settings.key, tmp_path, {})
    with pytest.raises(ConfigError, match=r"no node key at .*: make one with 'wardround client keygen'"):
        NodeSettings("north", "h:1", settings.ca, tmp_path / "absent", tmp_path, {})
    with pytest.raises(ConfigError, match=r"no certificate authority at .*: ask the coordinator for ca\.pem"):
        NodeSettings("north", "h:1", tmp_path / "absent", settings.key, tmp_path, {})


def bundle(settings: str, **files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("pyproject.toml", settings)
        archive.writestr(".info/CONTENT", "")
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_settings_pass_and_code_does_not(tmp_path: Path) -> None:
    plain = format_app_settings("{}", tmp_path)
    require_settings_only(bundle(plain))
    with pytest.raises(EngineError, match="a run that carries code"):
        require_settings_only(bundle(plain, **{"client/app.py": "app = 1"}))
    with pytest.raises(EngineError, match=r"whose client is not client\.app:app"):
        require_settings_only(bundle(plain.replace("client.app:app", "os:system")))


def test_an_unreachable_server_gives_one_line(tmp_path: Path) -> None:
    ca = create_credentials(tmp_path, []).ca
    with pytest.raises(EngineError, match=r"cannot reach 127\.0\.0\.1:1 \(Connection refused\)"):
        check_server("127.0.0.1:1", ca)
    with pytest.raises(EngineError, match=r"host no-such-host\.invalid is unknown"):
        check_server("no-such-host.invalid:443", ca)
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigError, match=r"empty\.pem holds no certificate"):
        check_server("127.0.0.1:1", tmp_path / "empty.pem")


def test_only_the_right_certificate_authority_is_accepted(tmp_path: Path) -> None:
    right, wrong = create_credentials(tmp_path / "right", []), create_credentials(tmp_path / "wrong", [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(right.certificate, right.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            for _ in range(2):
                raw, _peer = listener.accept()
                with raw:
                    try:
                        context.wrap_socket(raw, server_side=True).close()
                    except OSError:
                        continue

        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(EngineError, match=r"a certificate that .*wrong/ca\.pem does not vouch for"):
            check_server(address, wrong.ca)
        check_server(address, right.ca)
        server.join()
