"""The errors that Wardround raises on purpose, as one small tree.

    WardroundError            exit code 1: something failed that the user did not cause
    ├── SiteError             a hospital could not handle a request (safe to send: no patient's value)
    │   ├── ApprovalPending   a hospital must approve the run first
    │   ├── ProtocolError     a message is of another version, or does not fit the protocol
    │   └── NotFiniteError    training or a prediction gave NaN or an infinite number
    ├── EngineError           the transport between the server and its sites failed
    ├── AuditError            training reveals more than its epsilon allows
    ├── FetchError            a download failed: no network, or a bad answer of the publisher's server
    ├── StoppedError          exit code 130: the user stopped the program
    └── UsageError            exit code 2: the user can correct it
        ├── ConfigError       a key, a value or an option is wrong
        ├── DataError         a file is missing, damaged or of another kind than stated
        └── LeakError         a patient is on both sides of a split

Each message is one line that says what happened, where, and what to do next; it never contains a patient's value.
"""

from __future__ import annotations

import traceback
from pathlib import Path

BUDGET_SPENT = "privacy budget spent"
"""Start of the reason that a site gives when a round would overspend its privacy budget."""


class WardroundError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class SiteError(WardroundError):
    """A hospital could not handle a request; the text may cross the wire, so it contains no data."""


class ApprovalPending(SiteError):
    """Nobody at the hospital has approved the run yet; the server may ask again later."""


class ProtocolError(SiteError):
    """A message of another version, or one that does not fit the protocol; its text may cross the wire."""


class NotFiniteError(SiteError):
    """Training or a prediction gave NaN or an infinite number; a hospital answers with one text, a few times."""


class EngineError(WardroundError):
    """The transport failed: no answer, a refused connection, or a process that ended."""


class FetchError(WardroundError):
    """A download failed: no network, or a server that sends errors or unexpected content."""


class StoppedError(WardroundError):
    """The user stopped the program; the text says how to go on."""

    exit_code = 130


class UsageError(WardroundError):
    """An error that the user can correct."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key, value or command-line option is invalid."""


class DataError(UsageError):
    """A data file is missing, damaged, or of another kind than stated."""


class LeakError(UsageError):
    """A patient's examples are on both sides of a split."""


class AuditError(WardroundError):
    """An audit found that training reveals more than its epsilon allows."""


OWN_FOLDERS = ("common", "sites", "client", "server", "experiments", "tests")
"""Where this program's own code is, seen from the folder above this one."""


def describe_unexpected(error: BaseException) -> str:
    """Return the kind of an error and where it was raised, without its text, which may quote a patient's value.

    >>> try:
    ...     float("<0.3")
    ... except ValueError as error:
    ...     "<0.3" in describe_unexpected(error)
    False
    """
    root, where = Path(__file__).resolve().parents[1], ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(root) and path.relative_to(root).parts[0] in OWN_FOLDERS:
            where = f" in {path.relative_to(root).as_posix()}, line {frame.lineno}"
    return f"{type(error).__name__}{where}"
