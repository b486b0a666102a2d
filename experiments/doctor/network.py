"""Checks of the way from a hospital to the server: TLS, clocks, and what a proxy lets through."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from client.supernode import check_server, split_address
from common.certificates import WARNING_DAYS, days_left, fetch_certificate
from experiments.doctor.checks import Check, fail, ok, warn

AHEAD_SECONDS, BEHIND_SECONDS = 5.0, 305.0
"""How far a hospital's clock may be ahead of the server's, or behind: Flower refuses requests that are signed later."""
WARNING_SECONDS = 2.0
FLEET_PATH, CONTROL_PATH = "/v1/fleet/pull-messages", "/v1/control/list-runs"
PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_network(address: str, ca: Path) -> Iterator[Check]:
    """Check that a server answers at HOST:PORT with a certificate that `ca` vouches for, and through its interfaces.

    Raises:
        EngineError: it does not; says why.
        ConfigError: the address or the file is wrong.
    """
    host, port = split_address(address)
    if proxy := next((name for name in PROXY_VARIABLES if os.environ.get(name)), ""):
        finding = f"requests go through the proxy that {proxy} names"
        yield warn("proxy", finding, f"if this machine reaches the server directly, list {host} in NO_PROXY")
    check_server(address, ca)
    certificate = fetch_certificate(host, port, ca)
    left = days_left(certificate)
    finding = f"{address} shows a certificate that ends in {left:.0f} days"
    if left < WARNING_DAYS:
        yield warn("server's certificate", finding, "ask the coordinator to renew it (wardround server renew)")
    else:
        yield ok("server's certificate", finding)
    yield from _check_interfaces(address, host, ca)


def _check_interfaces(address: str, host: str, ca: Path) -> Iterator[Check]:
    start = time.time()
    try:
        fleet = requests.get(f"https://{address}{FLEET_PATH}", verify=str(ca), timeout=10)
        middle = (start + time.time()) / 2
        control = requests.get(f"https://{address}{CONTROL_PATH}", verify=str(ca), timeout=10)
    except requests.RequestException as error:
        yield fail(
            "server", f"{address} gave no answer to a request ({type(error).__name__})", "check proxy and firewall"
        )
        return
    if fleet.status_code in (404, 403) or fleet.status_code >= 500:
        advice = "the reverse proxy must pass /v1/fleet/ to a server that runs"
        yield fail("server", f"{address} answered {fleet.status_code} for {FLEET_PATH}", advice)
    else:
        yield ok("server", f"{address} offers its interface for hospitals")
    if control.status_code != 404:
        finding = f"{address} also offers its control interface, which has no login"
        advice = "only /v1/fleet/ may be reachable from outside: let hospitals in through wardround server proxy"
        yield (
            warn("control interface", finding, advice)
            if host in LOOPBACK
            else fail("control interface", finding, advice)
        )
    else:
        yield ok("control interface", "not reachable from here")
    yield _compare_clocks(fleet.headers.get("Date", ""), middle)


def _compare_clocks(stated: str, local: float) -> Check:
    """Compare the server's clock with this machine's; `local` is the time in the middle of the request."""
    try:
        server = parsedate_to_datetime(stated).timestamp() + 0.5  # the header holds whole seconds, cut off
    except (ValueError, TypeError):
        return warn("clock", "the server states no time", "compare the clocks by hand")
    ahead = local - server
    direction = "ahead of" if ahead > 0 else "behind"
    finding = f"this machine's clock is {abs(ahead):.0f} s {direction} the server's"
    advice = "set both clocks by NTP: the server refuses requests whose time differs too much"
    if ahead > AHEAD_SECONDS or ahead < -BEHIND_SECONDS:
        return fail("clock", finding, advice)
    return warn("clock", finding, advice) if abs(ahead) > WARNING_SECONDS else ok("clock", finding)
