"""Checks of a hospital's node: its key, certificates, state folder, policy, records, and its data for a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
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
from experiments.doctor.network import check_network

if TYPE_CHECKING:
    from client.policy import SitePolicy
    from common.config import RunConfig


@dataclass(frozen=True)
class Hospital:
    """What a hospital's client would be started with.

    Attributes:
        site: the hospital's name.
        data: the data folder; None: not checked.
        superlink: HOST:PORT of the server; empty: not checked.
        ca: file of the certificate authority.
        key: file of the node key.
        policy: policy file; None: the defaults.
        state: the state folder.
    """

    site: str
    data: Path | None
    superlink: str
    ca: Path
    key: Path
    policy: Path | None
    state: Path


def check_hospital(hospital: Hospital, run: RunConfig | None) -> list[Check]:
    """Return the checks of a hospital's node, and with a run those of its data."""
    checks = [
        ("name", lambda: check_name(hospital)),
        ("node key", lambda: check_node_key(hospital.key)),
        ("authority", lambda: [check_certificate("authority", hospital.ca, "ask the coordinator for the new ca.pem")]),
        ("state folder", lambda: check_folder(hospital)),
        ("policy", lambda: check_policy(hospital.policy)),
        ("records", lambda: check_records(hospital)),
    ]
    if hospital.superlink:
        checks.append(("server", lambda: check_network(hospital.superlink, hospital.ca)))
    if hospital.data is not None:
        checks.append(("data", lambda: check_data(hospital, run)))
    return run_checks(checks)


def check_name(hospital: Hospital) -> Iterator[Check]:
    """Check that the site's name can be one.

    Raises:
        ConfigError: it cannot.
    """
    from common.processes import check_site_name

    check_site_name(hospital.site)
    yield ok("name", hospital.site)


def check_node_key(key: Path) -> Iterator[Check]:
    """Check that a node key is private, of the right kind, and that its public half fits."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = check_private_file("node key", key)
    if private.level == "fail":
        advice = "make one with wardround client keygen" if not key.exists() else private.advice
        yield fail("node key", private.finding, advice)
        return
    try:
        loaded = serialization.load_ssh_private_key(key.read_bytes(), None)
    except (ValueError, TypeError, OSError):
        yield fail("node key", f"{key} holds no node key without passphrase", "make one with wardround client keygen")
        return
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        yield fail("node key", f"{key} is of another kind than node keys", "make one with wardround client keygen")
        return
    yield private
    public = key.with_name(key.name + ".pub")
    own = loaded.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    if public.is_file() and public.read_bytes().split()[:2] != own.split()[:2]:
        yield fail("public key", f"{public} is not the public half of {key}", "send the coordinator the right one")


def check_folder(hospital: Hospital) -> Iterator[Check]:
    """Check the state folder, whose it is and whether a client uses it now."""
    from common.service_file import find_service

    yield check_state_folder("state folder", hospital.state)
    owner = hospital.state / "site"
    if owner.is_file() and (name := owner.read_text(encoding="utf-8").strip()) != hospital.site:
        yield fail("state folder", f"{hospital.state} belongs to the site {name}", "give each site its own --state")
    if service := find_service(hospital.state):
        yield ok("client", f"runs as process {service.pid}, connected to {service.address}")


def check_policy(path: Path | None) -> Iterator[Check]:
    """Check that the policy is valid, and point out what it gives up.

    Raises:
        ConfigError: it is not.
    """
    from client.gate.explain import describe_policy
    from client.policy import load_policy

    policy = load_policy(path)
    warnings = [line for line in describe_policy(policy) if line.startswith("WARNING")]
    yield ok("policy", f"{path or 'the defaults'}: read it in words with wardround site explain")
    for line in warnings:
        yield warn("policy", line.removeprefix("WARNING: "), "see docs/reference/policy.md")


def check_records(hospital: Hospital) -> Iterator[Check]:
    """Check that the audit log, the privacy ledger and the register are intact, where there are any.

    Raises:
        DataError: the ledger or the register is damaged.
    """
    from client.gate.approvals import get_approval_file
    from client.gate.audit_entry import AuditEntry
    from client.gate.audit_log import AuditLog, get_audit_path
    from client.gate.register import Register
    from client.privacy.ledger import Ledger, get_ledger_path

    runs = hospital.state / "runs"
    log = AuditLog(get_audit_path(runs, hospital.site))
    entries: list[AuditEntry] = []
    if fault := log.find_fault(entries):
        yield fail("audit log", fault, "nothing is answered until the intact file is restored")
    elif entries:
        yield ok("audit log", f"{len(entries)} lines, intact")
    ledger = get_ledger_path(runs, hospital.site)
    if ledger.is_file() or ledger.with_name(ledger.name + ".head").is_file():
        rows = Ledger.read(ledger).rows()
        yield ok(
            "privacy ledger", f"{len(rows)} charges, intact" + (f"; epsilon {rows[-1].epsilon:.4g}" if rows else "")
        )
    register = Register(ledger.with_name("register.sqlite"), hospital.site)
    if register.path.is_file():
        register.summary()
        yield ok("register", "readable")
    waiting = sum(each.status == "pending" for each in get_approval_file(runs, hospital.site).read().values())
    if waiting:
        yield warn("approvals", f"{waiting} runs wait for approval", "wardround site pending")


def check_data(hospital: Hospital, run: RunConfig | None) -> Iterator[Check]:
    """Check that the data folder opens as a run wants it, with enough people; the site's register is not touched.

    Raises:
        WardroundError: it does not; says why.
    """
    from client.policy import load_policy
    from client.site import load_site
    from client.site_context import SiteContext

    data = hospital.data
    assert data is not None
    if not data.is_dir():
        yield fail("data", f"there is no folder {data}", "name the folder that holds this hospital's data")
        return
    if run is None:
        yield ok("data", f"{data} is there; with --run X.yaml it is opened as that run wants it")
        return
    policy = load_policy(hospital.policy)
    with tempfile.TemporaryDirectory(prefix="wardround-doctor-") as scratch:
        site = load_site(SiteContext(policy, site=hospital.site, data=data, state=Path(scratch)), run)
    task = site.task
    inputs = [
        f"{len(task.features)} columns" if task.features else "",
        f"{task.channels} leads" if task.channels else "",
    ]
    yield ok("data", f"{data} opens as {run.data.dataset}: {task.name}; {' and '.join(filter(None, inputs))}")
    counts = ", ".join(f"{name} {count}" for name, count in zip(task.classes, site.train.class_counts(), strict=True))
    yield from _check_people(site.train.people(), policy, counts)
    absent = [name for name, count in zip(task.classes, site.train.class_counts(), strict=True) if not count]
    if absent:
        yield warn("classes", f"nobody who would train is of the class {', '.join(absent)}", "check labels and options")
    for reason, count in sorted(site.train.excluded.items()):
        yield warn("left out", f"{count}: {reason}", "check units and the data set's description if that is unexpected")


def _check_people(people: int, policy: SitePolicy, counts: str) -> Iterator[Check]:
    finding = f"about {people} people would train (examples: {counts})"
    if people < policy.min_training_patients:
        advice = f"the policy wants at least {policy.min_training_patients} (min_training_patients)"
        yield fail("people", finding, advice)
    else:
        yield ok("people", finding)
