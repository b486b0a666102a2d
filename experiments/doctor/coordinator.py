"""Checks of a coordinator's server: certificates, keys, who is registered, and where it listens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.doctor.checks import (
    Check,
    check_certificate,
    check_private_file,
    check_state_folder,
    fail,
    ok,
    run_checks,
    warn,
)
from experiments.doctor.network import LOOPBACK

if TYPE_CHECKING:
    from common.config import RunConfig

RENEW = "wardround server renew, then restart the server"


def check_coordinator(state: Path, run: RunConfig | None) -> list[Check]:
    """Return the checks of a server's state folder; with a run also whether its sites are registered."""
    return run_checks(
        (
            ("state folder", lambda: [check_state_folder("state folder", state)]),
            ("certificates", lambda: check_certificates(state)),
            ("server", lambda: check_service(state)),
            ("sites", lambda: check_sites(state, run)),
        )
    )


def check_certificates(state: Path) -> Iterator[Check]:
    """Check that certificates and keys belong together, are private and valid for a while.

    Raises:
        ConfigError: they cannot be used; says why.
    """
    from common.certificates import read_certificates
    from server.credentials import Credentials, check_credentials, list_alternative_names

    credentials = Credentials.in_folder(state)
    if not credentials.certificate.is_file():
        yield fail("certificates", f"there are none in {state}", "wardround server init --name HOST")
        return
    check_credentials(credentials)
    names = list_alternative_names(read_certificates(credentials.certificate)[0])
    yield check_certificate("server's certificate", credentials.certificate, RENEW)
    yield check_certificate("authority", credentials.ca, "make a new authority, and send ca.pem to every hospital")
    yield check_private_file("server's key", credentials.key)
    outside = [name for name in names if name not in LOOPBACK]
    if not outside:
        advice = "hospitals need a reverse proxy with another certificate, or wardround server renew --name HOST"
        yield warn("names", "the certificate names this machine only", advice)
    else:
        yield ok("names", f"the certificate is for {', '.join(outside)}")
    authority_key = state / "ca.key"
    if authority_key.exists():
        yield check_private_file("authority's key", authority_key)
        yield warn("authority's key", "it lies on the server", "keep a copy offline; only renewing needs it here")


def check_service(state: Path) -> Iterator[Check]:
    """Check whether the server runs, and where it listens."""
    from common.service_file import find_service

    service = find_service(state)
    if service is None:
        yield warn("server", f"none runs with {state}", "start it: wardround server --state " + str(state))
        return
    host = service.address.rpartition(":")[0].strip("[]")
    yield ok("server", f"runs as process {service.pid} on {service.address}, release {service.release}")
    if host not in LOOPBACK:
        finding = f"it listens on {host}, and its control interface has no login"
        yield fail("address", finding, "listen on 127.0.0.1 and put a proxy in front of it: wardround server proxy")


def check_sites(state: Path, run: RunConfig | None) -> Iterator[Check]:
    """Check which sites are registered, and that those that a run expects are.

    Raises:
        DataError: the registry is damaged.
    """
    from server.site_registry import read_registry, registry_path

    sites = read_registry(registry_path(state))
    if sites:
        yield ok("sites", f"{len(sites)} registered: {', '.join(sorted(sites))}")
    else:
        yield warn("sites", "no site is registered", "wardround server register SITE KEY.pub")
    if run is not None and (missing := sorted(set(run.federation.expect) - set(sites))):
        yield fail(
            "sites", f"the run expects {', '.join(missing)}, not registered", "wardround server register SITE KEY.pub"
        )
