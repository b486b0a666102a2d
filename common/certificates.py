"""Reading certificates: from files, and from a server that shows one; how long they are still valid."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from common.errors import ConfigError

WARNING_DAYS = 30
"""Number of days before a certificate expires at which warnings start."""
DAY_SECONDS = 24 * 3600


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file.

    Raises:
        ConfigError: the file cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path} holds no PEM certificate: name the right file") from None


def fetch_certificate(host: str, port: int, ca: Path, timeout: float = 10.0) -> x509.Certificate:
    """Return the certificate that a server shows, which must be one that `ca` vouches for.

    Raises:
        OSError: there is no such server, or it shows another certificate.
    """
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection((host, port), timeout=timeout) as raw,
        context.wrap_socket(raw, server_hostname=host) as secure,
    ):
        content = secure.getpeercert(binary_form=True)
    if content is None:
        raise OSError("it shows no certificate")
    return x509.load_der_x509_certificate(content)


def days_left(certificate: x509.Certificate, now: datetime | None = None) -> float:
    """Return for how many days a certificate is still valid; negative after its end."""
    left = certificate.not_valid_after_utc - (now or datetime.now(UTC))
    return left.total_seconds() / DAY_SECONDS


def describe_expiry(path: Path, certificate: x509.Certificate, now: datetime | None = None) -> str:
    """Return a warning about a certificate that has ended or ends soon, or ""."""
    left = days_left(certificate, now)
    if left < 0:
        return f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < WARNING_DAYS:
        return f"{path} expires in {left:.0f} days, on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return ""
