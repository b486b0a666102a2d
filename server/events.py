"""Events that a run reports while it works: listeners get them and events.jsonl stores them, one type for each kind.

The progress display, sinks and readers of earlier runs' files rely on the JSON keys, which are defined here only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from common.reports import HandshakeReport, TrainReport


@dataclass(frozen=True)
class Event:
    """Base of the events.

    Attributes:
        name: its name in JSON.
    """

    name: ClassVar[str]

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, object]:
        """Return its JSON-ready form."""
        return {"event": self.name, **self.fields()}


Listener = Callable[[Event], None]
"""Gets each event as it happens."""


@dataclass(frozen=True)
class ReplyEvent(Event):
    """A site answered, or failed to.

    Attributes:
        site: its name.
        ok: whether its reply can be used.
        waiting: replies that are still to come.
        phase: the kind of the request.
        round: the round; 0 before the first.
        sites: sites that were asked; 0 in the handshake, whose number is not known.
    """

    name: ClassVar[str] = "reply"
    site: str
    ok: bool
    waiting: int
    phase: str
    round: int
    sites: int = 0

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        about = {
            "site": self.site,
            "ok": self.ok,
            "waiting": self.waiting,
            "phase": self.phase,
            "round": self.round,
        }
        return about | ({"sites": self.sites} if self.sites else {})


@dataclass(frozen=True)
class WaitingEvent(Event):
    """The server waits for sites to connect.

    Attributes:
        online: nodes that are connected.
        ready: sites that have answered the handshake.
        need: sites that the run needs.
        approval: sites that have to approve the run first and are waited for.
    """

    name: ClassVar[str] = "connect"
    online: int
    ready: int
    need: int
    approval: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        counts = {"online": self.online, "ready": self.ready, "need": self.need}
        return counts | ({"approval": list(self.approval)} if self.approval else {})


@dataclass(frozen=True)
class HandshakeEvent(Event):
    """The handshake is over.

    Attributes:
        sites: what each site stated.
        refused: sites that do not take part, with the reason in one line.
    """

    name: ClassVar[str] = "handshake"
    sites: Mapping[str, HandshakeReport]
    refused: Mapping[str, str]

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"sites": {name: report.to_dict() for name, report in self.sites.items()}, "refused": dict(self.refused)}


@dataclass(frozen=True)
class StartEvent(Event):
    """Training starts from an earlier model (`federation.start`).

    Attributes:
        source: the file or run folder, "from" in JSON.
        taken: parameters that were taken from it.
        frozen: parameters that do not train.
    """

    name: ClassVar[str] = "initial-model"
    source: str
    taken: tuple[str, ...]
    frozen: tuple[str, ...]

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"from": self.source, "taken": list(self.taken), "frozen": list(self.frozen)}


@dataclass(frozen=True)
class RoundEvent(Event):
    """A round is over: a line of rounds.jsonl.

    Attributes:
        round: its number, from 1.
        rounds: rounds of the run.
        trained: what each site reported of its training.
        validated: figures of each site's validation patients.
        lost: sites whose reply is missing or cannot be used, with the reason in one line.
        weights: digest of the merged weights.
        validation: figures of all validation patients together; None: no site could be asked, or none answered.
        seconds: wall-clock time.
        chosen: the round whose model is the best so far.
        metric: the metric of `evaluation.metric`.
    """

    name: ClassVar[str] = "round"
    round: int
    rounds: int
    trained: Mapping[str, TrainReport]
    validated: Mapping[str, Mapping[str, object]]
    lost: Mapping[str, str]
    weights: str
    validation: Mapping[str, object] | None
    seconds: float
    chosen: int
    metric: str

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        sites: dict[str, dict[str, object]] = {
            site: {"train": report.to_dict()} for site, report in self.trained.items()
        }
        for site, figures in self.validated.items():
            sites.setdefault(site, {})["validation"] = dict(figures)
        line = {
            "rounds": self.rounds,
            "round": self.round,
            "sites": sites,
            "lost": dict(self.lost),
            "weights": self.weights,
        }
        line |= {"validation": dict(self.validation)} if self.validation is not None else {}
        return line | {"seconds": self.seconds, "chosen": self.chosen, "metric": self.metric}


@dataclass(frozen=True)
class DoneEvent(Event):
    """The run is over.

    Attributes:
        status: complete, failed or interrupted.
        error: why, in one line; empty: it is complete.
    """

    name: ClassVar[str] = "done"
    status: str
    error: str

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"status": self.status, "error": self.error}
