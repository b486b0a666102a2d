"""The rounds: training, choice of the best round, final evaluation.

Flower's `Strategy.start()` cannot resume, waits for nodes for ever and keeps only averages, so the loop is
ours, on the strategy's own configure and aggregate methods. Replies are sorted by site name before they are
summed: floating-point sums depend on their order, and the result must not depend on who answers first.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from common import evaluation, messages, metrics, models
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.evaluation import Evaluation
from common.figures import Explanation, Recalibration
from common.messages import ALL, RESAMPLED, Method, Reply, Request, Weights
from common.metrics import Counts
from common.task import Task
from common.warning import WIDTH
from server import hospitals, resamples, start, strategies
from server.exchange import Listener, Shown, exchange
from server.handshake import Federation


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
    draws: resamples.Draws = field(default_factory=dict)
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
        evaluation.require(config.evaluation, federation.task)
        within = {site: said for site, said in federation.hello.items() if site not in federation.external}
        if not within:
            raise ConfigError("sites.external: every hospital is external, so none is left to train")
        held = [said["counts"]["train"] for said in within.values()]
        counts = tuple(int(sum(column)) for column in zip(*(item["classes"] for item in held), strict=True))
        total = int(sum(item["examples"] for item in held))
        strategies.require(config)
        model = models.build(federation.task, config.model, config.seed)
        method = strategies.method(config.federation.strategy, model)
        if config.privacy.on:
            hospitals.refuse(config, len(federation.hello))
            if config.privacy.kind != "hospital":
                models.refuse_without_units(model, config.privacy.kind)
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
        return messages.request_config(
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
            found.append(messages.addressed(message, outcome.base(site, number), outcome.base(site, outcome.chosen)))
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
        answers, lost = exchange(
            self.grid,
            outgoing,
            self.federation.names,
            self.config.federation.round_timeout,
            self.listen,
            {"phase": phase, "round": number, "sites": len(sites)},
            check,
        )
        return answers, lost | {site: "offline" for site in sites if site not in answers and site not in lost}


def train(run: Run, keep: Callable[[int, Weights], None], outcome: Outcome) -> None:
    """Run the rounds and choose a model.

    Args:
        run: the federation.
        keep: called with the chosen weights so far, whenever they change.
        outcome: filled round by round, so that it holds what there is when something fails.

    Raises:
        EngineError: a round had fewer answers than `federation.min_sites` or the strategy need.
    """
    config, strategy = run.config, run.strategy
    trainers = run.federation.holders("train")
    if not trainers:
        raise EngineError("no site has training examples: nothing to train on")
    begin = start.first(config, run.task)
    if config.federation.start is not None:
        outcome.start = {"from": config.federation.start, "taken": list(begin.taken), "frozen": list(begin.frozen)}
        run.listen({"event": "begin", **outcome.start})
    arrays = messages.pack_weights({key: value.detach().numpy() for key, value in begin.model.state_dict().items()})
    weights = outcome.weights = messages.unpack_weights(arrays)
    shared = {name: value for name, value in weights.items() if name not in run.method.local}
    control = weights if run.method.control else {}
    best: dict[str, Counts] | None = None
    for number in range(1, config.federation.rounds + 1):
        began = time.monotonic()
        record = run.record(number)
        nodes = run.online(trainers)
        outgoing = strategy.configure_train(number, arrays, record, Shown(run.grid, nodes)) if nodes else []
        outgoing = run.addressed(outgoing, number - 1, outcome)
        answers, lost = run.ask("train", number, trainers, outgoing, lambda reply: _misfit(reply, shared, control))
        outcome.lost |= {site: f"round {number}: {why}" for site, why in lost.items()}
        spent = [site for site, why in sorted(lost.items()) if why.startswith(messages.SPENT)]
        if spent and config.privacy.on_budget == "stop":
            raise EngineError(f"round {number}: {spent[0]}: {lost[spent[0]]} (privacy.on_budget=stop)")
        if len(answers) < config.federation.min_sites:
            why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
            raise EngineError(
                f"round {number}: {len(answers)} of {len(trainers)} sites answered, "
                f"{config.federation.min_sites} are needed ({why})"
            )
        merged, _ = strategy.aggregate_train(number, [message for message, _ in answers.values()])
        if merged is None:
            raise EngineError(f"round {number}: the strategy {config.federation.strategy.name} gave no model")
        found = messages.unpack_weights(merged)
        # local and frozen layers stay as they were at the start; some strategies return another precision
        weights = {
            name: old if name in begin.frozen else np.asarray(found.get(name, old), old.dtype)
            for name, old in weights.items()
        }
        if not all(np.isfinite(value).all() for value in weights.values()):
            raise EngineError(
                f"round {number}: the strategy {config.federation.strategy.name} gave weights that are not finite "
                "numbers: lower its learning rate"
            )
        arrays = messages.pack_weights(weights)
        for site in answers:
            outcome.counted.setdefault(site, []).append(number)
        line: dict[str, Any] = {
            "round": number,
            "sites": {s: {"train": {"examples": r.examples, **r.report}} for s, (_, r) in answers.items()},
            "lost": lost,
            "weights": digest(weights),
        }
        checked: dict[str, Counts] = {}
        if config.federation.choose == "best":
            checked = _validate(run, number, arrays, line, outcome)
        if best is None or better(run, checked, best):
            best = checked or best
            outcome.validation = checked
            outcome.chosen, outcome.weights = number, weights
            keep(number, weights)
        line["seconds"] = round(time.monotonic() - began, 4)
        line["chosen"] = outcome.chosen
        line["metric"] = config.evaluation.metric
        outcome.rounds.append(line)
        run.listen({"event": "round", "of": config.federation.rounds, **line})


def better(run: Run, one: Mapping[str, Counts], other: Mapping[str, Counts]) -> bool:
    """Return whether one round's validation is better than another's, on the sites that answered in both.

    A site that is lost for a round would otherwise make that round look better or worse than it is.
    """
    sites = sorted(set(one) & set(other))
    if not sites:
        return False
    metric = run.config.chooses_by
    new, old = (evaluation.value_of(_merged(run, [counts[s] for s in sites]), metric) for counts in (one, other))
    if new is None or old is None:
        return False
    return bool(new < old if metric == "loss" else new > old)


def _validate(
    run: Run,
    number: int,
    arrays: Any,
    line: dict[str, Any],
    outcome: Outcome,
) -> dict[str, Counts]:
    """Evaluate a round's model on the validation patients; return counts by site if they can choose."""
    checkers = run.federation.holders("validation")
    if not checkers:
        return {}
    record = run.record(number)
    nodes = run.online(checkers)
    shown = Shown(run.grid, nodes)
    outgoing = run.strategy.configure_evaluate(number, arrays, record, shown) if nodes else []
    outgoing = run.addressed(outgoing, number, outcome)
    answers, lost = run.ask("validate", number, checkers, outgoing, lambda reply: _uncountable(reply, run))
    for site, why in lost.items():
        if site not in line["lost"]:
            line["lost"][site] = f"validation: {why}"
            outcome.lost[site] = f"round {number}: validation: {why}"
    if not answers:
        return {}
    held = {site: int(reply.report["patients"]) for site, (_, reply) in answers.items()}
    found = {site: reply.tables[ALL] for site, (_, reply) in answers.items()}
    for site, counts in found.items():
        line["sites"].setdefault(site, {})["validation"] = _short(_merged(run, [counts], held[site]))
    line["validation"] = _short(_merged(run, list(found.values()), sum(held.values())))
    return found if line["validation"].get(run.config.chooses_by) is not None else {}


