"""A policy in words: what may be asked, what leaves with each kind of reply, and what that can reveal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from client.gate.guarded_settings import GUARDED_SETTINGS, UNMEASURED, allows
from client.gate.limit_words import describe_counts, describe_unit_limits
from client.policy import ANY, SitePolicy
from common.percent import format_percent


@dataclass(frozen=True)
class ReplyRisk:
    """What one kind of reply holds and can reveal.

    Attributes:
        reply: the kind, as the phases of a run are called.
        holds: what leaves.
        limits: how the policy limits it.
        remains: what it can reveal all the same.
    """

    reply: str
    holds: str
    limits: Callable[[SitePolicy], str]
    remains: Callable[[SitePolicy], str]


def _people(policy: SitePolicy) -> str:
    return f"at least {policy.min_training_patients} people"


def _private(policy: SitePolicy) -> bool:
    return policy.needs_privacy


REPLY_RISKS = (
    ReplyRisk(
        "handshake",
        "task, counts of patients, examples and classes by split, device",
        lambda policy: (
            f"{_people(policy)} train"
            + (
                f"; classes and splits of fewer than {policy.min_cell_patients} are suppressed"
                if policy.min_cell_patients > 1
                else ""
            )
            + (
                "; training counts are noisy where training is private, validation and test counts where evaluation is"
                if policy.counts == "noisy"
                else ""
            )
        ),
        lambda policy: "how many patients this hospital has, by class",
    ),
    ReplyRisk(
        "canary",
        "task, device, seconds of opening the data and of a step on random inputs, and what of a run would be refused",
        lambda policy: "300 canaries in 30 days; nothing is charged, released or counted",
        lambda policy: "about how large the data are, and whether the policy's floors and budget suffice for a run",
    ),
    ReplyRisk(
        "scaling",
        "count, sum and sum of squares of each input over training patients, or histograms",
        lambda policy: (
            f"{_people(policy)}; "
            + (
                "noisy, and charged to the ledger"
                if _private(policy)
                else "noisy and charged where a run is private; "
                + _value_limits(policy.min_cell_patients)
                + "histograms only by a scaling near this hospital's own, 100 scalings in 30 days, with counts that "
                "are some people off"
            )
        ),
        lambda policy: (
            f"mean and spread of each input{_name_records(policy)}"
            if not _private(policy)
            else "noisy mean and spread of each input, within epsilon"
        ),
    ),
    ReplyRisk(
        "train",
        "the model's update after a round",
        lambda policy: (
            f"{_people(policy)}; differentially private"
            if _private(policy)
            else f"{_people(policy)}; {describe_unit_limits(policy)}"
        ),
        lambda policy: (
            "about training patients no more than epsilon allows, whatever weights are sent"
            if _private(policy)
            else _describe_learning(policy)
        ),
    ),
    ReplyRisk(
        "grow",
        "sums of gradients over training patients: in each bin of each input at the nodes of growing trees, or in the "
        "leaves of trees that the seed draws",
        lambda policy: (
            f"{_people(policy)}; leaves of drawn trees only, differentially private"
            if _private(policy)
            else f"{_people(policy)}; bins and nodes of fewer than {policy.min_cell_patients} people are merged or "
            f"zero; each sum has noise of {policy.update_noise:g} times one patient's part; a message counts as a round"
        ),
        lambda policy: (
            "about training patients no more than epsilon allows"
            if _private(policy)
            else f"outcomes of groups of patients by bins of their inputs{_name_records(policy)}"
            + ("" if _changes(policy) else "; a server that asks for many rounds can average the noise away")
        ),
    ),
    ReplyRisk(
        "validate",
        "confusion matrix and score histograms of validation patients, each round",
        lambda policy: (
            _evaluation_limits(policy)
            + _describe_replaced_outcomes(policy)
            + "; "
            + _limit("validated models", policy.max_rounds_per_run, policy.max_validated_models_per_month)
        ),
        lambda policy: (
            _table_remains(policy, "round")
            + ("; of outcomes only the replaced ones" if _describe_replaced_outcomes(policy) else "")
        ),
    ),
    ReplyRisk(
        "test",
        "figures, confusion matrices and score histograms of test patients and of groups of them",
        lambda policy: (
            _evaluation_limits(policy)
            + "; "
            + _limit("tested models", policy.max_tested_models_per_run, policy.max_tested_models_per_month)
        ),
        lambda policy: _table_remains(policy, "tested model"),
    ),
    ReplyRisk(
        "latent",
        "sums and products of latent values of training patients (autoencoders)",
        lambda policy: (
            "refused: training is private"
            if _private(policy)
            else f"{_people(policy)}; one model a run; none where a run is private"
        ),
        lambda policy: "nothing" if _private(policy) else "mean and covariance of latent values",
    ),
    ReplyRisk(
        "domain_shift",
        "sums and histograms of inputs, to compare hospitals",
        lambda policy: (
            "refused: training is private"
            if _private(policy)
            else f"{_people(policy)}; {_value_limits(max(policy.min_cell_patients, 5))}cells of fewer are suppressed, "
            "counts are multiples of 5; only by a scaling near this hospital's own; 20 scalings in 30 days"
        ),
        lambda policy: "nothing" if _private(policy) else f"how inputs are distributed{_name_records(policy)}",
    ),
)


def _changes(policy: SitePolicy) -> bool:
    return bool(policy.record_noise and policy.replaced_values)


def _name_records(policy: SitePolicy) -> str:
    return ", of changed records" if _changes(policy) else ", of patients' own records"


def _describe_replaced_outcomes(policy: SitePolicy) -> str:
    """Return that outcomes of validation patients are replaced; "" where they are not."""
    if policy.evaluation == "private" or not policy.replaced_values:
        return ""
    share = format_percent(policy.replaced_values)
    return f"; {share} of outcomes are replaced once by this hospital and counts are corrected for it"


def _describe_learning(policy: SitePolicy) -> str:
    """Return what remains of training without differential privacy."""
    if _changes(policy):
        return (
            "the changed record of each training patient, to a server that sends crafted weights in many rounds, and "
            "no more; who knows a patient can find the record"
        )
    return (
        "what groups of patients have in common; a server that sends crafted weights in many rounds can average the "
        "noise away and learn about single patients: only differential privacy (privacy.epsilon) bounds that"
    )


def _value_limits(floor: int) -> str:
    """Return the limit on sums of inputs that have few values; "" for a floor of 1."""
    return f"no value of an input, and no lack of one, counts below {floor} people; " if floor > 1 else ""


def _limit(what: str, per_run: int | None, per_month: int | None) -> str:
    """Return a policy's two limits as text: per run, and per 30 days over all runs."""
    return f"{what}: {_at_most(per_run)} a run, {_at_most(per_month)} in 30 days"


