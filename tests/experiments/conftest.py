"""A run's folder, made from a few predictions counted in earnest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.metrics import evaluation
from common.metrics.counts import Counts, count_predictions
from common.metrics.figures import Evaluation
from common.metrics.resampling import COARSE_FACTOR
from common.task import Task

CLASSES, TITLES = ("N", "V", "F"), ("normal", "ventricular", "fusion")
TASK = Task("beats", "multiclass", CLASSES, TITLES, 1, 8, 125.0, (), ("I",))
SITES = {"north": 6, "south": 3, "west": 5}
"""Hospitals and their test patients: south has few."""


def _counts(patients: int, seed: int, skill: float) -> tuple[Counts, list[int]]:
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), 20)
    truth = rng.choice(2, len(who), p=[0.8, 0.2])
    logits = rng.normal(size=(len(who), 3)) + skill * np.eye(3)[truth]
    counts = count_predictions(logits, truth, who, patients, 1024)
    return counts, [len(set(who[truth == c])) for c in range(3)]


def _figures(seed: int, skill: float, sites: Mapping[str, int]) -> dict[str, Any]:
    """Return `test` and `pooled` of one model: class F occurs nowhere, and south's labels are the hardest."""
    test: dict[str, Evaluation] = {}
    totals: dict[str, Counts] = {}
    drawn: dict[str, Counts] = {}
    for position, (site, patients) in enumerate(sites.items()):
        counts, held = _counts(patients, seed + position, skill * (0.1 if site == "south" else 1))
        totals[site] = counts.total()
        drawn[site] = evaluation.resample_patients(counts.coarser(COARSE_FACTOR), 50, np.random.default_rng(position))
        test[site] = evaluation.build_evaluation(TASK, totals[site], drawn[site], patients, held)
    together = evaluation.pool_evaluations(TASK, test, totals, drawn)
    first, last = next(iter(sites)), list(sites)[-1]
    without = {**test, first: evaluation.build_evaluation(TASK, totals[last], None, 5, [5, 5, 0])}
    return {
        "test": {
            "all": {site: item.model_dump() for site, item in test.items()},
            "without patient 7": {site: item.model_dump() for site, item in without.items()},
        },
        "pooled": {"all": together.model_dump(), "without patient 7": together.model_dump()},
    }


def _hello(patients: int, synthetic: bool) -> dict[str, Any]:
    part = {"patients": patients, "examples": patients * 20, "classes": [patients * 16, patients * 4, 0]}
    return {
        "task": TASK.to_dict(),
        "fingerprint": TASK.fingerprint(),
        "synthetic": synthetic,
        "split": "patient",
        "excluded": {"beats of class Q": 8},
        "counts": {"train": part, "validation": part, "test": part},
    }


def _round(number: int, planned: int, sites: Mapping[str, int]) -> dict[str, Any]:
    short = {
        "examples": 20,
        "patients": 2,
        "accuracy": 0.8,
        "macro_f1": 0.3 + number / 10,
        "macro_auroc": None,
    }
    site_results = {
        site: {"train": {"examples": 60, "loss": 1 / number}, "validation": {**short, "loss": 1 / number}}
        for site in sites
        if (number, site) != (2, "west")
    }
    return {
        "time": 1.0,
        "rounds": planned,
        "round": number,
        "sites": site_results,
        "weights": "ab",
        "seconds": 0.5,
        "lost": {"west": "no answer within 9 s"} if number == 2 else {},
        "validation": {**short, "loss": 1 / number},
        "chosen": number,
        "metric": "macro_f1",
    }


Make = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    def make(
        *,
        status: str = "complete",
        rounds: int = 3,
        planned: int = 3,
        synthetic: bool = False,
        baselines: bool = True,
        notices: tuple[Mapping[str, str], ...] = (),
        title: str = "A run",
        rename: tuple[str, str] | None = None,
        outcome: bool = True,
        hospitals: Mapping[str, int] = SITES,
    ) -> Path:
        folder = tmp_path / "run-1"
        folder.mkdir()
        done = status == "complete"
        sites = {site: _hello(patients, synthetic) for site, patients in hospitals.items()}
        federated = {
            "status": status,
            "error": "" if done else "stopped",
            "seconds": 4.2,
            "task": TASK.to_dict(),
            "sites": sites,
            "chosen": rounds,
            "weights": "ab",
            "lost": {"west": "no answer within 9 s"} if rounds > 1 else {},
            **(_figures(1, 2.0, hospitals) if done else {"test": {}, "pooled": {}}),
        }
        about = {
            "format": 2,
            "id": "run-1",
            "name": "run",
            "title": title,
            "created": "2026-02-03T14:05:59+00:00",
            "engine": "local",
            "seed": 1,
            "config": {"federation": {"rounds": planned}, "evaluation": {"metric": "macro_f1"}},
            "versions": {"wardround": "0.1.0"},
            "commit": "0123abc",
            "notices": list(notices),
            "seconds": 5.0,
            "data": {
                "name": "toy",
                "title": "Toy beats",
                "inputs": "one lead",
                "labels": "beats",
                "sites": "three",
                "splits": "by patient",
                "source": "here",
                "citation": "Nobody 2026",
                "licence": "CC0",
                "synthetic": synthetic,
            },
        }
        kind = {"kind": "local"}
        others = [
            {
                "name": "pooled",
                "title": "Pooled model",
                "kind": "pooled",
                "trained_at": None,
                **_figures(20, 3.0, hospitals),
            }
        ]
        for position, site in enumerate(hospitals):
            alone = {"name": f"local:{site}", "title": f"Trained at {site} alone", **kind, "trained_at": site}
            others.append({**alone, **_figures(40, 0.5 + position % 7, hospitals)})
        files = {"run.json": json.dumps(about)}
        if outcome:
            files["federated.json"] = json.dumps(federated)
        if baselines and done:
            files["baselines.json"] = json.dumps({"models": others})
        files["rounds.jsonl"] = "".join(json.dumps(_round(n, planned, hospitals)) + "\n" for n in range(1, rounds + 1))
        files["events.jsonl"] = json.dumps({"event": "handshake", "sites": sites, "refused": {}}) + "\n"
        for name, text in files.items():
            if rename:
                text = text.replace(json.dumps(rename[0])[1:-1], json.dumps(rename[1])[1:-1])
            (folder / name).write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def twenty(make_run: Make) -> Path:
    """Return a run of twenty hospitals, each with its own model."""
    return make_run(
        hospitals={f"ward-{position:02d}": 2 + position % 7 for position in range(1, 21)}, rounds=8, planned=8
    )
