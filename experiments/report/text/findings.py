"""The findings as sentences, and the sums, means and lists that sections share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.metrics.evaluation import metric_value
from common.metrics.figures import FEW_PATIENTS, Evaluation, Figure, Recalibration
from common.metrics.merged_scores import TIES
from common.metrics.paired_resamples import POOLED
from common.metrics.patient_counts import count_patients
from common.percent import format_percent
from experiments.report.document.report import Report
from experiments.report.document.results import GroupGap, ModelResult, Subset
from experiments.report.document.run import Site, Split
from experiments.report.text.formatting import capitalise, format_count, format_figure, format_number, metric_title
from experiments.report.text.groups import describe_groups_missed

LOCAL_LAYERS = {"fedper": "some layers", "fedbn": "the normalisation layers"}
"""The layers that stay at the hospitals, by strategy."""
THRESHOLD_RULES = {"f1": "F1", "youden": "the Youden index", "utility": "utility"}
"""How the rules that choose a threshold are named in a sentence."""
FINAL_EVALUATION = "final evaluation: "
"""Prefix of the reason if a hospital did not respond to the final evaluation."""


def describe_status(report: Report) -> str:
    """Return how the run ended, in one line."""
    done, planned = (report.rounds[-1].number if report.rounds else 0), report.planned_rounds
    if report.run.status == "complete":
        how = "Complete, but PARTIAL" if report.has("partial") else "Complete"
        most = f" of at most {planned}" if report.stopped_early else ""
        return f"{how}: {format_count(done, 'round')}{most}" if done else how
    outcome = "Interrupted" if report.run.status == "interrupted" else "Failed"
    return f"{outcome} after round {done} of {planned}" if done else f"{outcome} before the first round was completed"


def summarise_findings(report: Report) -> list[str]:
    """Return the findings as sentences that can be read without a table."""
    metric = metric_title(report.metric)
    sentences = [_describe_training(report, metric), *describe_privacy(report), describe_counts(report)]
    model = report.federated
    if model is None or model.pooled is None:
        text = "There are no test results: the run ended before the final evaluation."
        selected = next((line for line in report.rounds if line.number == report.chosen_round), None)
        value = getattr(selected.validation, report.metric, None) if selected else None
        if selected and selected.validation and value is not None:
            patients = format_count(selected.validation.patients, "validation patient")
            text += f" After round {selected.number} the {metric} was {format_number(value)} on {patients}."
        return [*sentences, text]
    patients = format_count(model.pooled.patients, "patient")
    tested = f"{patients} never seen in training"
    if report.has("leak"):
        tested = f"test examples of {patients}, some of them also seen in training"
    sentences.append(f"On {tested}, its {metric} is {format_figure(model.pooled, report.metric)}.")
    if model.threshold is not None:
        sentences.append(_describe_threshold(report, model.threshold))
    if model.worst:
        evaluation = model.sites[model.worst.site]
        sentences.append(
            f"By {metric} the worst {report.data.site_kind} is {model.worst.site}, with "
            f"{format_figure(evaluation, report.metric)} on {format_count(evaluation.patients, 'patient')}."
        )
    sentences += [*describe_groups_missed(report), *_describe_comparison(report, metric)]
    few = [name for name, item in model.sites.items() if item.patients < FEW_PATIENTS]
    if few:
        names = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
        sentences.append(
            f"The results of {names} are based on fewer than {FEW_PATIENTS} test patients: "
            "one patient can change them considerably."
        )
    return sentences


def _describe_threshold(report: Report, threshold: float) -> str:
    settings = report.run.config.get("evaluation", {})
    rule = settings.get("threshold", "")
    value = f"predicted probability is at least {format_percent(1 / (1 + math.exp(-threshold)))}"
    if report.detecting:
        value = f"anomaly score is at least {math.exp(threshold):.3g}"
    chosen = f"chosen by {THRESHOLD_RULES.get(rule, rule)}"
    if rule == "false_alarms":
        chosen = f"chosen for {100 * settings.get('false_alarms', 0.05):g}% false alarms"
    event = list(report.class_titles.values())[-1]
    return f"It predicts {event} where the {value}, {chosen} on validation patients."


def _describe_training(report: Report, metric: str) -> str:
    trained = {name for line in report.rounds for name, site in line.sites.items() if site.train}
    if not report.rounds:
        return "No round of training was completed."
    kind = report.data.site_kind
    text = f"One model was trained by {format_count(len(trained), kind)} over "
    text += format_count(len(report.rounds), "round")
    local = LOCAL_LAYERS.get(report.run.config.get("federation", {}).get("strategy", {}).get("name", ""))
    if local:
        text += f"; {local} stayed at each {kind}, so each {kind}'s model combines the shared layers with its own"
    if report.chosen_round is None or all(line.validation is None for line in report.rounds):
        return text + "."
    criterion = f"{metric} on validation patients"
    if report.detecting:
        criterion = "reconstruction error on the normal examples of validation patients"
    text += f"; round {report.chosen_round} was selected, the best by {criterion}"
    if report.stopped_early:
        patience = format_count(report.run.config["federation"]["patience"], "round")
        text += f". Training stopped because the {patience} after it were no better, of at most {report.planned_rounds}"
    return f"{text}."


def describe_privacy(report: Report) -> list[str]:
    """Return how much privacy was spent, in one sentence; empty if training was not differentially private."""
    if not report.privacy:
        return []
    most = max(report.privacy, key=lambda item: item.epsilon_run)
    total = max(item.epsilon for item in report.privacy)
    text = (
        f"Training was differentially private per {most.unit}: this run spent an epsilon of at most "
        f"{most.epsilon_run:.2f} at delta {most.delta:g} ({most.site}), all runs on the same data at most {total:.2f}."
    )
    if report.has("not-private"):
        text = f"NOT PRIVATE: the noise can be removed. Without that: {text}"
    return [text]


def describe_counts(report: Report) -> str:
    """Return a sentence on how test patients were counted: exactly, coarsened, or with noise and which epsilon."""
    tested = [item for item in report.evaluation_privacy if item.split == "test"]
    if not tested:
        minimum = max((site.min_cell_patients for site in report.sites), default=1)
        if minimum > 1:
            return (
                f"Counts of test patients are coarsened at the {report.data.site_kind}s, and those of fewer than "
                f"{minimum} patients suppressed, without differential privacy.{_describe_ties(report)}"
            )
        return "Counts of test patients are exact."
    most = max(tested, key=lambda item: item.epsilon_run)
    text = (
        f"Test patients were counted with noise, differentially private per person: this run spent an epsilon of at "
        f"most {most.epsilon_run:.2f} at delta {most.delta:g} ({most.site}), all runs on the same patients at most "
        f"{max(item.epsilon for item in tested):.2f}."
    )
    if validated := [item for item in report.evaluation_privacy if item.split == "validation"]:
        text += (
            f" Validation patients: an epsilon of at most {max(item.epsilon_run for item in validated):.2f} in this "
            f"run, {max(item.epsilon for item in validated):.2f} in all runs."
        )
    return f"NOT PRIVATE: the noise can be removed. Without that: {text}" if report.has("not-private") else text


def _describe_ties(report: Report) -> str:
    pooled = report.federated.pooled if report.federated else None
    return "".join(f" {capitalise(note)}." for note in pooled.notes if note.startswith(TIES)) if pooled else ""


def compute_local_mean(report: Report, metric: str) -> float | None:
    """Return the unweighted mean of a metric over the local models, each on all hospitals' test patients."""
    values = [metric_value(model.pooled, metric) for model in report.locals if model.pooled]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(report.locals) else None


