"""The findings as plain sentences, and the sums and means that tables and sentences share."""

from __future__ import annotations

import math

from common.metrics.evaluation import metric_value
from common.metrics.figures import FEW_PATIENTS, Evaluation
from experiments.report.document.report import Report
from experiments.report.document.results import ModelResult, Subset
from experiments.report.document.run import Site, Split
from experiments.report.text.formatting import format_count, format_figure, format_number, metric_title

LOCAL_LAYERS = {"fedper": "the layers that federation.strategy.options names", "fedbn": "the normalisation layers"}
"""What the strategies that keep layers at the hospitals keep."""
FINAL_EVALUATION = "final evaluation: "
"""How the reason begins when a hospital was lost after the rounds."""


def describe_status(report: Report) -> str:
    """Return how the run ended, in one line."""
    done, planned = (report.rounds[-1].number if report.rounds else 0), report.planned_rounds
    where = f"round {done} of {planned}" if done else "the first round was done"
    if report.run.status == "complete":
        return f"Complete: {format_count(done, 'round')}" if done else "Complete"
    word = "Interrupted" if report.run.status == "interrupted" else "Failed"
    return f"{word} {'after' if done else 'before'} {where}"


def summarise_findings(report: Report) -> list[str]:
    """Return the findings as sentences that need no table."""
    name = metric_title(report.metric)
    found = [_training(report, name)]
    found += describe_privacy(report)
    model = report.federated
    if model is None or model.pooled is None:
        text = "There are no test figures: the run ended before the final evaluation."
        kept = next((line for line in report.rounds if line.number == report.chosen_round), None)
        value = getattr(kept.validation, report.metric, None) if kept else None
        if kept and kept.validation and value is not None:
            people = format_count(kept.validation.patients, "validation patient")
            text += f" After round {kept.number} the {name} was {format_number(value)} on {people}."
        return [*found, text]
    people = format_count(model.pooled.patients, "patient")
    if report.has("leak"):
        who = f"test examples of {people}, some of them also seen in training"
    else:
        who = f"{people} never seen in training"
    found.append(f"On {who}, its {name} is {format_figure(model.pooled, report.metric)}.")
    if model.threshold is not None:
        rule = report.run.config.get("evaluation", {}).get("threshold", "")
        what = f"an anomaly score of {math.exp(model.threshold):.3g}"
        if not report.detecting:
            what = f"a predicted probability of {1 / (1 + math.exp(-model.threshold)):.3f}"
        chosen = f"chosen by {metric_title(rule)}"
        if rule == "false_alarms":
            share = report.run.config.get("evaluation", {}).get("false_alarms", 0.05)
            chosen = f"chosen for {100 * share:g}% false alarms"
        called = list(report.class_titles.values())[-1]
        found.append(f"It calls {called} from {what} on, {chosen} on validation patients.")
    if model.worst:
        item = model.sites[model.worst.site]
        found.append(
            f"The worst hospital is {model.worst.site}, with {format_figure(item, report.metric)} on "
            f"{format_count(item.patients, 'patient')}."
        )
    found += _comparison(report, name)
    few = [name for name, item in model.sites.items() if item.patients < FEW_PATIENTS]
    if few:
        names = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
        found.append(
            f"Fewer than {FEW_PATIENTS} test patients stand behind the figures of {names}: "
            "one patient can change them much."
        )
    return found


def _training(report: Report, name: str) -> str:
    trained = {name for line in report.rounds for name, site in line.sites.items() if site.train}
    if not report.rounds:
        return "No round of training was finished."
    text = f"One model was trained by {format_count(len(trained), 'hospital')} over "
    text += format_count(len(report.rounds), "round")
    local = LOCAL_LAYERS.get(report.run.config.get("federation", {}).get("strategy", {}).get("name", ""))
    if local:
        text += f"; {local} stayed at each hospital, so that its model is the shared layers with its own"
    if report.chosen_round is None or all(line.validation is None for line in report.rounds):
        return text + "."
    by = f"{name} on validation patients"
    if report.detecting:
        by = "its error on the normal examples of validation patients"
    return f"{text}; round {report.chosen_round} is kept, the best by {by}."


def describe_privacy(report: Report) -> list[str]:
    """Return what was spent of patients' privacy, in one sentence; nothing if training was not private."""
    if not report.privacy:
        return []
    most = max(report.privacy, key=lambda item: item.epsilon_run)
    text = f"Training was private per {most.unit}: it spent epsilon {most.epsilon_run:.2f} at most at delta "
    total = max(item.epsilon for item in report.privacy)
    text += f"{most.delta:g} ({most.site}); all runs on the same data, {total:.2f} at most."
    if report.has("not-private"):
        text = f"NOT PRIVATE: the noise can be taken away. By the sums it would be: {text}"
    return [text]


def compute_local_mean(report: Report, metric: str) -> float | None:
    """Return the plain mean over the local models of their figure on all hospitals' patients."""
    values = [metric_value(model.pooled, metric) for model in report.locals if model.pooled]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(report.locals) else None


def _comparison(report: Report, name: str) -> list[str]:
    pooled, alone = report.model("pooled"), compute_local_mean(report, report.metric)
    parts = []
    if pooled and pooled.pooled:
        reached = format_figure(pooled.pooled, report.metric)
        parts.append(f"a model trained on all hospitals' data in one place reaches {reached}")
    if alone is not None:
        parts.append(f"a model trained at one hospital alone reaches {format_number(alone)} on average")
    return [f"For comparison, by {name} on the same patients: {'; '.join(parts)}."] if parts else []


def explain_missing_test(report: Report, site: Site | None = None) -> str:
    """Return why there are no test figures, of one hospital or of all."""
    if site is not None and site.lost and (site.lost.startswith(FINAL_EVALUATION) or report.run.status == "complete"):
        return site.lost
    if report.run.status != "complete":
        return "the run ended before the final evaluation"
    if site is not None and "test" in site.counts and not site.counts["test"].examples:
        return "no test patients here"
    return "not evaluated"


def list_models_at(report: Report, site: str) -> list[tuple[str, Evaluation]]:
    """Return the models that concern one hospital, with their figures on its patients."""
    found = []
    for model in report.models:
        if site in model.sites and (model.trained_at in (None, site)):
            found.append((model.title, model.sites[site]))
    return found


def sum_over_sites(report: Report, split: Split, what: str) -> int:
    """Return a sum over hospitals of `patients`, `examples` or the examples of a class."""
    counts = [site.counts[split] for site in report.sites if split in site.counts]
    if what in ("patients", "examples"):
        return sum(int(getattr(item, what)) for item in counts)
    return sum(item.classes.get(what) or 0 for item in counts)


def list_subsets(report: Report) -> list[tuple[str, ModelResult, Evaluation]]:
    """Return the figures over all hospitals with all patients and without some: label, model, figures."""
    labels = report.federated.without if report.federated else {}
    found = []
    for label in (None, *labels):
        for model in report.models:
            item = model.pooled if label is None else model.without.get(label, Subset()).pooled
            if item is not None and (model.trained_at is None or model.without):
                found.append(("All patients" if label is None else f"Without {label}", model, item))
    return found
