"""What a report says of models that travel from one hospital to another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from common.metrics.figures import Figure
from experiments.report.build import build_report
from experiments.report.document.shift import LeftOutSite, TransferResult
from experiments.report.text.transfers import summarise_left_out, summarise_transfers
from tests.experiments.report.plain_page import render_plain


def test_travel_recalibration_and_leaving_out_stand_on_the_page(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    figure = {"value": 0.81, "low": 0.7, "high": 0.9}
    drop = {"value": -0.0814, "low": -0.12, "high": -0.04}
    both = {"macro_auroc": figure, "macro_f1": figure}
    trip = {
        "family": "local", "trained": "north", "tested": "west", "ranking": "macro_auroc", "decision": "macro_f1",
        "recalibration": "threshold", "home": both, "away": both, "recalibrated": None, "own": both,
        "ranking_difference": drop, "decision_difference": drop,
        "recovered": None, "cause": "ranking", "verdict": "A loss of <ranking>.",
    }  # fmt: skip
    baselines = json.loads((folder / "baselines.json").read_text())
    (folder / "baselines.json").write_text(json.dumps(baselines | {"transfers": [trip]}))
    outcome = json.loads((folder / "federated.json").read_text())
    outcome["test"]["recalibrated temperature"] = {"north": outcome["test"]["all"]["north"]}
    recalibration = {"threshold": None, "difference": {"macro_f1": drop}}
    outcome["recalibration"] = {
        "north": {"patients": 9, "methods": {"temperature": recalibration}},
        "south": {"patients": 1, "reason": "fewer than 5 validation patients"},
    }
    (folder / "federated.json").write_text(json.dumps(outcome))
    left = {"site": "south", "internal": outcome["test"]["all"]["south"], "external": None, "difference": {}}
    worst = {"site": "west", "metric": "macro_f1", "value": 0.5}
    held = trip | {"verdict": "It held."}
    sites = [left, {**left, "site": "west", "transfer": held}]
    (folder / "leave-one-out.json").write_text(json.dumps({"sites": sites, "worst": worst}))
    text = render_plain(build_report(folder))
    for part in (
        "Transfer between hospitals", "1 with a loss of ranking, which no threshold can recover (north at west).",
        "<td>ranking</td>", "-0.081 (-0.120 to -0.040)",
        "-0.120 to -0.040<", "temperature",
        "Not recalibrated, fewer than 5 validation patients: south.", "when left out: west, macro-F1 0.500",
        "<dt>west left out</dt><dd>It held.</dd>", "no response from this hospital",
    ):  # fmt: skip
        assert part in text, part
    assert "A loss of &lt;ranking&gt;." not in text, "the table and one sentence say it; report.json has the words"
    outcome["recalibration"].pop("north")
    (folder / "federated.json").write_text(json.dumps(outcome))
    assert "recalibrated at each hospital, with" not in render_plain(build_report(folder))  # no table without a row
    bare = render_plain(build_report(make_run_again(folder)))
    assert "Transfer between hospitals" not in bare
    assert "Recalibration at each hospital" not in bare


def test_every_pair_is_counted_once_and_losses_are_named() -> None:
    causes = ["ranking"] * 8 + ["threshold", "unknown", "neither", "unknown"]
    figure = Figure(value=0.8, low=0.7, high=0.9)
    pairs = [
        TransferResult.model_validate(
            {"family": "local", "trained": f"site-{at}", "tested": "west", "ranking": "auroc", "decision": "macro_f1",
             "away": {"auroc": figure}, "own": {"auroc": figure}, "ranking_difference": figure,
             "decision_difference": figure, "cause": cause, "verdict": "words"}
        )
        for at, cause in enumerate(causes)
    ]  # fmt: skip
    text = summarise_transfers(pairs)
    assert text.startswith("Of 12 pairs: 8 with a loss of ranking, which no threshold can recover (site-0 at west, ")
    assert "site-5 at west and 2 more)" in text
    assert "1 with a loss by the threshold alone, which recalibration recovers (site-8 at west)" in text
    assert text.endswith("1 with no loss; 2 with too little data to distinguish the causes.")
    assert sum(int(n) for n in re.findall(r"(\d+) with ", text)) == len(causes)
    left = [LeftOutSite(site="south", transfer=pairs[0]), LeftOutSite(site="west")]
    assert summarise_left_out(left, "region").startswith("Of 1 region: 1 with a loss of ranking")
    assert summarise_left_out(left[1:], "region") == ""


def make_run_again(folder: Path) -> Path:
    """Return the folder as it is without what this run has beside its figures."""
    (folder / "leave-one-out.json").unlink()
    (folder / "baselines.json").unlink()
    outcome = json.loads((folder / "federated.json").read_text())
    del outcome["recalibration"]
    (folder / "federated.json").write_text(json.dumps(outcome))
    return folder
