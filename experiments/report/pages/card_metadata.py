"""The block of YAML at the head of a model card, in the form that the Hugging Face Hub and its library read.

Keys: https://huggingface.co/docs/hub/model-cards and the library's `ModelCardData`. It states what the report states:
results over all hospitals, the kind of the task, and what must accompany every result as tags.
"""

from __future__ import annotations

from typing import Any

import yaml

from common.metrics.figures import Evaluation
from experiments.report.document.report import Report
from experiments.report.text import formatting

METRIC_TYPES = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "auroc": "roc_auc",
    "macro_auroc": "roc_auc",
    "auprc": "average_precision",
    "macro_auprc": "average_precision",
}
"""The Hub's names of metrics that it knows; the others keep the name that report.json has."""


def render_card_metadata(report: Report) -> str:
    """Return the block with its two lines of dashes."""
    lines = yaml.safe_dump(build_card_metadata(report), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{lines}---\n"


def build_card_metadata(report: Report) -> dict[str, Any]:
    """Return the keys and values of the block."""
    about: dict[str, Any] = {
        "library_name": "wardround",
        "license": "other",
        "license_name": "follows-from-the-licence-of-the-data",
        "tags": ["federated-learning", "medical", *sorted({notice.level for notice in report.notices} - {"warning"})],
    }
    tabular = bool(report.task) and not report.task.get("channels")
    if tabular:
        about["pipeline_tag"] = "tabular-classification"
    model = report.federated
    if model is None or model.pooled is None:
        return about
    name = _flatten(report.data.title) or "not recorded"
    dataset = {
        "type": _flatten(report.run.config.get("data", {}).get("dataset", "")) or "not-recorded",
        "name": f"{name} (SYNTHETIC)" if report.has("synthetic") else name,
        "split": "test",
    }
    task = {"type": "tabular-classification" if tabular else "classification", "name": _flatten(report.task["name"])}
    kind = report.data.site_kind
    metrics = [
        item for metric in formatting.list_table_metrics(report) if (item := _state_metric(model.pooled, metric, kind))
    ]
    about["metrics"] = list(dict.fromkeys(item["type"] for item in metrics))
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    return about | {"model-index": [{"name": report.run.id, "results": [result]}]}


def _state_metric(evaluation: Evaluation, metric: str, kind: str) -> dict[str, Any] | None:
    figure = evaluation.figure(metric)
    if figure is None or figure.value is None:
        return None
    interval = formatting.format_interval(figure)
    title = formatting.capitalise(formatting.metric_title(metric)) + f", all {kind}s"
    return {
        "type": METRIC_TYPES.get(metric, metric),
        "name": f"{title} (95% interval {interval})" if interval else title,
        "value": round(figure.value, 4),
    }


def _flatten(text: object) -> str:
    """Return a text on one line."""
    return " ".join(str(text).split())
