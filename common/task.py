"""Task: the inputs and classes of a prediction. Server and sites must agree on it before a run starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Task:
    """A prediction task: an example is a signal `(channels, samples)` and a vector of features, and has a label.

    Attributes:
        name: what is predicted, and from which data.
        kind: multiclass: the label is an index into `classes`, and of two classes the second is the event; multilabel:
            the label is a 0 or 1 for each class.
        classes: short names of the classes.
        class_titles: their names for readers.
        channels: channels of the signal; 0: no signal.
        samples: samples of each channel.
        rate_hz: sampling rate, Hz; 0 without a signal.
        features: names of the features.
        channel_names: names of the channels.
        units: whether inputs have units (mmHg, years), so that they are scaled before training.
        missing: whether an input may be NaN, which means not measured.
        utility: whether each example says what an alarm and what silence are worth (early warning).
        binary_features: the features that are 0 or 1.
        anomaly: whether the score is an anomaly score, not a probability (common/detection.py).
        against: the classes that together are abnormal, where `anomaly` is set.
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
        """Whether there are two classes, of which the second is the event."""
        return self.kind == "multiclass" and len(self.classes) == 2

    @property
    def probabilistic(self) -> bool:
        """Whether scores are log odds of classes, so that their calibration can be judged."""
        return not self.anomaly

    @property
    def confusion_shape(self) -> tuple[int, ...]:
        """Shape of the confusion counts: `(truth, prediction)`; multilabel: `(classes, truth, prediction)`."""
        classes = len(self.classes)
        return (classes, 2, 2) if self.kind == "multilabel" else (classes, classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as a dictionary that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Task:
        """Build a task from the dictionary of `to_dict`; lists, which JSON makes of tuples, become tuples again."""
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
        return cls(**fields)

    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal only for equal tasks; the handshake compares them.

        >>> one = Task("t", "multiclass", ("N", "V"), ("a", "b"), 1, 96, 125.0, (), ("lead",))
        >>> one.fingerprint() == Task.from_dict(one.to_dict()).fingerprint()
        True
        """
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
