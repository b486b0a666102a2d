"""The rounds: training, merging, and the choice of the best round.

Flower's `Strategy.start()` cannot resume, waits for nodes without limit and keeps only averages, so the loop is
ours, on the strategy's own configure and aggregate methods. Replies are sorted by site name before they are
summed: floating-point sums depend on their order, and the result must not depend on who answers first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from flwr.app import Message

from common import messages
from common.arrays import Weights
from common.config import RunConfig
from common.errors import EngineError
from common.messages import ARRAY_OVERHEAD
from common.replies import TrainReply
from common.seeds import rng_for
from common.trees import grows_trees
from server.events import StartEvent
from server.exchange import Answers, NodeSubsetGrid
from server.hospital_level import find_contribution_fault
from server.initial_model import build_initial_model
from server.joint_requests import collect_both
from server.losses import stop_on_loss
from server.outcome import MergedRound, Outcome
from server.phases.charges import find_older_ledger, record_charges
from server.phases.grow import grow_round
from server.phases.handshake import readmit_sites
from server.phases.validate import Validation, build_validation, summarise_replies, validate_round
from server.reply_checks import find_update_fault, training_examples
from server.round_end import finish_round, is_validated_later
from server.run import PhaseRequest, Run
from server.stopping import stop_training
from server.weights import compute_weights


def run_rounds(
    run: Run,
    keep: Callable[[int, Weights], None],
    outcome: Outcome,
    save: Callable[[Run, Outcome], None] = lambda run, outcome: None,
) -> None:
    """Run the rounds that are left, or until validation has not improved for long enough, and choose a model.

    Args:
        run: the federation.
        keep: called with the chosen weights so far, whenever they change.
        outcome: filled round by round, so that it holds what there is when something fails; of a run that is resumed
            it holds the rounds before.
        save: called after each round, when its updates are merged.

    Raises:
        EngineError: a round had fewer replies than `federation.min_sites` or the strategy need, or a site was lost and
            the run is to stop then.
    """
    config = run.config
    trainers = run.federation.holders("train")
    if not trainers:
        raise EngineError("no site has training examples: nothing to train on")
    weights = outcome.current or _build_first_weights(run, outcome)
    frozen = tuple(outcome.start.get("frozen", ()))
    for number in range(outcome.completed + 1, config.federation.rounds + 1):
        if stop_training(config, outcome, run.listen):
            break
        start = time.monotonic()
        readmit_sites(run.grid, config, run.federation, run.listen, run.read_names)
        chosen = draw_sites(config, number, trainers)
        gains: Mapping[str, float] = {}
        if grows_trees(config.model.name):
            grown = grow_round(run, number, weights, chosen, outcome)
            weights, trained, lost, gains = grown.weights, grown.trained, grown.lost, grown.gains
        else:
            training = build_training(run, number, weights, chosen, outcome)
            answers, lost = _collect_updates(run, training, outcome, keep)
            weights = _merge_updates(run, number, weights, frozen, answers)
            trained = {site: reply.report for site, (_, reply) in answers.items()}
        for site in trained:
            outcome.counted.setdefault(site, []).append(number)
        later = is_validated_later(run, number, outcome)
        validation = Validation()
        if config.federation.choose == "best" and not later:
            validation = validate_round(run, number, weights, outcome)
        drawn = tuple(chosen) if len(chosen) < len(trainers) else ()
        merged = MergedRound(number, trained, lost, drawn, round(time.monotonic() - start, 4), gains)
        if later:
            outcome.merged = merged
        else:
            finish_round(run, merged, weights, validation, outcome, keep)
        outcome.completed, outcome.current = number, weights
        save(run, outcome)


def _build_first_weights(run: Run, outcome: Outcome) -> Weights:
    """Return the weights that the first round starts from, which are the chosen ones until then.

    Raises:
        ConfigError: as `server.initial_model.build_initial_model`.
    """
    initial = build_initial_model(run.config, run.task)
    if run.config.federation.start is not None:
        started = StartEvent(run.config.federation.start, tuple(initial.taken), tuple(initial.frozen))
        outcome.start = started.fields()
        run.listen(started)
    outcome.weights = {name: value.detach().numpy().copy() for name, value in initial.model.state_dict().items()}
    return outcome.weights


def draw_sites(config: RunConfig, number: int, trainers: list[str]) -> list[str]:
    """Return the sites that train in a round, sorted: all, or those that its seed draws (`federation.sites_per_round`).

    They are drawn from all sites that train, there or not, so that the draw depends on nothing but the seed.
    """
    count = config.federation.sites_per_round
    if count is None or count >= len(trainers):
        return trainers
    drawn = rng_for(config.seed, "server", number, "sites").choice(len(trainers), count, replace=False)
    return [sorted(trainers)[index] for index in sorted(drawn.tolist())]


def build_training(
    run: Run, number: int, weights: Weights, trainers: list[str], outcome: Outcome
) -> PhaseRequest[TrainReply]:
    """Return the request to train a round, to those sites of a list that are online."""
    shared = {name: value for name, value in weights.items() if name not in run.method.local}
    control = weights if run.method.control else {}
    nodes = run.online_nodes(trainers)
    subset = NodeSubsetGrid(run.grid, nodes)
    record, arrays = run.build_train_record(number), messages.pack_weights(weights)
    outgoing = list(run.strategy.configure_train(number, arrays, record, subset)) if nodes else []

    def find_fault(reply: TrainReply, site: str) -> str:
        fault = find_update_fault(reply, shared, control, training_examples(run, site))
        return fault or find_contribution_fault(reply, run.config) or find_lost_state(reply, site, outcome)

    return PhaseRequest(
        "train",
        number,
        trainers,
        run.add_state_rounds(outgoing, number - 1, outcome),
        TrainReply,
        find_fault,
        sum(value.nbytes + ARRAY_OVERHEAD for part in (shared, control) for value in part.values()),
    )


def _collect_updates(
    run: Run, training: PhaseRequest[TrainReply], outcome: Outcome, keep: Callable[[int, Weights], None]
) -> tuple[Answers[TrainReply], dict[str, str]]:
    """Return the updates of a round, and the sites that sent none that can be merged.

    Raises:
        EngineError: too few sites sent one, or a site's privacy budget is spent and the run is to stop then.
    """
    config, number = run.config, training.round
    answers, lost = _collect_replies(run, training, outcome, keep)
    outcome.lost |= {site: f"round {number}: {why}" for site, why in lost.items()}
    stop_on_loss(config.federation, f"round {number}", lost)
    stated = {site: reply.report.privacy for site, (_, reply) in answers.items()}
    record_charges(run, number, stated, lost, outcome)
    if len(answers) < config.federation.min_sites:
        why = "; ".join(f"{site}: {text}" for site, text in sorted(lost.items()))
        raise EngineError(
            f"round {number}: {len(answers)} of {len(training.sites)} sites answered, "
            f"{config.federation.min_sites} are needed ({why})"
        )
    return answers, lost


def _collect_replies(
    run: Run, training: PhaseRequest[TrainReply], outcome: Outcome, keep: Callable[[int, Weights], None]
) -> tuple[Answers[TrainReply], dict[str, str]]:
    """Return the replies to a request to train, and why each other site gave none.

    If the round before is still to be validated, that is done with the same messages, and the round is finished.

    Raises:
        EngineError: a site was lost in that validation, and the run is to stop then.
    """
    if outcome.merged is None:
        return run.collect(training)
    validation = build_validation(run, outcome.merged.round, outcome.current, outcome)
    try:
        both = collect_both(run, training, validation)
        trained, validated = (None, run.collect(validation)) if both is None else both
    except (KeyboardInterrupt, SystemExit):  # what is left has the round, without its validation
        finish_round(run, outcome.merged, outcome.current, Validation(), outcome, keep)
        raise
    finish_round(run, outcome.merged, outcome.current, summarise_replies(run, *validated), outcome, keep)
    return run.collect(training) if trained is None else trained


def find_lost_state(reply: TrainReply, site: str, outcome: Outcome) -> str:
    """Return why an update does not belong to what the site sent in earlier rounds, or "".

    In a run that was resumed, an update without the state that it must start from would not be that of an unbroken run.
    """
    if fault := find_older_ledger(reply.report.privacy, site, outcome):
        return fault
    if outcome.resumed and reply.report.state == "lost":
        return "its state of an earlier round is gone: restore its state folder, or start the run anew"
    return ""


def _merge_updates(
    run: Run, number: int, weights: Weights, frozen: tuple[str, ...], answers: Answers[TrainReply]
) -> Weights:
    """Return the model that the strategy makes of a round's updates, each weighed by the server.

    Raises:
        EngineError: the strategy gives no model, or weights that are not finite.
    """
    name = run.config.federation.strategy.name
    counts = {site: run.federation.reports[site].counts.train for site in answers}
    shares = compute_weights(counts, run.config.federation)
    weighed: list[Message] = [
        messages.set_weight(message, counts[site].examples, shares[site], site)
        for site, (message, _) in answers.items()
    ]
    merged, _ = run.strategy.aggregate_train(number, weighed)
    if merged is None:
        raise EngineError(f"round {number}: the strategy {name} gave no model")
    new = messages.unpack_weights(merged)
    # local and frozen layers stay as they were at the start; some strategies return another precision
    typed = {key: old if key in frozen else np.asarray(new.get(key, old), old.dtype) for key, old in weights.items()}
    if not all(np.isfinite(value).all() for value in typed.values()):
        raise EngineError(
            f"round {number}: the strategy {name} gave weights that are not finite numbers: lower its learning rate"
        )
    return typed
