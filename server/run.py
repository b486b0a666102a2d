"""The state of a run at the server, which every phase uses."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import messages, models
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.metrics.evaluation import check_evaluation_fits_task
from common.metrics.registry import METRICS
from common.reply_arrays import SomeReply
from common.reports import HandshakeReport
from common.requests import Method, Request, RequestKind, TrainRequest, ValidateRequest
from common.task import Task
from server import hospital_level, strategies
from server.events import Listener
from server.exchange import Answers, Expected, Overdue, Reader, Received, Step, send_and_collect
from server.outcome import Outcome

ReadNames = Callable[[], Mapping[int, str] | None]
"""Returns the registered site of each node, or None where no registry is kept."""


@dataclass
class Federation:
    """The sites that take part.

    Attributes:
        names: the site at each node, by node id.
        reports: what each site stated in the handshake.
        task: what all of them hold; None before the handshake.
        external: sites that are only tested (`sites.external`).
        contacted: nodes that were asked who they are.
        earlier: what the sites stated when a run that is resumed began; None: it begins now.
        absent: sites that belong to the run but are not admitted yet, with the reason in one line.
        id: names the run in the sites' state folders, 32 hex digits: no two runs may share it.
    """

    names: dict[int, str] = field(default_factory=dict)
    reports: dict[str, HandshakeReport] = field(default_factory=dict)
    task: Task | None = None
    external: frozenset[str] = frozenset()
    contacted: set[int] = field(default_factory=set)
    earlier: Mapping[str, HandshakeReport] | None = None
    absent: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))

    def holders(self, split: str) -> list[str]:
        """Return the sites that have examples in a split and may use them; external sites have only the test split."""
        left_out = frozenset() if split == "test" else self.external
        return sorted(
            site for site in set(self.reports) - left_out if self.reports[site].counts.select_split(split).examples
        )


def check_validation_patients(config: RunConfig, federation: Federation) -> None:
    """Refuse a threshold rule, or a metric that chooses the round, that the validation patients are too few to compute.

    Raises:
        ConfigError: names the key and what is missing, before any training.
    """
    assert federation.task is not None
    if config.federation.patience and not federation.holders("validation"):
        raise ConfigError(
            f"federation.patience={config.federation.patience} (or rounds=auto): no hospital has validation patients "
            "that show when to stop: enlarge sites.validation or give federation.rounds alone"
        )
    if not federation.task.binary:
        return
    holders = federation.holders("validation")
    stated = [federation.reports[site].counts.validation for site in holders]
    classes = [counts.classes if counts.deviation is None else (None,) * len(counts.classes) for counts in stated]
    rule = config.evaluation.threshold
    keys: list[tuple[str, str, bool]] = []
    if rule not in ("auto", "likelier"):
        keys.append(("evaluation.threshold", rule, rule != "false_alarms"))
    if config.federation.choose == "best" and holders and METRICS[config.selection_metric].requires == "event":
        keys.append(("evaluation.metric", config.selection_metric, True))
    for key, value, needs_events in keys:
        other = "evaluation.threshold=likelier" if key == "evaluation.threshold" else "federation.choose=last"
        hint = f"enlarge sites.validation or set {other}"
        if not holders:
            raise ConfigError(f"{key}={value}: no hospital has validation patients to choose it on: {hint}")
        for index, name in enumerate(federation.task.classes):
            known = [counts[index] for counts in classes]  # None: too few, or only known with noise
            if (index == 0 or needs_events) and None not in known and not sum(filter(None, known)):
                raise ConfigError(f"{key}={value}: no validation example is of the class {name}: {hint}")


@dataclass(frozen=True)
class PhaseRequest(Generic[SomeReply]):
    """What a phase asks of its sites, and what it accepts as replies.

    Attributes:
        phase: the kind of the request.
        round: the round.
        sites: the sites that are asked.
        outgoing: the messages to those of them that are online.
        expected: the type of their replies.
        find_fault: returns what is wrong with a reply of a site, or "".
        max_bytes: largest total size of a reply's arrays, bytes.
    """

    phase: RequestKind
    round: int
    sites: Sequence[str]
    outgoing: Sequence[Message]
    expected: type[SomeReply]
    find_fault: Callable[[SomeReply, str], str]
    max_bytes: int


@dataclass(frozen=True)
class Run:
    """What every phase of a run uses: connection, settings, sites and intermediate results.

    Attributes:
        grid: Flower's grid, which carries messages to the nodes.
        config: the run's settings.
        strategy: merges the sites' updates.
        federation: the sites that take part.
        task: their common inputs and classes.
        listen: function that receives each event.
        class_counts: training examples of each class over all sites.
        total: training examples over all sites.
        scaling: how inputs are scaled (common/scaling.py); empty: as the configuration says.
        method: what sites do for the strategy besides training.
        id: the run's id in the sites' state folders, 32 hex digits.
        latent: statistics of training examples in latent space (common/latent.py); empty: none.
        overdue: messages that were not answered in time.
        read_names: returns the site that each node's key is registered for; None: no registry is kept.
    """

    grid: Grid
    config: RunConfig
    strategy: Strategy
    federation: Federation
    task: Task
    listen: Listener
    class_counts: tuple[int, ...] = ()
    total: int = 0
    scaling: bytes = b""
    method: Method = field(default_factory=Method)
    id: str = ""
    latent: bytes = b""
    overdue: Overdue = field(default_factory=dict)
    read_names: ReadNames = lambda: None

    @classmethod
    def from_handshake(
        cls,
        grid: Grid,
        config: RunConfig,
        strategy: Strategy,
        federation: Federation,
        listen: Listener,
        read_names: ReadNames = lambda: None,
    ) -> Run:
        """Return a run whose sites have agreed on a task.

        Raises:
            ConfigError: the strategy does not go with the configuration or the model.
        """
        if federation.task is None:
            raise EngineError("no handshake took place")
        check_evaluation_fits_task(config.evaluation, federation.task)
        check_validation_patients(config, federation)
        config = limit_bins(config, federation)
        held = [report.counts.train for site, report in federation.reports.items() if site not in federation.external]
        if not held:
            raise ConfigError("sites.external: every hospital is external, so none is left to train")
        columns = zip(*(counts.classes for counts in held), strict=True)
        class_counts = tuple(sum(count or 0 for count in column) for column in columns)
        strategies.check_strategy(config)
        model = models.build_model(federation.task, config.model, config.seed)
        method = strategies.build_method(config.federation.strategy, model)
        name = config.federation.strategy.name
        if config.privacy.on:
            hospital_level.check_delta(config, len(federation.reports))
            if config.privacy.kind != "hospital":
                models.check_per_unit_gradients(model, config.privacy.kind)
            if method.control or method.pull is not None:
                raise ConfigError(f"federation.strategy={name} trains what privacy does not count: use fedavg")
        if config.detecting and config.detection.score != "reconstruction" and method.pull is not None:
            raise ConfigError(
                f"federation.strategy={name}: personal models have latent spaces of their own: use "
                "detection.score=reconstruction"
            )
        return cls(
            grid,
            config,
            strategy,
            federation,
            federation.task,
            listen,
            class_counts,
            sum(counts.examples for counts in held),
            method=method,
            id=federation.id,
            read_names=read_names,
        )

    def build_train_record(self, number: int) -> ConfigRecord:
        """Return the request that travels with the weights of a training round."""
        request = TrainRequest(
            self.config,
            number,
            scaling=self.scaling,
            method=self.method,
            run_id=self.id,
            class_counts=self.class_counts,
            total=self.total,
        )
        return messages.build_model_record(request)

    def build_validate_record(self, number: int) -> ConfigRecord:
        """Return the request that travels with the weights that are validated after a round."""
        request = ValidateRequest(
            self.config, number, scaling=self.scaling, method=self.method, run_id=self.id, latent=self.latent
        )
        return messages.build_model_record(request)

    def add_state_rounds(self, outgoing: Iterable[Message], number: int, outcome: Outcome) -> list[Message]:
        """Return messages with the weights of a round that also state which of each site's state belongs to them."""
        changed = []
        for message in outgoing:
            site = self.federation.names[message.metadata.dst_node_id]
            state_round = outcome.state_round(site, number)
            changed.append(messages.set_state_rounds(message, state_round, outcome.state_rounds(site)))
        return changed

    def online_nodes(self, sites: Sequence[str]) -> list[int]:
        """Return the online nodes of some sites, in the order of the sites' names."""
        online = set(self.grid.get_node_ids())
        pairs = [(name, node) for node, name in self.federation.names.items() if name in sites and node in online]
        return [node for _, node in sorted(pairs)]

    def build_messages(self, request: Request, sites: Sequence[str]) -> list[Message]:
        """Return a message with the same request for each of some sites that is online."""
        return messages.build_messages(request, self.online_nodes(sites))

    def collect(self, request: PhaseRequest[SomeReply]) -> tuple[Answers[SomeReply], dict[str, str]]:
        """Send a phase's messages; return the replies by site, and why each other site gave none."""
        answers, lost = self.exchange(request.outgoing, self.describe_step(request), self.expect(request))
        return answers, self.add_absent(request.sites, answers, lost)

    def exchange(
        self, outgoing: Iterable[Message], step: Step, expected: Reader[Received], requests: int = 1
    ) -> tuple[Answers[Received], dict[str, str]]:
        """Send messages and wait for the replies, `round_timeout` for each of the `requests` that a message holds."""
        limit = self.config.federation.round_timeout * requests
        return send_and_collect(
            self.grid, outgoing, self.federation.names, limit, self.listen, step, expected, self.overdue
        )

    def expect(self, request: PhaseRequest[SomeReply]) -> Expected[SomeReply]:
        """Return what reads the answers of a phase's sites."""

        def find_fault_at(reply: SomeReply, node: int) -> str:
            return request.find_fault(reply, self.federation.names[node])

        return Expected(request.expected, find_fault_at, request.max_bytes)

    def add_absent(self, sites: Iterable[str], answers: Container[str], lost: Mapping[str, str]) -> dict[str, str]:
        """Return why sites gave no usable reply, with those of `sites` that were not there to be asked."""
        absent = self.federation.absent
        return {**lost, **{s: absent.get(s, "offline") for s in sites if s not in answers and s not in lost}}

    def describe_step(self, request: PhaseRequest[SomeReply]) -> Step:
        """Return which part of the run asks; rounds have a quorum, results over all sites have none."""
        phase, number, sites = request.phase, request.round, len(request.sites)
        wanted = self.config.federation
        if wanted.quorum is None or phase not in ("train", "validate", "grow"):
            return Step(phase, number, sites)
        return Step(phase, number, sites, min(wanted.quorum, sites), wanted.quorum_seconds)


def digest_weights(weights: Weights) -> str:
    """Return 16 hex digits that two models share only if all their weights are bit-for-bit equal."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        digest.update(name.encode() + b"\x1f" + weights[name].tobytes())
    return digest.hexdigest()


def limit_bins(config: RunConfig, federation: Federation) -> RunConfig:
    """Return the configuration with no more score bins than every site sends: counts add up only in equal bins.

    Of a private evaluation there are at most `privacy.evaluation_bins`.
    """
    allowed = [report.max_bins for report in federation.reports.values()]
    if config.privacy.evaluation_on:
        allowed.append(config.privacy.evaluation_bins)
    bins = min([config.evaluation.bins, *allowed])
    if bins == config.evaluation.bins:
        return config
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"bins": bins})})
