"""The end of a round: its validation is counted, the best round so far is chosen, and the round is reported."""

from __future__ import annotations

from collections.abc import Callable

from common.arrays import Weights
from common.trees import grows_trees
from server.events import RoundEvent, report_charges
from server.losses import stop_on_loss
from server.outcome import MergedRound, Outcome
from server.phases.validate import Validation, is_better
from server.run import Run, digest_weights


def is_validated_later(run: Run, number: int, outcome: Outcome) -> bool:
    """Return whether a round's model is validated with the next round's training, by the same messages.

    It is not where what comes next depends on the validation: the last round's chooses the model that is tested, and
    another's may end the run (`federation.patience`); with a quorum a site that trains slowly would be missing in it;
    and of a private run that stops when a site is lost, the others would have been charged for training. Trees are
    grown with several messages a round.
    """
    config, wanted = run.config, run.config.federation
    return (
        number < wanted.rounds
        and wanted.choose == "best"
        and (not wanted.patience or number - outcome.chosen < wanted.patience)
        and bool(run.federation.holders("validation"))
        and wanted.quorum is None
        and not (config.privacy.on and wanted.stops_on_loss)
        and not grows_trees(config.model.name)
    )


def finish_round(
    run: Run,
    merged: MergedRound,
    weights: Weights,
    validation: Validation,
    outcome: Outcome,
    keep: Callable[[int, Weights], None],
) -> None:
    """Choose the best round so far and report a round.

    Args:
        run: the federation.
        merged: the round.
        weights: its model.
        validation: what the model does on the validation patients.
        outcome: the round is added.
        keep: called with the chosen weights so far, if they change.

    Raises:
        EngineError: a site was lost in the validation, and the run is to stop then.
    """
    config, number, lost = run.config, merged.round, dict(merged.lost)
    if config.federation.choose == "best":
        outcome.spent.setdefault("validation", {}).update(validation.spent)
        report_charges(run.listen, number, validation.spent)
        for site, why in validation.lost.items():
            if site not in lost:
                lost[site] = f"validation: {why}"
                outcome.lost[site] = f"round {number}: validation: {why}"
        stop_on_loss(config.federation, f"round {number}: validation", validation.lost)
    for site, why in lost.items():
        outcome.missed.setdefault(site, []).append((number, why))
    if not outcome.validation or is_better(run, validation.counts, outcome.validation):
        outcome.validation = dict(validation.counts)
        outcome.chosen, outcome.weights = number, weights
        keep(number, weights)
    event = RoundEvent(
        round=number,
        rounds=config.federation.rounds,
        trained=merged.trained,
        validated=validation.by_site,
        lost=lost,
        weights=digest_weights(weights),
        validation=validation.merged,
        seconds=merged.seconds,
        chosen=outcome.chosen,
        metric=config.evaluation.metric,
        drawn=merged.drawn,
        gains=merged.gains,
    )
    outcome.rounds.append(event)
    outcome.merged = None
    run.listen(event)
