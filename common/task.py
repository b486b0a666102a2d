"""Task: what is predicted from what. Both ends must hold the same one before a run may start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Task:
    """A prediction task.

    An example is a signal of shape `(channels, samples)` at `rate_hz` (none: 0 channels, 0 samples), and a
    vector of `features`; its label is an index into `classes` (`multiclass`; with two classes the second is
    the event) or a 0 or 1 for each of them (`multilabel`).

    `units`: the inputs stand in units of their own (mmHg, years), so they are scaled before training;
    `missing`: an input may be NaN, which means not measured; `utility`: each example says what an alarm and
    what silence are worth (early warning). `binary_features`: those of `features` that are 0 or 1. `anomaly`: its
    score says how far from normal an example is, and is no probability (common/detection.py); `against` then names
    the classes that are taken together as abnormal.
    """

    name: str
    kind: Literal["multiclass", "multilabel"]
    classes: tuple[str, ...]
    class_titles: tuple[str, ...]
    channels: int
    samples: int
    rate_hz: float
    features: tuple[str, ...]
    channel_names: tuple[str, ...]
    units: bool = False
    missing: bool = False
    utility: bool = False
    binary_features: tuple[str, ...] = ()
    anomaly: bool = False
    against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError("a task needs at least two classes")
        if len(self.class_titles) != len(self.classes) or len(self.channel_names) != self.channels:
            raise ValueError("class_titles and channel_names must fit classes and channels")
        if not self.channels and not self.features:
            raise ValueError("a task needs channels or features")
        if self.utility and not self.binary:
            raise ValueError("a utility needs a task of two classes")
        if self.anomaly and not self.binary:
            raise ValueError("an anomaly score needs a task of two classes")
        if not set(self.binary_features) <= set(self.features):
            raise ValueError("binary_features must be among features")

    @property
    def binary(self) -> bool:
        """Whether there is one event, the second class, to be told from the first."""
        return self.kind == "multiclass" and len(self.classes) == 2

    @property
    def probabilistic(self) -> bool:
        """Whether a score is meant as the log odds of a class, so that its calibration can be judged."""
        return not self.anomaly

    @property
    def confusion_shape(self) -> tuple[int, ...]:
        """The shape of its confusion counts: truth x prediction, of all classes or for each label."""
        classes = len(self.classes)
        return (classes, 2, 2) if self.kind == "multilabel" else (classes, classes)

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
