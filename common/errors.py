"""The errors that Wardround raises on purpose, as one small tree.

    WardroundError            exit code 1: something failed that the user did not cause
    ├── SiteError             a hospital could not do what it was asked (safe to send: no patient's value)
    │   └── ProtocolError     a message is of another version, or does not fit the protocol
    ├── EngineError           the transport between the server and its sites failed
    ├── AuditError            training reveals more than is claimed
    ├── FetchError            a download failed: the network, or what the publisher's server sent
    └── UsageError            exit code 2: the user can mend it
        ├── ConfigError       a key, a value or an option is wrong
        ├── DataError         a file is missing, damaged or not what it says
        └── LeakError         a patient stands on both sides of a split

Each message is one line that says what, where and what to do next, and never holds a patient's value.
"""

from __future__ import annotations


class WardroundError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class SiteError(WardroundError):
    """A hospital could not do what it was asked; its text may cross the wire, so it holds no data."""


class ProtocolError(SiteError):
    """A message of another version, or one that does not fit the protocol; its text may cross the wire."""


class EngineError(WardroundError):
    """The transport failed: no answer, a refused connection, a process that ended."""


class FetchError(WardroundError):
    """A download failed: no network, or a server that sends errors or what it did not promise."""


class UsageError(WardroundError):
    """Something that the user can mend."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key, value or command-line option is wrong."""


class DataError(UsageError):
    """A data file is missing, damaged, or not what it claims to be."""


class LeakError(UsageError):
    """One patient's examples stand on both sides of a split."""


class AuditError(WardroundError):
    """An audit found that training reveals more than is claimed."""
