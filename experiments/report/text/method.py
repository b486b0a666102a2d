"""How a run's model was trained, and what the server received, in words."""

from __future__ import annotations

from common.trees import grows_trees
from experiments.report.document.report import Report


def describe_method(report: Report) -> str:
    """Return the model and how hospitals train it together; "" where it is not recorded."""
    config = report.run.config
    name = str(config.get("model", {}).get("name") or "")
    if grows_trees(name):
        return f"{name}: trees that {report.data.site_kind}s grow together from sums over their patients"
    strategy = config.get("federation", {}).get("strategy", {}).get("name", "federated averaging")
    return f"{name}, trained by {strategy}" if name else ""


def describe_received(report: Report) -> str:
    """Return what the server receives from each hospital during training."""
    kind = report.data.site_kind
    if not grows_trees(str(report.run.config.get("model", {}).get("name"))):
        return f"each {kind}'s update, not only the sum"
    return f"each {kind}'s sums of gradients for the bins or leaves of the trees, not only those of all together"
