"""The result of a check, and running checks so that one that breaks is a result too."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.certificates import WARNING_DAYS, days_left, read_certificates
from common.errors import WardroundError, describe_unexpected

Level = Literal["ok", "warn", "fail"]
OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The bits of a file's mode that let others than its owner use it."""


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        topic: what was checked.
        level: whether it is in order.
        finding: what was found, in one line.
        advice: what to do; empty where nothing is to be done.
    """

    topic: str
    level: Level
    finding: str
    advice: str = ""


def ok(topic: str, finding: str) -> Check:
    """Return a check that found everything in order."""
    return Check(topic, "ok", finding)


def warn(topic: str, finding: str, advice: str) -> Check:
    """Return a check that found something that may become a problem."""
    return Check(topic, "warn", finding, advice)


def fail(topic: str, finding: str, advice: str) -> Check:
    """Return a check that found what keeps the federation from working, or from being safe."""
    return Check(topic, "fail", finding, advice)


def run_checks(checks: Iterable[tuple[str, Callable[[], Iterable[Check]]]]) -> list[Check]:
    """Return the results of checks by topic; one that raises is a failed check, with its error as what was found."""
    results: list[Check] = []
    for topic, check in checks:
        try:
            results += check()
        except WardroundError as error:
            finding, colon, advice = str(error).partition(": ")
            results.append(fail(topic, finding, advice) if colon else fail(topic, str(error), "see above"))
        except Exception as error:
            results.append(fail(topic, f"the check broke: unexpected {describe_unexpected(error)}", "report this"))
    return results


def check_private_file(topic: str, path: Path) -> Check:
    """Check that a file is there, is this user's and nobody else can read it."""
    try:
        status = path.stat()
    except OSError as error:
        return fail(topic, f"cannot read {path} ({error.strerror})", "name the right file, or make it")
    if status.st_mode & OTHERS:
        return fail(
            topic, f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so others can use it", f"chmod 600 {path}"
        )
    if status.st_uid != os.geteuid():
        return warn(
            topic, f"{path} belongs to user {status.st_uid}, not to this one", "run the check as the service's user"
        )
    return ok(topic, f"{path} is readable by its owner only")


def check_state_folder(topic: str, folder: Path) -> Check:
    """Check that a state folder can be written by this user and is closed to others; it may not exist yet."""
    if not folder.exists():
        parent = next(each for each in folder.absolute().parents if each.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            return fail(
                topic, f"{folder} cannot be made in {parent}", "choose another --state, or give this user the folder"
            )
        return ok(topic, f"{folder} will be made")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            topic, f"{folder} cannot be written by this user", "run as the service's user, or give it the folder"
        )
    if (mode := stat.S_IMODE(folder.stat().st_mode)) & OTHERS:
        return warn(topic, f"{folder} has mode {mode:04o}, so others can use it", f"chmod 700 {folder}")
    return ok(topic, f"{folder} is closed to others")


def check_certificate(topic: str, path: Path, advice: str) -> Check:
    """Check how long a certificate is valid; `advice` says how to renew it."""
    certificate = read_certificates(path)[0]
    left = days_left(certificate)
    finding = f"{path} ends on {certificate.not_valid_after_utc:%Y-%m-%d}, in {left:.0f} days"
    if left < 0:
        return fail(topic, f"{path} ended on {certificate.not_valid_after_utc:%Y-%m-%d}", advice)
    return warn(topic, finding, advice) if left < WARNING_DAYS else ok(topic, finding)