def _describe_comparison(report: Report, metric: str) -> list[str]:
    pooled, local_mean = report.model("pooled"), compute_local_mean(report, report.metric)
    kind = report.data.site_kind
    parts = []
    if pooled and pooled.pooled:
        parts.append(
            f"a model trained on all {kind}s' data in one place reaches {format_figure(pooled.pooled, report.metric)}"
        )
    if local_mean is not None:
        parts.append(f"a model trained at one {kind} alone reaches {format_number(local_mean)} on average")
    return [f"For comparison, by {metric} on the same patients: {'; '.join(parts)}."] if parts else []


def group_by_reason(recalibration: Mapping[str, Recalibration]) -> dict[str, list[str]]:
    """Return the hospitals that could not recalibrate, by the reason.

    >>> group_by_reason({"a": Recalibration(patients=0, reason="few"), "b": Recalibration(patients=0, reason="few")})
    {'few': ['a', 'b']}
    """
    groups: dict[str, list[str]] = {}
    for name, item in recalibration.items():
        if item.reason:
            groups.setdefault(item.reason, []).append(name)
    return groups


def explain_missing_test(report: Report, site: Site | None = None) -> str:
    """Return why there are no test results, of one hospital or of all."""
    if site is not None and site.lost and (site.lost.startswith(FINAL_EVALUATION) or report.run.status == "complete"):
        return site.lost
    if report.run.status != "complete":
        return "the run ended before the final evaluation"
    if site is not None and "test" in site.counts and not site.counts["test"].examples:
        return "no test patients here"
    return "not evaluated"