def _at_most(number: int | None) -> str:
    return "any number" if number is None else f"at most {number}"


def _table_limits(policy: SitePolicy) -> str:
    floor = policy.min_cell_patients
    merged = f", merged until each holds {floor} people" if floor > 1 else ""
    people = "; the same people in every run" if policy.split == "own" else ""
    return f"at most {policy.max_bins} bins{merged}; {describe_counts(policy)}{people}"


def _noise_limits(policy: SitePolicy) -> str:
    limit = policy.max_evaluation_epsilon
    spent = "any epsilon in all" if limit is None else f"at most epsilon {limit:g} in all runs together"
    return f"counts of people with noise, each person counted once, {spent}; nothing else of these patients"


def _evaluation_limits(policy: SitePolicy) -> str:
    if policy.evaluation == "private":
        return _noise_limits(policy)
    return f"{_table_limits(policy)}; where a run asks for private evaluation: {_noise_limits(policy)}"


def _table_remains(policy: SitePolicy, what: str) -> str:
    if policy.evaluation == "private":
        return "about these patients no more than epsilon allows, whatever weights are sent"
    if policy.min_cell_patients <= 1 and policy.round_counts_to <= 1:
        return f"with crafted weights, single patients: counts are exact, one question for each {what}"
    return (
        f"for each {what} with crafted weights, how one combination of inputs is distributed, to about "
        f"{max(policy.min_cell_patients, policy.round_counts_to)} patients; differential privacy of training does not "
        "cover these patients, that of evaluation (privacy.evaluation_epsilon) does where a run asks for it"
    )