def _merged(run: Run, counts: Sequence[Counts], patients: int = 0) -> Evaluation:
    """Return the figures of merged validation counts, at the threshold that is best on them if one is sought."""
    first, *rest = counts
    total = sum(rest, first)
    threshold = _threshold(run, total)
    if threshold is not None:
        total = metrics.moved(total, threshold)
    absent = [0] * len(run.task.classes)
    return evaluation.summarise(run.task, total, None, patients, absent, threshold=threshold)


def _threshold(run: Run, counts: Counts) -> float | None:
    wanted = run.config.evaluation
    seeks = wanted.threshold != "likelier" and run.task.binary
    return metrics.threshold(counts, wanted.threshold, wanted.false_alarms) if seeks else None


def _short(item: Evaluation) -> dict[str, Any]:
    names = ("accuracy", "macro_f1", "macro_auroc", "macro_auprc", "auroc", "auprc", "loss", "utility")
    found = {name: evaluation.value_of(item, name) for name in names if getattr(item, name) is not None}
    if item.threshold is not None:
        found["threshold"] = item.threshold
    return {"examples": item.examples, "patients": item.patients} | found


def _misfit(reply: Reply, shared: Weights, control: Weights) -> str:
    """Return why a site's arrays cannot be merged with the others', or "".

    Args:
        reply: what the site sent.
        shared: the arrays of the model that sites send; some strategies go by their order.
        control: likewise, of control variates.
    """
    for what, sent, like in (("weights", reply.weights, shared), ("control variates", reply.control, control)):
        if [(name, value.shape) for name, value in sent.items()] != [(k, v.shape) for k, v in like.items()]:
            return f"its {what} do not fit the model"
        if not all(np.isfinite(value).all() for value in sent.values()):
            return f"its {what} are not finite numbers"
    if reply.examples <= 0:
        return "it trained on no examples"
    weight = reply.weight if reply.weight is not None else reply.examples
    return "" if math.isfinite(weight) and weight > 0 else "its weight is not a number above 0"