def list_models_at(report: Report, site: str) -> list[tuple[str, Evaluation]]:
    """Return the title of each model that concerns one hospital, with its results on the hospital's patients."""
    return [
        (model.title, model.sites[site])
        for model in report.models
        if site in model.sites and model.trained_at in (None, site)
    ]


def sum_over_sites(report: Report, split: Split, quantity: str) -> int:
    """Return the sum over hospitals of `patients`, `examples` or the examples of a class, in one split."""
    counts = [site.counts[split] for site in report.sites if split in site.counts]
    if quantity in ("patients", "examples"):
        return sum(int(getattr(item, quantity)) for item in counts)
    return sum(item.classes.get(quantity) or 0 for item in counts)


def list_subsets(report: Report) -> list[tuple[str, ModelResult, Evaluation]]:
    """Return the results over all hospitals with all patients and with some excluded: label, model, results."""
    labels = report.federated.without if report.federated else {}
    rows = []
    for label in (None, *labels):
        for model in report.models:
            evaluation = model.pooled if label is None else model.without.get(label, Subset()).pooled
            if evaluation is not None and (model.trained_at is None or model.without):
                rows.append(("All patients" if label is None else f"Without {label}", model, evaluation))
    return rows


UNFIXED_PAIR = "no interval: it was computed for the extreme groups of each resample; build the report again"
"""The reason why a gap in a report of an earlier version has no interval."""


def remove_unfixed_interval(gap: GroupGap, figure: Figure) -> Figure:
    """Return a gap's difference or ratio; in reports of earlier versions without the interval, which was biased."""
    return figure if gap.pairs is not None else Figure(value=figure.value)


def count_gap_patients(model: ModelResult, gap: GroupGap) -> int:
    """Return the number of patients behind the metric in the smaller of a gap's two groups."""
    subsets = [model.groups.get(gap.attribute, {}).get(name, Subset()) for name in (gap.lowest, gap.highest)]
    evaluations = [subset.pooled if gap.site == POOLED else subset.sites.get(gap.site) for subset in subsets]
    return min((count_patients(item, gap.metric) for item in evaluations if item is not None), default=FEW_PATIENTS)


def describe_multiplicity(gaps: Sequence[GroupGap]) -> str:
    """Return a note on multiple comparisons: pairs of groups compared, intervals that exclude 0; empty if unknown."""
    pairs = [gap.pairs for gap in gaps if gap.pairs is not None]
    if not pairs:
        return ""
    known = [gap.difference for gap in gaps if gap.difference.low is not None]
    excluding = sum(figure.low is not None and figure.low > 0 for figure in known)
    differences = format_count(len(pairs), "difference")
    text = f"The table has {differences}, chosen from {format_count(sum(pairs), 'pair')} of groups."
    if known:
        text += (
            f" {excluding} of {format_count(len(known), 'interval')} exclude 0; without any true difference, about one "
            "in twenty would with two groups, and more where a pair is chosen from several."
        )
    return text


def list_losses(report: Report) -> list[tuple[str, str, str]]:
    """Return the missing responses (hospital, when, reason); a hospital's equal failures in several rounds are one."""
    rounds: dict[tuple[str, str], list[int]] = {}
    for line in report.rounds:
        for site, reason in line.lost.items():
            rounds.setdefault((site, reason), []).append(line.number)
    losses = [(site, _format_rounds(numbers), reason) for (site, reason), numbers in rounds.items()]
    for site, reason in report.lost.items():
        if (site, reason) not in rounds:
            when = "final evaluation" if reason.startswith(FINAL_EVALUATION) else "handshake or training"
            losses.append((site, when, reason.removeprefix(FINAL_EVALUATION)))
    return sorted(losses)


def _format_rounds(numbers: list[int]) -> str:
    listed = ", ".join(str(number) for number in numbers[:10])
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"round{'s' if len(numbers) > 1 else ''} {listed}{more}"
