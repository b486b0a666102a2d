"""The configuration of nginx in front of a SuperLink: TLS, and of Flower's three interfaces only the calls of a node.

A SuperLink serves its Fleet, Control and Runtime APIs on one port, and only the first checks who calls. The proxy
passes the ten calls that a node makes, by their exact paths, and answers everything else with 404. nginx runs under a
user of its own that can read this folder and nothing of the server's.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.certificates import read_certificates
from common.errors import ConfigError
from common.files import write_atomically, write_bytes
from server.credentials import Credentials, certificate_names_host, list_alternative_names, write_private

FLEET_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "pull-object",
    "push-object",
    "confirm-message-received",
    "get-run",
    "get-fab",
)
"""Calls of Flower's Fleet API that a node makes. `register-node` and `unregister-node` are not among them."""
SIGN_ON_CALLS = ("activate-node", "deactivate-node")
"""Calls that a node makes once a session; their limit is lower."""
UPSTREAM = "wardround_server"
CONFIG_FILE, CERTIFICATE_FILE, KEY_FILE, CA_FILE = "nginx.conf", "proxy.pem", "proxy.key", "ca.pem"
CHECK_SECONDS = 30.0
_PATH = re.compile(r"[A-Za-z0-9_./+@,=-]+")
"""Paths that nginx reads as they are, without quotes."""
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.*_-]+):[0-9]+")


@dataclass(frozen=True)
class ProxySettings:
    """What the proxy listens on, what it shows, and what it allows.

    Attributes:
        folder: the folder of the configuration, of nginx's own files and of the copies of certificates.
        listen: HOST:PORT that hospitals reach.
        server: HOST:PORT of the SuperLink, on loopback.
        name: the name or address by which hospitals reach the proxy.
        certificate: the certificate that the proxy shows; None: a copy of the server's.
        key: its private key; None: a copy of the server's.
        calls_per_second: calls that one address may make a second on average; ten times as many at once.
        sign_ons_per_second: sessions that one address may open or close a second; ten times as many at once.
        connections: connections that one address may hold.
        body_mib: most MiB of a call; weights travel in pieces of 5 MiB.
        user: the user that nginx runs under, who gets the folder; empty: the user that writes it.
    """

    folder: Path
    listen: str
    server: str
    name: str
    certificate: Path | None = None
    key: Path | None = None
    calls_per_second: int = 100
    sign_ons_per_second: int = 5
    connections: int = 100
    body_mib: int = 16
    user: str = ""


def write_proxy(settings: ProxySettings, credentials: Credentials, program: str = "nginx") -> Path:
    """Write the folder of the proxy, and let nginx check its configuration; return the configuration's path.

    A configuration that nginx refuses replaces nothing.

    Args:
        settings: the proxy.
        credentials: the certificates of the server, which the proxy checks, and shows unless it has its own.
        program: nginx.

    Raises:
        ConfigError: a name, an address, a path or a certificate does not fit, nginx is not installed, or it refuses the
            file.
        OSError: the folder cannot be written.
    """
    folder = settings.folder
    if (settings.certificate is None) != (settings.key is None):
        raise ConfigError("--certificate and --key belong together")
    for path in (folder, *filter(None, (settings.certificate, settings.key))):
        if not _PATH.fullmatch(str(path)):
            raise ConfigError(f"{path}: nginx needs a path of letters, digits and _./+@,=- here")
    for address in (settings.listen, settings.server):
        if not _ADDRESS.fullmatch(address):
            raise ConfigError(f"{address!r} is no HOST:PORT for nginx; an IPv6 address needs brackets")
    names = list_alternative_names(read_certificates(settings.certificate or credentials.certificate)[0])
    if not any(certificate_names_host(settings.name, name) for name in names):
        raise ConfigError(
            f"{settings.certificate or credentials.certificate} does not name {settings.name} (it names "
            f"{', '.join(names)}): give --name as hospitals dial it, or wardround server renew --name {settings.name}"
        )
    nginx, owner = find_nginx(program), _find_owner(settings.user)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "temp").mkdir(exist_ok=True, mode=0o700)
    write_bytes(folder / CA_FILE, credentials.ca.read_bytes())
    if settings.certificate is None:
        write_bytes(folder / CERTIFICATE_FILE, credentials.certificate.read_bytes())
        with write_atomically(folder / KEY_FILE) as part:
            write_private(part, credentials.key.read_bytes())
    config = folder / CONFIG_FILE
    with write_atomically(config) as part:
        part.write_text(format_nginx_config(settings), encoding="utf-8")
        check_config(part, nginx)
    if owner is not None:
        _give_folder(folder, *owner)
    return config


