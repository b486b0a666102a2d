"""Attacks on a hospital's gate by a coordinator who chooses all settings and weights, and how many rows they give.

Each attack asks the hospital's own code as a server would, under a policy, and compares the replies with the rows
that the hospital holds. A row is recovered if the attack gives a person's inputs, or a count that rests on one person
alone. The audit fails if any is: under the default policy none may be.

The attacks, with where they come from:
- one person from a sum: `sites.limit=1`; the difference of `limit=k+1` and `limit=k`;
- one person from an update: training on one; a trap weight (Boenisch et al. 2021, arXiv:2112.02918) in the first round
  and in a later one;
- codes in a histogram: a linear model whose score is different for every person, with as many bins as are allowed;
- a difference of two answers: thresholds, or edges of groups, that have one person between them;
- single weights: a rare code in an honest update; one value alone in a rank table; columns of a crafted layer;
- four windows of one score, whose sum is a narrow one; a clipping norm whose square is 0 in single precision;
- one person in a bin of the histograms that trees are grown from (Di Gennaro et al. 2025, arXiv:2506.07605);
- people who trained, tested: another seed and a large share of test patients.

How well answers show whether a known person is among the patients is measured in membership.py.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client.policy import SitePolicy
from client.site import load_site
from client.site_context import SiteContext
from common.config import RunConfig
from common.errors import AuditError, ConfigError
from experiments.privacy.gate_attacks import ATTACKS, AttackResult, Coordinator
from experiments.privacy.tree_attacks import TREE_ATTACKS
from experiments.privacy.weight_attacks import WEIGHT_ATTACKS


def audit_gate(
    config: RunConfig, data: Path, policy: SitePolicy, site: str = "hospital", *, required: bool = True
) -> list[AttackResult]:
    """Attack a hospital's gate; each attack starts with a new register, as at a hospital in its first run.

    Args:
        config: the run; its task must have tabular inputs and two classes.
        data: the hospital's data folder.
        policy: what the hospital allows.
        site: the hospital's name.
        required: whether a task of another kind is an error; else there are no results of it.

    Raises:
        ConfigError: the task is of another kind.
    """
    results = []
    for attack in (*ATTACKS, *WEIGHT_ATTACKS, *TREE_ATTACKS):
        with tempfile.TemporaryDirectory() as state:
            context = SiteContext(policy, site=site, data=data, state=Path(state))
            coordinator = Coordinator(config, context)
            everything = SiteContext(allow_requested_split(policy), site=site, data=data, state=Path(state) / "own")
            whole = load_site(everything, config)
            if not whole.task.binary or whole.task.channels:
                if not required:
                    return []
                raise ConfigError(
                    "the gate's audit needs a task of two classes with tabular inputs, such as heart_disease"
                )
            results.append(attack(coordinator, whole))
    return results


def allow_requested_split(policy: SitePolicy) -> SitePolicy:
    """Return the policy with `split: requested`, under which the audit reads all rows, for comparison."""
    return policy.model_copy(update={"split": "requested"})


def raise_if_recovered(results: list[AttackResult]) -> None:
    """Raise AuditError if an attack recovered a row."""
    for item in results:
        if item.rows:
            raise AuditError(f"FAILED: {item.name}: {item.rows} of {item.people} rows recovered")


def to_dict(results: list[AttackResult]) -> dict[str, Any]:
    """Return the results, JSON-ready."""
    return {"attacks": [asdict(item) for item in results], "rows": sum(item.rows for item in results)}


def render_table(results: list[AttackResult]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| attack | rows recovered | requests | first refusal |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {item.name} | {item.rows} of {item.people} | {item.requests} | {item.refused or 'none'} |"
        for item in results
    ]
    return "\n".join(lines)