def describe_policy(policy: SitePolicy) -> list[str]:
    """Return what a policy allows, one sentence a line."""
    lines = [
        "Who trains and who is tested: "
        + (
            "this hospital's own split, the same for every run."
            if policy.split == "own"
            else "as each run asks. A coordinator may have the people who trained tested."
        ),
        f"People: an update or a sum rests on at least {policy.min_training_patients}, a count on "
        f"{policy.min_cell_patients}.",
        f"Counts of predictions: {describe_counts(policy)}.",
        "First weights: "
        + (
            "those of the run's seed"
            + (f", or one of {len(policy.approved_weights)} approved models." if policy.approved_weights else ".")
            if policy.start_weights == "seed"
            else "whatever the server sends."
        ),
        "Later weights: "
        + (
            f"within {policy.max_weight_distance:g} lengths of this hospital's longest update in the run."
            if policy.max_weight_distance is not None and not policy.needs_privacy
            else "whatever the server sends."
        ),
        _limit("Tested models", policy.max_tested_models_per_run, policy.max_tested_models_per_month) + ".",
        _limit("Rounds of training", policy.max_rounds_per_run, policy.max_rounds_per_month)
        + (f", {_at_most(policy.max_rounds_per_day)} in 24 hours" if policy.max_rounds_per_day is not None else "")
        + ".",
        *_describe_run_limits(policy),
    ]
    if policy.needs_privacy:
        lines.append(
            f"Training is differentially private; all runs together spend at most epsilon {policy.epsilon_limit:g} at "
            f"delta {policy.max_delta:g}, per {' or '.join(policy.privacy_levels)}."
        )
    else:
        lines.append("Training need not be differentially private: a run may ask for it.")
        lines.append(f"Updates without differential privacy: {describe_unit_limits(policy)}.")
    if policy.evaluation == "private":
        lines.append(f"Validation and test patients: {_noise_limits(policy)}, at delta {policy.max_delta:g}.")
    else:
        lines.append("Evaluation need not be differentially private: a run may ask for it.")
    for shares, what in (
        (policy.share_resamples, "resampled counts leave: whoever knows their draws can work back to single patients"),
        (policy.share_training_loss, "the mean loss of training patients leaves"),
        (policy.share_examples, "single patients' examples leave"),
        ("*" in policy.allowed_settings, "a run may choose all of the settings below, and with them single patients"),
        (
            policy.plain_after_private and not policy.needs_privacy,
            "people who trained privately may train without privacy later: epsilon then promises nothing",
        ),
        (
            allows(policy, UNMEASURED) and not policy.needs_privacy,
            "layers train in which one person's part cannot be measured, and their updates leave as they are",
        ),
        (policy.several_splits, "private runs may train people whom an earlier one tested without protection"),
        (
            policy.unprotected_validation,
            "private runs may choose round and threshold on unprotected validation patients",
        ),
        (policy.server_noise, "at level hospital the server may add the noise: it sees the updates without it"),
        (policy.seeded_noise, "noise may be repeated: NOT PRIVATE"),
    ):
        if shares:
            lines.append(f"WARNING: {what}.")
    return lines


def _describe_run_limits(policy: SitePolicy) -> list[str]:
    """Return which runs take place and when, one sentence a line."""
    lines = [
        "New runs: "
        + (
            f"each waits for this hospital's approval, which holds at most {policy.approval_days:g} days."
            if policy.approval == "required"
            else "nobody here has to approve them."
        )
    ]
    for what, allowed in (
        ("Tasks", policy.allowed_tasks),
        ("Models", policy.allowed_models),
        ("Strategies", policy.allowed_strategies),
    ):
        if ANY not in allowed:
            lines.append(f"{what}: only {', '.join(allowed) or 'none'}.")
    if policy.hours:
        lines.append(f"Hours: requests are answered {', '.join(policy.hours)} ({policy.time_zone}).")
    sizes = [
        f"at most {policy.max_update_bytes:,} bytes" if policy.max_update_bytes is not None else "",
        f"a norm of at most {policy.max_update_norm:g}" if policy.max_update_norm is not None else "",
    ]
    if any(sizes):
        lines.append(f"An update has {' and '.join(filter(None, sizes))}, else it does not leave.")
    return lines


def list_settings(policy: SitePolicy) -> list[tuple[str, str, str]]:
    """Return the guarded settings: key, "allowed", "refused" or "left out", and what a coordinator could do with it."""
    return [
        (
            setting.key,
            "allowed" if allows(policy, setting.key) else "refused" if setting.refuses else "left out",
            setting.why,
        )
        for setting in GUARDED_SETTINGS
    ]


def list_risks(policy: SitePolicy) -> list[tuple[str, str, str, str]]:
    """Return for each kind of reply what it holds, how the policy limits it, and what it can reveal all the same."""
    return [(risk.reply, risk.holds, risk.limits(policy), risk.remains(policy)) for risk in REPLY_RISKS]
