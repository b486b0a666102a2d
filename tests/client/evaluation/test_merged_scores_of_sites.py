"""Scores that the bins merge, from a site's evaluation to the server's check of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.evaluation.evaluate import SiteEvaluation, evaluate_site
from client.gate.disclosure import ReleaseRules
from client.gate.register import Register
from client.policy import SitePolicy
from common.metrics.counts import auroc
from common.metrics.merged_scores import MERGED, bound_tie_error, describe_merged, has_ties_note
from common.metrics.table_names import ALL_PATIENTS
from server.reply_checks import _find_value_fault
from tests import tiny

PEOPLE = 150


def evaluate(scale: float, rules: ReleaseRules | None = None, bins: int = 1024, people: int = PEOPLE) -> SiteEvaluation:
    whole = tiny.cohort(4, people=people, each=1 if rules else 4)
    site = tiny.site("north", 4, whole, parts=(2,) * people)
    score = np.random.default_rng(1).normal(size=(len(site.test.y), 3)) + np.eye(3)[site.test.y]
    config = tiny.run_config(evaluation={"bootstrap": 50, "bins": bins})
    minimum = rules.policy.min_cell_patients if rules else 1
    return evaluate_site(
        lambda _: (score * scale).astype(np.float32), site, config, rules is None, minimum=minimum, rules=rules
    )


def test_a_simulated_site_compares_with_its_exact_scores() -> None:
    usual, close = evaluate(1.0).results[ALL_PATIENTS], evaluate(0.001).results[ALL_PATIENTS]
    assert usual.macro_auroc.value is not None
    assert not any(note.startswith(MERGED) for note in usual.notes)
    assert close.macro_auroc.value is None
    assert {describe_merged(name) for name in close.classes} <= set(close.notes)
    assert close.accuracy == usual.accuracy


def test_the_server_takes_figures_that_are_refused_and_no_others() -> None:
    close = evaluate(0.001)
    item, table = close.results[ALL_PATIENTS], close.tables[ALL_PATIENTS]
    task = tiny.site("north", 4).task
    assert _find_value_fault(item, table, task) == ""
    silent = item.model_copy(update={"notes": ()})
    assert "macro_auroc None" in _find_value_fault(silent, table, task)


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_what_a_hospital_says_of_ties_follows_from_the_counts_that_leave(tmp_path: Path, scale: float) -> None:
    rules = ReleaseRules.from_register(SitePolicy(), Register(tmp_path / "r" / "register.sqlite", "north"), "h", "run")
    answer = evaluate(scale, rules, bins=62)
    item, scores = answer.results[ALL_PATIENTS], answer.tables[ALL_PATIENTS].scores
    assert not any(note.startswith(MERGED) for note in item.notes)
    assert has_ties_note(item)
    for name, area, bound in zip(item.classes, auroc(scores), bound_tie_error(scores), strict=True):
        assert item.classes[name].auroc.value == pytest.approx(area)
        assert any(f"of {name}: its AUROC is that of the scores to within {bound:.2f}" in note for note in item.notes)


@pytest.mark.parametrize("people", [60, 150, 450])
def test_bins_that_leave_a_hospital_give_no_auroc_of_few_people(tmp_path: Path, people: int) -> None:
    """Of three classes: about 20, 50 and 150 people of each."""
    rules = ReleaseRules.from_register(SitePolicy(), Register(tmp_path / "r" / "register.sqlite", "north"), "h", "run")
    item = evaluate(1.0, rules, bins=62, people=people).results[ALL_PATIENTS]
    assert (item.macro_auroc.value is None) == (people == 60)
    assert any("too few people" in note for note in item.notes) == (people == 60)
    assert any("typically off by" in note for note in item.notes) == (people == 150)
    assert item.accuracy.value is not None
