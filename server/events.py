"""Events that a run reports while it works: listeners get them and events.jsonl stores them, one type for each kind.

The progress display, sinks and readers of earlier runs' files rely on the JSON keys, which are defined here only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from common.reports import HandshakeReport, PrivacySpent, TrainReport


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
class AwaitedEvent(Event):
    """The server has waited for replies for some time.

    Attributes:
        phase: the kind of the request.
        round: the round; 0 before the first.
        sites: the sites whose replies are still missing.
        seconds: time that the server has waited.
        limit: longest time that it waits, in seconds.
    """

    name: ClassVar[str] = "awaited"
    phase: str
    round: int
    sites: tuple[str, ...]
    seconds: int
    limit: int

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        about = {"phase": self.phase, "round": self.round, "sites": list(self.sites)}
        return about | {"seconds": self.seconds, "limit": self.limit}


@dataclass(frozen=True)
class LateReplyEvent(Event):
    """A reply came after the server had stopped waiting for it, and was refused.

    Attributes:
        site: who sent it.
        phase: the kind of the request that it answers.
        round: that request's round.
    """

    name: ClassVar[str] = "late"
    site: str
    phase: str
    round: int

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"site": self.site, "phase": self.phase, "round": self.round}


@dataclass(frozen=True)
class SentAgainEvent(Event):
    """A message was lost on its way to a site, and sent again.

    Attributes:
        site: who did not receive it.
        phase: the kind of the request.
        round: the request's round.
    """

    name: ClassVar[str] = "sent-again"
    site: str
    phase: str
    round: int

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"site": self.site, "phase": self.phase, "round": self.round}


@dataclass(frozen=True)
class WaitingEvent(Event):
    """The server waits for sites to connect.

    Attributes:
        online: nodes that are connected.
        ready: sites that have answered the handshake.
        need: sites that the run needs.
        approval: sites that have to approve the run first and are waited for.
        missing: sites that are known and not there yet.
        seconds: how long the server has waited.
        limit: how long it waits at most.
    """

    name: ClassVar[str] = "connect"
    online: int
    ready: int
    need: int
    approval: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    seconds: int = 0
    limit: int = 0

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        about = {"online": self.online, "ready": self.ready, "need": self.need, "missing": list(self.missing)}
        about |= {"seconds": self.seconds, "limit": self.limit}
        return about | ({"approval": list(self.approval)} if self.approval else {})


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
class ResumeEvent(Event):
    """The run goes on after a round that was complete when it ended.

    Attributes:
        round: the round; 0: no round was complete.
        rounds: rounds of the run.
        damaged: newer checkpoints that could not be read.
    """

    name: ClassVar[str] = "resume"
    round: int
    rounds: int
    damaged: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {"round": self.round, "rounds": self.rounds} | ({"damaged": list(self.damaged)} if self.damaged else {})


@dataclass(frozen=True)
class ChargedAgainEvent(Event):
    """A site was charged for a round that it had been charged for before, because that round's result was lost.

    Attributes:
        site: its name.
        round: the round; 0: sums before the first.
        lost_steps: steps of the earlier charges; they count like the others.
        epsilon_run: spent by this run so far, all charges together; None: infinite.
    """

    name: ClassVar[str] = "charged-again"
    site: str
    round: int
    lost_steps: int
    epsilon_run: float | None

    def fields(self) -> dict[str, object]:
        """Return the event's JSON keys and values, without its name."""
        return {
            "site": self.site,
            "round": self.round,
            "lost_steps": self.lost_steps,
            "epsilon_run": self.epsilon_run,
        }


def report_charges(listen: Listener, number: int, spent: Mapping[str, PrivacySpent | None]) -> None:
    """Report the sites that were charged again for a round.

    Args:
        listen: gets the events.
        number: the round.
        spent: what each site reported of its charge.
    """
    for site, item in spent.items():
        if item is not None and item.lost_steps:
            listen(ChargedAgainEvent(site, number, item.lost_steps, item.epsilon_run))


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
        drawn: the sites that were drawn to train; empty: all were asked.
        weights: digest of the merged weights.
        validation: figures of all validation patients together; None: no site could be asked, or none answered.
        seconds: wall-clock time; the validation counts to the round with whose training it was asked for.
        chosen: the round whose model is the best so far.
        metric: the metric of `evaluation.metric`.
        gains: of boosted trees, by input, by how much the round's splits lower the training loss.
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
    drawn: tuple[str, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)

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
        line |= {"drawn": list(self.drawn)} if self.drawn else {}
        line |= {"gains": dict(self.gains)} if self.gains else {}
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
