"""What a hospital's node is: its identity and key, the server it may talk to, and what a run may bring along.

`check_server` connects with this hospital's certificate authority file, so that a wrong certificate or an unreachable
host gives one clear line. A run brings settings, never code: `require_settings_only` checks its bundle. The node itself
is in client/node.py.
"""

from __future__ import annotations

import io
import socket
import ssl
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common import files
from common.errors import ConfigError, EngineError
from common.processes import check_site_name

_APP = "client.app:app"
MAX_BUNDLE_BYTES = 4 << 20
"""Most bytes that a run's settings may unpack to."""


@dataclass(frozen=True)
class NodeSettings:
    """Identity of a hospital's node, and address of the server.

    Attributes:
        site: the hospital's name.
        superlink: the server's address, HOST:PORT.
        ca: file of the certificate authority that signed the server's certificate.
        key: file of the private node key.
        state: folder of logs and of state that is kept between messages.
        node_config: the site's name, data folder and policy, as client/site_context.py reads them.

    Raises:
        ConfigError: the name or address is malformed, or a file is missing.
    """

    site: str
    superlink: str
    ca: Path
    key: Path
    state: Path
    node_config: Mapping[str, str | int | float | bool]

    def __post_init__(self) -> None:
        check_site_name(self.site)
        split_address(self.superlink)
        for what, path in (("certificate authority", self.ca), ("node key", self.key)):
            if not path.is_file():
                raise ConfigError(f"no {what} at {path}: {_explain_source(what)}")


def create_node_key(path: Path) -> str:
    """Write a new node key (P-384, OpenSSH format, mode 0600) and `path`.pub, and return the public key's line.

    The public file goes to the coordinator; the private file never leaves the hospital.

    Raises:
        ConfigError: one of the files exists.
    """
    public_path = path.with_name(path.name + ".pub")
    for present in (path, public_path):
        if present.exists():
            raise ConfigError(f"{present} exists: keep it, or move it away to make another key")
    key = ec.generate_private_key(ec.SECP384R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    files.write_key_pair(path, private, public_path, public + b"\n")
    return public.decode()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        ConfigError: the address has another form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host.strip("[]") or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"server address {address!r}: give it as HOST:PORT, without https://")
    return host.strip("[]"), int(port)


def check_server(address: str, ca: Path, *, timeout: float = 10.0) -> None:
    """Connect once, to check that a server whose certificate `ca` signed answers at `address`.

    Raises:
        EngineError: it does not; the message is one line that says what to do.
        ConfigError: `ca` is not a certificate file, or the address is malformed.
    """
    host, port = split_address(address)
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"{ca} holds no certificate: ask the coordinator for ca.pem again") from None
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise EngineError(
            f"{address} shows a certificate that {ca} does not vouch for ({error.verify_message}): "
            "ask the coordinator for the right ca.pem or host name"
        ) from None
    except ssl.SSLError as error:
        raise EngineError(f"{address} does not speak TLS ({error.reason}): check host and port") from None
    except socket.gaierror:
        raise EngineError(f"host {host} is unknown: check the name, or this network's DNS") from None
    except OSError as error:
        why = error.strerror or "no answer"
        raise EngineError(
            f"cannot reach {address} ({why}): check that the server runs and that this host may go out to it"
        ) from None


def require_settings_only(bundle: bytes) -> None:
    """Check that a run's bundle (a Flower app as a zip file) holds nothing but settings for the installed apps.

    Raises:
        EngineError: it holds code, or names another client app.
    """
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        if (size := sum(item.file_size for item in archive.infolist())) > MAX_BUNDLE_BYTES:
            raise EngineError(f"refused a run whose bundle unpacks to {size} bytes: settings are small")
        extra = set(archive.namelist()) - {"pyproject.toml", ".info/CONTENT"}
        if extra:
            raise EngineError(f"refused a run that carries code ({len(extra)} files): this site runs its own")
        app = tomllib.loads(archive.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    if app["components"].get("clientapp") != _APP:
        raise EngineError(f"refused a run whose client is not {_APP}: this site runs no other")


def _explain_source(what: str) -> str:
    if what == "node key":
        return "make one with 'wardround client keygen'"
    return "ask the coordinator for ca.pem"
