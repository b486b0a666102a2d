"""What every phase of a run needs (Run) and what the phases give (Outcome)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import messages, models
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.messages import Method, Reply, Weights
from common.metrics import evaluation, paired_resamples
from common.metrics.counts import Counts
from common.metrics.explanations import Explanation
from common.metrics.figures import Evaluation, Recalibration
from common.task import Task
from server import hospital_level, strategies
from server.exchange import Listener, send_and_collect


@dataclass
class Federation:
    """The sites that take part: node id -> site name, what each said in the handshake, and which are external."""

    names: dict[int, str] = field(default_factory=dict)
    hello: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    task: Task | None = None
    external: frozenset[str] = frozenset()

    def holders(self, split: str) -> list[str]:
        """Return the sites that have examples in a split, and may be asked for them: external ones are only tested."""
        left_out = frozenset() if split == "test" else self.external
        return sorted(site for site in set(self.hello) - left_out if self.hello[site]["counts"][split]["examples"])


@dataclass
class Outcome:
    """What the rounds gave.

    `weights`: of the chosen round; `test`: figures by table name, then by site; `validation`: the chosen round's
    counts by site; `threshold`: chosen on them, if one is sought; `counted`: the rounds in which each site's
    update went into the model; `suppressed`: by table the sites that tell none for their patients are too few, with
    how many it needs; `start`: what was taken from an earlier model, and what is frozen, if one was.
    `latent`: where training examples lie in a latent space (common/latent.py); `views`: what each site shows of it.
    """

    rounds: list[dict[str, Any]] = field(default_factory=list)
    chosen: int = 0
    weights: Weights = field(default_factory=dict)
    test: dict[str, dict[str, Evaluation]] = field(default_factory=dict)
    pooled: dict[str, Evaluation] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    validation: dict[str, Counts] = field(default_factory=dict)
    threshold: float | None = None
    tables: dict[str, Mapping[str, Counts]] = field(default_factory=dict)
    counted: dict[str, list[int]] = field(default_factory=dict)
    suppressed: dict[str, dict[str, int]] = field(default_factory=dict)
    draws: paired_resamples.Draws = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    recalibration: dict[str, Recalibration] = field(default_factory=dict)
    explanations: dict[str, Explanation] = field(default_factory=dict)
    latent: bytes = b""
    views: dict[str, Any] = field(default_factory=dict)
    shift: dict[str, Any] = field(default_factory=dict)

    def base(self, site: str, number: int) -> int:
        """Return the last round up to `number` in which a site's update counted: the state it keeps from then."""
        return max((one for one in self.counted.get(site, []) if one <= number), default=0)


@dataclass(frozen=True)
class Run:
    """What every round needs. `listen` is told of every reply and round."""

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

    @classmethod
    def of(cls, grid: Grid, config: RunConfig, strategy: Strategy, federation: Federation, listen: Listener) -> Run:
        """Return a run whose sites have agreed on a task.

        Raises:
            ConfigError: the strategy does not go with the configuration or the model.
        """
        if federation.task is None:
            raise EngineError("no handshake took place")
        evaluation.check_evaluation_fits_task(config.evaluation, federation.task)
        within = {site: said for site, said in federation.hello.items() if site not in federation.external}
        if not within:
            raise ConfigError("sites.external: every hospital is external, so none is left to train")
        held = [said["counts"]["train"] for said in within.values()]
        counts = tuple(int(sum(column)) for column in zip(*(item["classes"] for item in held), strict=True))
        total = int(sum(item["examples"] for item in held))
        strategies.check_strategy(config)
        model = models.build_model(federation.task, config.model, config.seed)
        method = strategies.build_method(config.federation.strategy, model)
        if config.privacy.on:
            hospital_level.check_delta(config, len(federation.hello))
            if config.privacy.kind != "hospital":
                models.check_per_unit_gradients(model, config.privacy.kind)
            if method.control or method.pull is not None:
                name = config.federation.strategy.name
                raise ConfigError(f"federation.strategy={name} trains what privacy does not count: use fedavg")
        if config.detecting and config.detection.score != "reconstruction" and method.pull is not None:
            name = config.federation.strategy.name
            raise ConfigError(f"federation.strategy={name}: personal models have latent spaces of their own: use "
                              "detection.score=reconstruction")  # fmt: skip
        token = secrets.token_hex(16)  # names the run in the state folders of sites: no two runs may share it
        return cls(grid, config, strategy, federation, federation.task, listen, counts, total, method=method, id=token)

    def record(self, number: int) -> ConfigRecord:
        """Return what accompanies a round's weights."""
        return messages.build_request_record(
            self.config,
            number,
            self.class_counts,
            self.total,
            self.scaling,
            method=self.method,
            run_id=self.id,
            latent=self.latent,
        )

    def addressed(self, outgoing: Iterable[Message], number: int, outcome: Outcome) -> list[Message]:
        """Return messages with the weights of a round that also tell each site which of its state goes with them."""
        found = []
        for message in outgoing:
            site = self.federation.names[message.metadata.dst_node_id]
            found.append(
                messages.set_state_rounds(message, outcome.base(site, number), outcome.base(site, outcome.chosen))
            )
        return found

    def online(self, sites: Sequence[str]) -> list[int]:
        """Return the online nodes of some sites, in the order of the sites' names."""
        online = set(self.grid.get_node_ids())
        pairs = [(name, node) for node, name in self.federation.names.items() if name in sites and node in online]
        return [node for _, node in sorted(pairs)]

    def ask(
        self,
        phase: str,
        number: int,
        sites: Sequence[str],
        outgoing: Iterable[Message],
        check: Callable[[Reply], str],
    ) -> tuple[dict[str, tuple[Message, Reply]], dict[str, str]]:
        """Send a phase's messages; return the answers by site, and why each other site gave none."""
        answers, lost = send_and_collect(
            self.grid,
            outgoing,
            self.federation.names,
            self.config.federation.round_timeout,
            self.listen,
            {"phase": phase, "round": number, "sites": len(sites)},
            check,
        )
        return answers, lost | {site: "offline" for site in sites if site not in answers and site not in lost}


def digest_weights(weights: Weights) -> str:
    """Return 16 hex digits that two models share only if all their weights are bit-for-bit equal."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        found.update(name.encode() + b"\x1f" + weights[name].tobytes())
    return found.hexdigest()
