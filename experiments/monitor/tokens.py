"""Who may send and who may look: tokens in a file that only its owner can read."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import ConfigError

Role = Literal["device", "person"]
FILE = "tokens.json"
MIN_LENGTH = 16


@dataclass(frozen=True)
class Holder:
    """Who holds a token.

    Attributes:
        name: of the device group, or the person who acknowledges alerts.
        role: a device sends; a person looks and acknowledges.
        token: the secret.
    """

    name: str
    role: Role
    token: str


class Tokens:
    """The tokens of a monitor."""

    def __init__(self, holders: tuple[Holder, ...]) -> None:
        self.holders = holders

    def identify(self, token: str, role: Role) -> Holder | None:
        """Return who holds a token of a role; None: nobody. The time does not depend on where texts differ."""
        matches = [h for h in self.holders if hmac.compare_digest(h.token.encode(), token.encode()) and h.role == role]
        return matches[0] if matches else None

    def first(self, role: Role) -> Holder:
        """Return the first holder of a role."""
        return next(holder for holder in self.holders if holder.role == role)

    def list_tokens(self, role: Role) -> tuple[str, ...]:
        """Return the tokens of a role."""
        return tuple(holder.token for holder in self.holders if holder.role == role)


def load_tokens(state: Path) -> Tokens:
    """Return the tokens in a state folder; if there are none, one for devices and one for a person are made.

    Raises:
        ConfigError: the file is malformed, others can read it, or a token is too short.
    """
    path = state / FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        made = [{"name": name, "role": role, "token": secrets.token_urlsafe(24)} for name, role in _DEFAULT]
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(made, indent=1) + "\n")
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path}: others can read the tokens; run chmod 600 {path}")
        items = json.loads(path.read_text(encoding="utf-8"))
        holders = tuple(Holder(str(item["name"]), item["role"], str(item["token"])) for item in items)
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: a list of objects with name, role (device or person) and token is needed") from None
    if any(len(h.token) < MIN_LENGTH or h.role not in ("device", "person") for h in holders):
        raise ConfigError(f"{path}: every token has {MIN_LENGTH} characters at least, and the role device or person")
    if {h.role for h in holders} != {"device", "person"}:
        raise ConfigError(f"{path}: one token for devices and one for a person are needed")
    return Tokens(holders)


_DEFAULT: tuple[tuple[str, Role], ...] = (("devices", "device"), ("ward", "person"))