def _uncountable(reply: Reply, run: Run) -> str:
    """Return why a site's counts cannot be added to the others', or ""."""
    shape, bins = run.task.confusion_shape, run.config.evaluation.bins
    for name, counts in reply.tables.items():
        fits = counts.confusion.shape[-len(shape) :] == shape and counts.scores.shape[-3:-1] == (shape[0], 2)
        if run.task.utility:
            fits = fits and counts.utility.shape[-1:] == (3,) and bool(np.isfinite(counts.utility).all())
        fits = fits and all(np.isfinite(part).all() for part in (counts.time, counts.lead))
        fits = fits and counts.time.shape[-1] in (0, shape[0]) and counts.lead.shape[-1] in (0, WIDTH)
        if not fits or (not name.endswith(RESAMPLED) and counts.scores.shape[-1] != bins):
            return f"its counts {name} do not fit the task"
    return "" if ALL in reply.tables else "it sent no counts"


def test(run: Run, outcome: Outcome) -> None:
    """Evaluate the chosen model on every site's test patients; fills `outcome.test` and `outcome.pooled`.

    Raises:
        EngineError: no site that has test patients answered.
    """
    holders = run.federation.holders("test")
    outcome.threshold = _chosen_threshold(run, outcome)
    content = messages.pack_request(
        Request(
            "test",
            run.config,
            outcome.chosen,
            outcome.weights,
            scaling=run.scaling,
            threshold=outcome.threshold,
            method=run.method,
            run_id=run.id,
            latent=run.latent,
        )
    )
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["test"]) for node in run.online(holders)]
    outgoing = run.addressed(outgoing, outcome.chosen, outcome)
    answers, lost = run.ask("test", outcome.chosen, holders, outgoing, lambda reply: _unusable(reply, run))
    outcome.lost |= {site: f"final evaluation: {text}" for site, text in lost.items()}
    if holders and not answers:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(f"final evaluation: none of {len(holders)} sites answered ({why})")
    replies = {site: reply for site, (_, reply) in answers.items()}
    outcome.test, outcome.pooled = combine(run.task, replies)
    outcome.recalibration = recalibrations(replies)
    outcome.explanations = explanations(replies)
    outcome.tables = {site: reply.tables for site, reply in replies.items()}
    outcome.suppressed = withheld(replies)
    if run.config.evaluation.keep_resamples:
        outcome.draws = resamples.of_replies(run.task, replies, outcome.test)
    outcome.views = {site: view for site, reply in replies.items() if (view := reply.report.get("view"))}


