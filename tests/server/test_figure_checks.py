"""Sums and figures that do not fit lose their site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.site import Site
from tests import tiny
from tests.server.hostile_replies import MARKUP, counts_times, having, run_with, tables_as, without
from tests.wire import Answer, change_report


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    sites = {name: tiny.site(name, seed) for seed, name in enumerate(("east", "north", "west"), start=1)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    return sites


def sums_as(**changes: Any) -> Callable[[Any], Answer]:
    return lambda reply: replace(reply, sums={**reply.sums, **{k: f(reply.sums[k]) for k, f in changes.items()}})


def resampled_three_times(reply: Any) -> Answer:
    whole = reply.tables["all"]
    drawn = replace(
        whole, confusion=np.stack([whole.confusion] * 3), scores=np.stack([whole.scores] * 3), loss=np.zeros(3)
    )
    return replace(reply, tables={**reply.tables, "all/resampled": drawn})


def another_table(name: str) -> Callable[[Any], Answer]:
    def change(reply: Any) -> Answer:
        figures = reply.report.evaluations
        more = change_report(reply, evaluations={**figures, name: figures["all"]})
        return replace(more, tables={**reply.tables, name: reply.tables["all"]})

    return change


SCALING = {
    "1e300": (sums_as(total=lambda v: v * 0 + 1e300), "its sums total reach 1e+300 (at most 1e+30)"),
    "NaN": (sums_as(square=lambda v: v * np.nan), "its sums square are not finite numbers"),
    "negative": (sums_as(square=lambda v: -v - 1), "its sums square are below 0"),
    "a huge count": (sums_as(count=lambda v: v * 0 + 1e12), "its sums are not over the 24 examples that it stated"),
    "sums without squares": (sums_as(square=lambda v: v * 0), "its sums and sums of squares do not fit each other"),
    "another shape": (sums_as(count=lambda v: np.zeros(7)), "its sums do not fit the task"),
    "another name": (lambda r: replace(r, sums={"count": r.sums["count"]}), "its sums do not fit the task"),
    "other numbers": (sums_as(count=lambda v: v.astype(np.int64)), "is no sum"),
}


@pytest.mark.parametrize("name", SCALING)
def test_sums_that_do_not_fit_lose_their_site(name: str, sites: dict[str, Site], tmp_path: Path) -> None:
    change, reason = SCALING[name]
    done = run_with(sites, "scaling", change, tmp_path, federation__rounds=1)
    assert done["status"] == "complete"
    assert done["lost"]["west"].startswith("scaling: ")
    assert reason in done["lost"]["west"], done["lost"]


TEST = {
    "suppressed a text": (having({"all": "x"}, "suppressed"), "suppressed.all: Input should be a valid integer"),
    "suppressed a list": (having([1], "suppressed"), "suppressed: Input should be"),
    "an unknown table suppressed": (
        having({"other": 5}, "suppressed"),
        "its table 'other' is none that this run asks for",
    ),
    "a view of junk": (having({MARKUP: MARKUP}, "view"), "holds control characters"),
    "a view of no model": (having({"cells": 2}, "view"), "view.reach: Field required"),
    "a view of other classes": (
        having({"cells": 2, "reach": 4.0, "counts": {"<b>": {"1": 2}}, "hidden": {}}, "view"),
        "its view of latent space does not fit the task",
    ),
    "an explanation of junk": (having([1], "explanation"), "explanation: Input should be"),
    "an explanation of other inputs": (
        having({"method": "none", "patients": 1, "features": {"<b>": 1.0}}, "explanation"),
        "its explanation does not fit the task",
    ),
    "no evaluations": (without("evaluations"), "evaluations: Field required"),
    "an unknown recalibration": (
        having({"patients": 1, "methods": {"magic": {}}}, "recalibration"),
        "it recalibrated in a way that this run does not ask for",
    ),
    "negative counts": (tables_as(counts_times(-1)), "are below 0"),
    "counts a million times": (tables_as(counts_times(10**6)), "of more than the 16 examples that it stated"),
    "three resamples": (resampled_three_times, "its counts all/resampled do not fit the task"),
    "a group of markup": (another_table("group <b>x</b>"), "its table 'group <b>x</b>' is none that this run asks for"),
    "an AUROC of 7.5": (
        having(7.5, "evaluations", "all", "macro_auroc", "value"),
        "state macro_auroc 7.5, their counts say",
    ),
    "a better accuracy": (
        having(0.999, "evaluations", "all", "accuracy", "value"),
        "state accuracy 0.999, their counts say",
    ),
    "a billion patients": (
        having(10**9, "evaluations", "all", "patients"),
        "of 1000000000 patients, in the handshake it st",
    ),
    "negative patients": (having(-3, "evaluations", "all", "patients"), "its figures all are of"),
    "another confusion": (having([[1, 0, 0]] * 3, "evaluations", "all", "confusion"), "do not fit their counts"),
    "a note that moves the cursor": (having(["\x1b[2J"], "evaluations", "all", "notes"), "holds control characters"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEST)
def test_figures_that_do_not_fit_lose_their_site(name: str, sites: dict[str, Site], tmp_path: Path) -> None:
    change, reason = TEST[name]
    done = run_with(sites, "test", change, tmp_path, federation__rounds=1)
    assert done["status"] == "complete"
    assert list(done["lost"]) == ["west"]
    assert reason in done["lost"]["west"], done["lost"]
    assert set(done["test"]["all"]) == {"east", "north"}
    assert done["pooled"]["all"]["patients"] == 4


def test_a_site_with_other_columns_is_not_compared(sites: dict[str, Site], tmp_path: Path) -> None:
    def renamed(reply: Any) -> Answer:
        return change_report(reply, columns=("other",))

    shift = run_with(sites, "domain_shift", renamed, tmp_path, federation__rounds=1)["shift"]
    assert shift["lost"] == {"west": "it has other columns to compare than most sites"}
    assert [(pair["one"], pair["other"]) for pair in shift["pairs"]] == [("east", "north")]