def _find_owner(user: str) -> tuple[int, int] | None:
    """Return the numbers of a user and its group; None for an empty name."""
    if not user:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"this system has no user {user!r}: make it first (useradd --system {user})") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise ConfigError(f"--user {user}: only root can give a folder away")
    return entry.pw_uid, entry.pw_gid


def _give_folder(folder: Path, user: int, group: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, group, follow_symlinks=False)


def find_nginx(program: str) -> str:
    """Return the path of nginx, which Debian keeps outside of a user's search path.

    Raises:
        ConfigError: it is not installed.
    """
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ConfigError(f"no program {program}: install it (apt-get install nginx), or name its path with --nginx")
    return path


def check_config(config: Path, nginx: str) -> None:
    """Let nginx check a configuration file.

    Raises:
        ConfigError: it refuses the file; the message has nginx's reason.
    """
    command = [nginx, "-t", "-q", "-c", str(config), "-p", str(config.parent)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{nginx} could not check {config.parent / CONFIG_FILE}: {type(error).__name__}") from None
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "[emerg]" in line or "[crit]" in line]
        reason = (lines or result.stderr.splitlines() or ["no reason given"])[0].replace(config.name, CONFIG_FILE)
        raise ConfigError(f"nginx refuses the configuration, and nothing was changed: {reason.strip()}")


def format_nginx_config(settings: ProxySettings) -> str:
    """Return the configuration file of nginx."""
    folder, own = settings.folder, settings.certificate is None
    certificate = folder / CERTIFICATE_FILE if own else settings.certificate
    key = folder / KEY_FILE if own else settings.key
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "\n".join(f"    {kind}_temp_path {folder}/temp/{kind};" for kind in temporary)
    calls = "\n".join(_format_call(call, settings) for call in FLEET_CALLS)
    return f"""# Written by `wardround server proxy`, which overwrites changes.
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes 2;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}

http {{
    server_tokens off;
    default_type application/octet-stream;
    map $status $refused {{ ~^[23] 0; default 1; }}
    log_format refusals '$time_iso8601 $remote_addr $status $request_method $uri $request_length';
    access_log {folder}/refused.log refusals if=$refused;
{folders}

    client_max_body_size {settings.body_mib}m;   # weights travel in pieces of 5 MiB
    client_body_buffer_size 128k;
    client_header_timeout 20s;
    client_body_timeout 60s;
    send_timeout 60s;
    keepalive_timeout 75s;
    reset_timedout_connection on;

    limit_req_zone $binary_remote_addr zone=calls:10m rate={settings.calls_per_second}r/s;
    limit_req_zone $binary_remote_addr zone=sign_ons:10m rate={settings.sign_ons_per_second}r/s;
    limit_conn_zone $binary_remote_addr zone=connections:10m;
    limit_req_status 429;
    limit_conn_status 429;

    upstream {UPSTREAM} {{
        server {settings.server};
        keepalive 16;
    }}

    server {{
        listen {settings.listen} ssl;
        server_name {settings.name};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:sessions:1m;
        ssl_session_tickets off;

        limit_conn connections {settings.connections};
        limit_req zone=calls burst={10 * settings.calls_per_second} nodelay;

        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_ssl_trusted_certificate {folder}/{CA_FILE};
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_connect_timeout 5s;
        proxy_read_timeout 120s;

        # The calls of a hospital's node, by their exact paths. The server checks the node's signature of each.
{calls}

        # Flower's other interfaces have no login: they stay on this machine.
        location / {{ return 404; }}
    }}
}}
"""


def _format_call(call: str, settings: ProxySettings) -> str:
    path = f"/v1/fleet/{call}"
    signs_on = call in SIGN_ON_CALLS
    limit = (
        f"\n            limit_req zone=sign_ons burst={10 * settings.sign_ons_per_second} nodelay;" if signs_on else ""
    )
    return f"""        location = {path} {{
            if ($request_method != POST) {{ return 405; }}{limit}
            proxy_pass https://{UPSTREAM}{path};
        }}"""


def require_loopback(host: str) -> None:
    """Refuse to listen where other machines reach the server.

    Raises:
        ConfigError: `host` is not an address of this machine alone.
    """
    if host.strip("[]") == "localhost" or _is_loopback(_resolve(host.strip("[]"))):
        return
    raise ConfigError(
        f"--listen {host}: whoever reaches this address can start runs, because Flower's control interface has no "
        "login. Listen on 127.0.0.1 and let hospitals in through a proxy (wardround server proxy). Where a firewall "
        "or a container's network keeps all others out, say so with --allow-public-address"
    )


def _resolve(host: str) -> Sequence[str]:
    try:
        return [str(item[4][0]) for item in socket.getaddrinfo(host, None)]
    except OSError:
        return []


def _is_loopback(addresses: Sequence[str]) -> bool:
    return bool(addresses) and all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses)