def _chosen_threshold(run: Run, outcome: Outcome) -> float | None:
    """Return the threshold that is best on the chosen model's validation counts, of all sites together."""
    if run.config.evaluation.threshold == "likelier" or not run.task.binary:
        return None
    if not outcome.validation:
        line: dict[str, Any] = {"lost": {}, "sites": {}}
        arrays = messages.pack_weights(outcome.weights)
        outcome.validation = _validate(run, outcome.chosen, arrays, line, outcome)
    if not outcome.validation:
        return None
    first, *rest = [outcome.validation[site] for site in sorted(outcome.validation)]
    return _threshold(run, sum(rest, first))


def _unusable(reply: Reply, run: Run) -> str:
    """Return why a site's figures cannot be used, or ""; what is not a figure at all raises."""
    figures = {name: Evaluation.model_validate(item) for name, item in reply.report["evaluations"].items()}
    if ALL not in figures or not set(figures) <= set(reply.tables):
        return "it sent figures without counts"
    if any(tuple(item.classes) != run.task.classes for item in figures.values()):
        return "its figures do not fit the task"
    recalibrations({reply.site: reply})
    explanations({reply.site: reply})
    return _uncountable(reply, run)


def recalibrations(replies: Mapping[str, Reply]) -> dict[str, Recalibration]:
    """Return what each site told of recalibration, of those that tried or told why not."""
    told = {site: reply.report.get("recalibration") for site, reply in replies.items()}
    return {site: Recalibration.model_validate(item) for site, item in told.items() if item}


def explanations(replies: Mapping[str, Reply]) -> dict[str, Explanation]:
    """Return what each site told of the inputs' importance, of those that told anything."""
    told = {site: reply.report.get("explanation") for site, reply in replies.items()}
    return {site: Explanation.model_validate(item) for site, item in told.items() if item}


def combine(task: Task, replies: Mapping[str, Reply]) -> tuple[dict[str, dict[str, Evaluation]], dict[str, Evaluation]]:
    """Return figures by table name and site, and pooled figures by table name, from the replies."""
    by_table: dict[str, dict[str, Evaluation]] = {}
    suppressed = withheld(replies)
    for site, reply in replies.items():
        for name, item in reply.report["evaluations"].items():
            by_table.setdefault(name, {})[site] = Evaluation.model_validate(item)
    pooled = {}
    for name, results in by_table.items():
        tables = {site: replies[site].tables for site in results}
        pooled[name] = evaluation.pooled(
            task,
            results,
            {site: found[name] for site, found in tables.items()},
            {site: drawn for site, found in tables.items() if (drawn := found.get(name + RESAMPLED)) is not None},
        )
        if less := suppressed.get(name):
            each = ", ".join(f"{site} (fewer than {least} patients)" for site, least in less.items())
            note = f"suppressed at, and so without, {each}"
            pooled[name] = pooled[name].model_copy(update={"notes": (*pooled[name].notes, note)})
    return by_table, pooled


def withheld(replies: Mapping[str, Reply]) -> dict[str, dict[str, int]]:
    """Return by table the sites that tell none, because too few patients are in it, and how many it needs."""
    found: dict[str, dict[str, int]] = {}
    for site, reply in sorted(replies.items()):
        for name, least in reply.report.get("suppressed", {}).items():
            found.setdefault(str(name), {})[site] = int(least)
    return found


def digest(weights: Weights) -> str:
    """Return 16 hex digits that two models share only if all their weights are bit-for-bit equal."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        found.update(name.encode() + b"\x1f" + weights[name].tobytes())
    return found.hexdigest()
