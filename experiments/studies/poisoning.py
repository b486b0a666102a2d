"""The loss of accuracy that one dishonest hospital causes, by attack and strategy.

    python -m experiments.studies.poisoning                                       # SYNTHETIC hospitals
    python -m experiments.studies.poisoning --set data.path=data/heart-disease    # the four hospitals of UCI

The settings are those of experiments/heart_disease.yaml with a shared intercept and fewer rounds. Each hospital in turn
is the attacker. It answers honestly until the rounds begin and then attacks in every round; server and honest hospitals
run the program's own code. Accuracy is that of the honest hospitals' test patients, pooled, and is compared with that
of the same strategy's run in which nobody attacks. Repeat r has seed r and split (`data.options.draw`) r - 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Context, Message
from scipy.stats import t as student_t

from client.app import app as honest_app
from client.requests import handle
from client.site_context import read_site_context
from common import messages
from common.config import RunConfig, parse_config
from common.errors import WardroundError
from common.replies import HandshakeReply
from common.requests import TrainRequest
from common.run_folder import RunFolder
from common.seeds import rng_for
from experiments.engines.local import LocalGrid
from experiments.markdown_table import render_markdown_table
from experiments.runs.checks import resolve_paths
from experiments.studies.poisoning_attacks import (
    ATTACKS,
    Attack,
    Turn,
    multiply_counts,
    scale_update,
    turn_and_state_false_counts,
)
from server.app import run_federation
from sites import datasets

Array = npt.NDArray[Any]
SETTINGS: dict[str, Any] = {
    "name": "poisoning",
    "data": {"dataset": "heart_disease", "scaling": "standard", "options": {"simulated": True}},
    "sites": {"scheme": "natural", "split": "published", "validation": 0.0},
    "model": {"name": "logreg"},
    "training": {
        "epochs": 1, "batch_size": 4096, "optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.041,
        "loss": "cross_entropy",
    },
    "federation": {"rounds": 20, "choose": "last", "on_lost": "continue"},
    "evaluation": {"metric": "accuracy", "bootstrap": 0},
}  # fmt: skip
STRATEGIES: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "fedmedian": {"name": "fedmedian"},
    "fedtrimmedavg, cut 0.34": {"name": "fedtrimmedavg", "options": {"cut": 0.34}},
    "geomedian": {"name": "geomedian"},
    "geomedian, weighted, cap 0.4": {"name": "geomedian", "options": {"weighted": True}},
    "krum, malicious 1": {"name": "krum", "options": {"malicious": 1}},
    "krum, malicious 0": {"name": "krum"},
    "multikrum, malicious 0, select 2": {"name": "multikrum", "options": {"select": 2}},
}
"""The strategies of the table. A cut of 0.34 removes one site at either end of four, and of three if one is refused."""
WEIGHT_CAPS = {"geomedian, weighted, cap 0.4": 0.4}
"""`federation.weight_cap` of the strategies that need one."""


@dataclass(frozen=True)
class PoisonedApp:
    """The client's app at every node but one, which attacks when it is asked to train.

    Attributes:
        node: the attacker's node.
        attack: what it answers.
    """

    node: int
    attack: Attack

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the answer of a node."""
        kind = message.metadata.message_type
        is_false = context.node_id == self.node and self.attack is turn_and_state_false_counts
        if is_false and kind == messages.MESSAGE_TYPES["handshake"]:
            requested = messages.unpack_request("handshake", message.content)
            stated = handle(read_site_context(context.node_config), requested)
            assert isinstance(stated, HandshakeReply)
            return Message(messages.pack_reply(multiply_counts(stated)), reply_to=message)
        if context.node_id != self.node or kind != messages.MESSAGE_TYPES["train"]:
            return honest_app(message, context)
        request = messages.unpack_request("train", message.content)
        assert isinstance(request, TrainRequest)
        seed = request.config.seed
        turn = Turn(
            read_site_context(context.node_config),
            request,
            rng_for(seed, "attack", self.node, request.round),
            rng_for(seed, "attack", self.node),
        )
        return Message(messages.pack_reply(self.attack(turn)), reply_to=message)


@dataclass(frozen=True)
class Result:
    """The outcome of one run.

    Attributes:
        counts: numbers of test patients classified correctly and of all test patients, by site; empty if the run
            failed.
        refused: why the server refused a site's replies, by site.
        error: why the run failed, or empty.
    """

    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    def accuracy(self, sites: Sequence[str]) -> float:
        """Return the pooled accuracy of some sites' test patients; 0 where the run gave no model."""
        pairs = [self.counts[site] for site in sites if site in self.counts]
        return sum(right for right, _ in pairs) / sum(total for _, total in pairs) if pairs else 0.0


