"""How many events are missed in each group of patients, as sentences."""

from __future__ import annotations

from common.metrics.figures import FEW_PATIENTS
from experiments.report.document.report import Report
from experiments.report.text.cases import CaseCounts, count_events, list_decided_classes, name_events
from experiments.report.text.formatting import capitalise, format_count


def describe_groups_missed(report: Report) -> list[str]:
    """Return a sentence for each attribute, such as sex, with what is missed in its groups; no group is selected."""
    model, wanted = report.federated, set(list_decided_classes(report))
    if model is None or not wanted:
        return []
    sentences = []
    for attribute, groups in model.groups.items():
        counted = {
            group: count_events(report, subset.pooled)
            for group, subset in groups.items()
            if subset.pooled is not None and not wanted - set(subset.pooled.classes)
        }
        parts = [
            f"{group}: {cases.missed:,} of {cases.events:,}{_note_few(cases)}"
            for group, cases in counted.items()
            if cases.events
        ]
        if len(parts) > 1:
            sentences.append(f"Missed {name_events(report)}, by {attribute}. {capitalise('; '.join(parts))}.")
    return sentences


def _note_few(cases: CaseCounts) -> str:
    few = cases.patients < FEW_PATIENTS
    return f" (from {format_count(cases.patients, 'patient')}, few)" if few else ""
