"""In words: what a policy's floors and noise do to updates and counts."""

from __future__ import annotations

from client.policy import SitePolicy
from common.percent import format_percent


def describe_unit_limits(policy: SitePolicy) -> str:
    """Return what is withheld of an update without differential privacy, and the noise that it gets."""
    if policy.min_unit_patients <= 1 and not policy.update_noise:
        return "the update leaves as it is" + _describe_records(policy)
    few, noise = policy.min_unit_patients, policy.update_noise
    weights = (
        f"weights that rest on fewer than {few} people are not sent, and values of inputs that fewer have are replaced "
        "before training; "
        if few > 1
        else ""
    )
    return (
        weights
        + (f"each weight has noise of {noise:g} times the largest part of one person in it" if noise else "no noise")
        + _describe_records(policy)
    )


def _describe_records(policy: SitePolicy) -> str:
    noise, share = policy.record_noise, policy.replaced_values
    if not noise and not share:
        return "; it learns from patients' records as they are"
    changes = [f"numbers have noise of {noise:g} standard deviations"] if noise else []
    changes += [f"{format_percent(share)} of outcomes and categories are replaced"] if share else []
    return (
        f"; it learns from records that are changed once: {' and '.join(changes)}; no weights that are sent "
        "bring out more of a training patient than the changed record"
    )


def describe_counts(policy: SitePolicy) -> str:
    """Return how counts of predictions differ from exact ones."""
    floor, grain = policy.min_cell_patients, policy.round_counts_to
    if floor <= 1 and grain <= 1:
        return "counts are exact"
    return (
        "where each patient has one example, counts are off by some people"
        + (
            f" (deviation {policy.count_noise:g}, drawn for each question{_describe_growth(policy)})"
            if policy.count_noise
            else ""
        )
        + f" and below {floor} all the same"
        + f"; else counts are multiples of {grain}"
    )


def _describe_growth(policy: SitePolicy) -> str:
    if policy.precise_questions is None:
        return ""
    return f", and sqrt(n / {policy.precise_questions}) times that for the n-th model in 30 days"
