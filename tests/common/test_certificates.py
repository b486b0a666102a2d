from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.certificates import days_left, describe_expiry, fetch_certificate, read_certificates
from common.errors import ConfigError
from server.credentials import Credentials, create_credentials


def test_days_are_counted_to_the_end(tmp_path: Path) -> None:
    path = create_credentials(tmp_path, ["fl.example.org"], days=40).certificate
    (certificate,) = read_certificates(path)
    assert 39.9 < days_left(certificate) <= 40
    end = certificate.not_valid_after_utc
    assert days_left(certificate, end - timedelta(days=3, hours=12)) == 3.5
    assert describe_expiry(path, certificate) == ""
    assert describe_expiry(path, certificate, end - timedelta(days=29)) == (
        f"{path} expires in 29 days, on {end:%Y-%m-%d}"
    )
    assert "expired on" in describe_expiry(path, certificate, end + timedelta(seconds=1))
    assert days_left(certificate, datetime.now(UTC) + timedelta(days=41)) < 0


def test_a_file_without_a_certificate_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="holds no PEM certificate"):
        read_certificates(tmp_path / "a.pem")
    with pytest.raises(ConfigError, match="No such file"):
        read_certificates(tmp_path / "b.pem")


def serve_tls(credentials: Credentials) -> int:
    """Return the port of a server that shows a certificate to two who connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        for _ in range(2):
            raw, _address = listener.accept()
            try:
                context.wrap_socket(raw, server_side=True).close()
            except OSError:
                raw.close()
        listener.close()

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_the_certificate_that_a_server_shows_is_fetched(tmp_path: Path) -> None:
    own, other = create_credentials(tmp_path / "own", []), create_credentials(tmp_path / "other", [])
    port = serve_tls(own)
    assert fetch_certificate("127.0.0.1", port, own.ca) == read_certificates(own.certificate)[0]
    with pytest.raises(ssl.SSLCertVerificationError):
        fetch_certificate("127.0.0.1", port, other.ca)
