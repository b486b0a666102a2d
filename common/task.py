"""Task: what is predicted from what. Both ends must hold the same one before a run may start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Task:
    """A prediction task.

    An example is a signal of shape `(channels, samples)` at `rate_hz`, and a vector of `features`; its
    label is an index into `classes`.
    """

    name: str
    kind: Literal["multiclass"]
    classes: tuple[str, ...]
    class_titles: tuple[str, ...]
    channels: int
    samples: int
    rate_hz: float
    features: tuple[str, ...]
    channel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError("a task needs at least two classes")
        if len(self.class_titles) != len(self.classes) or len(self.channel_names) != self.channels:
            raise ValueError("class_titles and channel_names must fit classes and channels")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Task:
        """Read what `to_dict` gave, after a trip through JSON."""
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
        return cls(**fields)

    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal only for equal tasks; compared in the handshake.

        >>> one = Task("t", "multiclass", ("N", "V"), ("a", "b"), 1, 96, 125.0, (), ("lead",))
        >>> one.fingerprint() == Task.from_dict(one.to_dict()).fingerprint()
        True
        """
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