def run_poisoned(config: RunConfig, sites: int, attacker: int | None, attack: Attack) -> Result:
    """Run a federation in memory.

    Args:
        config: the run.
        sites: how many hospitals it has.
        attacker: the node that attacks, from 1; None: nobody does.
        attack: what the attacker answers.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    app = honest_app if attacker is None else PoisonedApp(attacker, attack)
    with tempfile.TemporaryDirectory(prefix="wardround-") as name:
        folder, error = Path(name), ""
        grid = LocalGrid(app, sites, workers=1, state=RunFolder(folder).sites)
        try:
            run_federation(grid, config, folder)
        except WardroundError as problem:
            error = str(problem)
        finally:
            grid.close()
        outcome = json.loads(RunFolder(folder).outcome.read_text(encoding="utf-8"))
    counts = {}
    for site, figures in outcome["test"].get("all", {}).items():
        table = np.reshape(figures["confusion"], (len(figures["classes"]), -1))
        counts[site] = int(np.trace(table)), int(table.sum())
    return Result(counts, outcome["lost"], error)


def build_config(repeat: int, strategy: Mapping[str, Any], settings: Sequence[str]) -> RunConfig:
    """Return the configuration of a repeat (from 1).

    Raises:
        ConfigError: a setting is wrong.
    """
    own = [f"seed={repeat}", f"data.options.draw={repeat - 1}", f"federation.strategy={json.dumps(strategy)}"]
    return resolve_paths(parse_config(SETTINGS, [*own, *settings]))


def run_study(strategies: Sequence[str], repeats: int, settings: Sequence[str]) -> dict[str, Any]:
    """Return the results, JSON-ready, by strategy.

    Each has `honest`, the accuracy of all test patients in each repeat without an attack, and `attacks`: by attack and
    attacker the difference in each repeat on the honest hospitals' patients. A strategy that ends the run without an
    attack has `error` instead. `refused` holds what the server says of replies that it does not use.
    """
    results: dict[str, Any] = {}
    for label in strategies:
        result: dict[str, Any] = {"honest": [], "attacks": {}, "refused": {}}
        results[label] = result
        for repeat in range(1, repeats + 1):
            cap = [f"federation.weight_cap={WEIGHT_CAPS[label]}"] if label in WEIGHT_CAPS else []
            config = build_config(repeat, STRATEGIES[label], [*cap, *settings])
            names = sorted(datasets.assign_hospitals(datasets.open_source(config, None), config)[0])
            honest = run_poisoned(config, len(names), None, scale_update(1))
            if honest.error:
                result["error"] = honest.error
                break
            result["honest"].append(honest.accuracy(names))
            for attack, answer in ATTACKS.items():
                for node, name in enumerate(names, start=1):
                    others = [site for site in names if site != name]
                    run = run_poisoned(config, len(names), node, answer)
                    change = run.accuracy(others) - honest.accuracy(others)
                    result["attacks"].setdefault(attack, {}).setdefault(name, []).append(change)
                    if reason := run.error or run.refused.get(name):
                        result["refused"].setdefault(attack, reason)
    return results


def mean_interval(values: Sequence[float] | Array) -> tuple[float, float, float]:
    """Return the mean of the differences of repeats, and its 95% interval by Student's t.

    >>> [round(value, 3) for value in mean_interval([-0.02, -0.01, 0.0])]
    [-0.01, -0.035, 0.015]
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(student_t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def render_tables(results: Mapping[str, Any]) -> str:
    """Return two Markdown tables: the mean over attackers with its interval, and the attacker that costs most."""
    attacks = list(ATTACKS)
    means, worst, notes = [], [], []
    for label, result in results.items():
        if "error" in result:
            notes.append(f"- {label}: the run ends without an attack: {result['error']}")
            continue
        honest = f"{np.mean(result['honest']):.3f}"
        row, worst_row = [label, honest], [label, honest]
        for attack in attacks:
            by_site = result["attacks"][attack]
            row.append(_format_change(np.mean(list(by_site.values()), axis=0)))
            site = min(by_site, key=lambda name: float(np.mean(by_site[name])))
            worst_row.append(f"{_format_change(by_site[site])}, {site}")
        means.append(row)
        worst.append(worst_row)
        notes += [f"- {label}, {attack}: {reason}" for attack, reason in result["refused"].items()]
    head = ["strategy", "accuracy without attack", *attacks]
    return "\n\n".join(
        (
            "Change of accuracy, mean over attackers (95% interval over repeats).",
            render_markdown_table(head, means),
            "Change of accuracy with the attacker that costs most (95% interval over repeats).",
            render_markdown_table(head, worst),
            "What the server refused, first reason each:",
            "\n".join(notes) or "- nothing",
        )
    )


def _format_change(values: Sequence[float] | Array) -> str:
    """Return the mean and interval of differences; one repeat has no interval."""
    mean, low, high = mean_interval(values)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if len(values) > 1 else f"{mean:+.3f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a setting, as section.key=value")
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES), help="a row; default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print all numbers")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error("--repeats: at least 1")
    results = run_study(given.strategy or list(STRATEGIES), given.repeats, given.settings)
    real = build_config(1, STRATEGIES["fedavg"], given.settings).data.path is not None
    text = render_tables(results) if not given.json else json.dumps(results, indent=1)
    print(text if real or given.json else f"SYNTHETIC hospitals: these figures say nothing about patients.\n\n{text}")


if __name__ == "__main__":
    main()
