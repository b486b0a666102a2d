"""The rounds: training, choice of the best round, final evaluation.

Flower's `Strategy.start()` cannot resume, waits for nodes for ever and keeps only averages, so the loop is
ours, on the strategy's own configure and aggregate methods. Replies are sorted by site name before they are
summed: floating-point sums depend on their order, and the result must not depend on who answers first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from common import messages
from common.errors import EngineError
from common.messages import Reply, Weights
from common.metrics.counts import Counts
from server import initial_model
from server.exchange import NodeSubsetGrid
from server.phases.validate import is_better, validate_round
from server.run import Outcome, Run, digest_weights


def run_rounds(run: Run, keep: Callable[[int, Weights], None], outcome: Outcome) -> None:
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
    begin = initial_model.build_initial_model(config, run.task)
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
        outgoing = strategy.configure_train(number, arrays, record, NodeSubsetGrid(run.grid, nodes)) if nodes else []
        outgoing = run.addressed(outgoing, number - 1, outcome)
        answers, lost = run.ask("train", number, trainers, outgoing, lambda reply: _misfit(reply, shared, control))
        outcome.lost |= {site: f"round {number}: {why}" for site, why in lost.items()}
        spent = [site for site, why in sorted(lost.items()) if why.startswith(messages.BUDGET_SPENT)]
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
            "weights": digest_weights(weights),
        }
        checked: dict[str, Counts] = {}
        if config.federation.choose == "best":
            checked = validate_round(run, number, arrays, line, outcome)
        if best is None or is_better(run, checked, best):
            best = checked or best
            outcome.validation = checked
            outcome.chosen, outcome.weights = number, weights
            keep(number, weights)
        line["seconds"] = round(time.monotonic() - began, 4)
        line["chosen"] = outcome.chosen
        line["metric"] = config.evaluation.metric
        outcome.rounds.append(line)
        run.listen({"event": "round", "of": config.federation.rounds, **line})


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
