"""Certificates for a federation without its own PKI, and validation of existing certificates.

A SuperLink serves its hospitals and its own child processes over one TLS port, so its certificate must
name the host the hospitals dial **and** the loopback address. `create_credentials` makes a private certificate
authority and one server certificate; the hospitals get `ca.pem` and nothing else. `check_credentials` reads a given
set of files and raises, in one line, what would make Flower fail later with a handshake error.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.certificates import days_left, read_certificates
from common.errors import ConfigError
from common.files import write_atomically, write_key_pair

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SERVER_DAYS = 397
CA_DAYS = 3650


@dataclass(frozen=True)
class Credentials:
    """Paths of the three files that a SuperLink (Flower's server process) is started with.

    Attributes:
        ca: certificate of the certificate authority; the only file of the three that hospitals get.
        certificate: certificate of the server, signed by the authority.
        key: private key of the server.
    """

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Credentials:
        """Return the files that `create_credentials` writes into `folder`."""
        return cls(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")


def create_credentials(folder: Path, hosts: Sequence[str], *, days: int = SERVER_DAYS) -> Credentials:
    """Write `ca.pem`, `ca.key`, `server.pem` and `server.key` into `folder` and return their paths.

    An existing authority in the folder is used again, so a server certificate can be renewed without a visit to
    any hospital. Nothing is overwritten.

    Args:
        folder: created if it is not there, readable by its owner alone.
        hosts: names and addresses that hospitals dial; the loopback names are added.
        days: how long the server's certificate is valid.

    Raises:
        ConfigError: there is a server certificate already, half an authority, or a host name is wrong.
    """
    files = Credentials.in_folder(folder)
    for path in (files.certificate, files.key):
        if path.exists():
            raise ConfigError(f"{path} exists: move server.pem and server.key away first, then run this again")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key_file = folder / "ca.key"
    if files.ca.exists() != ca_key_file.exists():
        present, absent = (files.ca, ca_key_file) if files.ca.exists() else (ca_key_file, files.ca)
        raise ConfigError(f"{present} exists but {absent} does not: restore it, or move both away")
    if files.ca.exists():
        ca, ca_key = read_certificates(files.ca)[0], _private_key(ca_key_file)
        if ca.public_key() != ca_key.public_key() or not isinstance(ca_key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{ca_key_file} does not belong to {files.ca}: restore the pair, or move both away")
    else:
        ca_key = ec.generate_private_key(ec.SECP384R1())
        ca = _authority(ca_key)
        write_key_pair(ca_key_file, _pem(ca_key), files.ca, ca.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _server_certificate(key, ca, ca_key, [*hosts, *LOOPBACK], days)
    write_key_pair(files.key, _pem(key), files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return files


def renew_credentials(folder: Path, hosts: Sequence[str] = (), *, days: int = SERVER_DAYS) -> Credentials:
    """Write a new server certificate and key, signed by the folder's authority, in place of the present ones.

    The present ones stay as `server.pem.old` and `server.key.old`. Hospitals need nothing new: the authority stays.

    Args:
        folder: where `create_credentials` wrote.
        hosts: names and addresses that hospitals dial; none: those of the present certificate.
        days: how long the new certificate is valid.

    Raises:
        ConfigError: there is no certificate to renew, or no authority that can sign, or it ends too soon.
    """
    files, ca_key_file = Credentials.in_folder(folder), folder / "ca.key"
    hosts = hosts or list_alternative_names(read_certificates(files.certificate)[0])
    ca, ca_key = read_certificates(files.ca)[0], _private_key(ca_key_file)
    if ca.public_key() != ca_key.public_key() or not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{ca_key_file} does not belong to {files.ca}: restore the pair")
    if (left := days_left(ca)) < days:
        raise ConfigError(f"{files.ca} ends in {left:.0f} days: give --days below that, or make a new authority")
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _server_certificate(key, ca, ca_key, [*hosts, *LOOPBACK], days)
    new = {files.key: _pem(key), files.certificate: certificate.public_bytes(serialization.Encoding.PEM)}
    for path in new:
        old = path.with_name(path.name + ".old")
        old.unlink(missing_ok=True)
        write_private(old, path.read_bytes())
    for path, content in new.items():
        with write_atomically(path, durable=True) as part:
            write_private(part, content)
    return files


def check_credentials(credentials: Credentials, hosts: Sequence[str] = (), *, now: datetime | None = None) -> None:
    """Raise `ConfigError` if these files cannot serve `hosts` and the loopback address over TLS."""
    now = now or datetime.now(UTC)
    authorities = read_certificates(credentials.ca)
    certificate, *chain = read_certificates(credentials.certificate)
    key = _private_key(credentials.key)
    if certificate.public_key() != key.public_key():
        raise ConfigError(f"{credentials.key} is not the key of {credentials.certificate}: name the matching pair")
    for path, checked in ((credentials.certificate, certificate), (credentials.ca, authorities[0])):
        if now > checked.not_valid_after_utc:
            raise ConfigError(f"{path} expired on {checked.not_valid_after_utc:%Y-%m-%d}: renew it")
        if now < checked.not_valid_before_utc:
            raise ConfigError(
                f"{path} is valid only from {checked.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clock"
            )
    if not any(_issued_by(certificate, issuer) for issuer in [*authorities, *chain]):
        raise ConfigError(f"{credentials.ca} did not sign {credentials.certificate}: name the authority that issued it")
    named = list_alternative_names(certificate)
    for host in [*hosts, "127.0.0.1"]:
        if not any(certificate_names_host(host, name) for name in named):
            listed = ", ".join(named) or "no name at all"
            raise ConfigError(
                f"{credentials.certificate} does not name {host} (it names {listed}): issue one that does"
            )


def list_alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return the subject alternative names, DNS names and addresses alike, as text."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def certificate_names_host(host: str, name: str) -> bool:
    """Return whether one name of a certificate, such as `*.example.org`, is that of a host.

    >>> [certificate_names_host(host, "*.example.org") for host in ("fl.example.org", "example.org")]
    [True, False]
    """
    host, name = host.lower(), name.lower()
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:] and not _is_address(host)
    return host == name


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; raises `FileExistsError` rather than overwrite."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wardround federation authority")])
    return (
        _builder(name, name, key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _server_certificate(
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    days: int,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wardround coordinator")])
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(host.strip().lower() for host in hosts):
        names.append(x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(_dns_name(host)))
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(subject, ca.subject, key, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca_key, hashes.SHA384())
    )


def _dns_name(host: str) -> str:
    if not host or any(not (c.isascii() and (c.isalnum() or c in ".-*_")) for c in host):
        raise ConfigError(f"{host!r} is no host name or address: give it without a scheme or a port")
    return host


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of hospitals differ
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path), None)
    except TypeError:
        raise ConfigError(f"{path} is protected by a passphrase: Flower needs it without") from None
    except ValueError:
        raise ConfigError(f"{path} holds no PEM private key: name the right file") from None
