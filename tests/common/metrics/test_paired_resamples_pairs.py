"""Draws of figures, and paired differences of models, against drawing the patients and counting their rows anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as theirs

from common.errors import DataError
from common.metrics import evaluation, paired_resamples
from common.metrics.counts import auroc, count_predictions
from common.metrics.figures import Evaluation
from common.metrics.intervals import make_figure, tail_probability
from common.metrics.resampling import COARSE_FACTOR, compute_figures
from common.replies import FinalTestReply
from common.reports import FinalTestReport
from common.seeds import rng_for
from common.task import Task
from server.phases.test import collect_draws, combine_evaluations

TASK = Task("t", "multiclass", ("no", "yes"), ("n", "y"), 0, 0, 0.0, ("a",), ())
BINS, RESAMPLES = 1024, 80


def rows(site: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Two models' log odds, what was, and whose, of a site's patients, some of whom are hard for both."""
    rng = rng_for(3, site)
    people = {"a": 12, "b": 7}[site]
    owner = np.repeat(np.arange(people), 25)
    truth = rng.integers(0, 2, len(owner))
    hard = rng.normal(size=people)[owner] * 2
    odds = np.stack([(2 * truth - 1) * (lift + hard) + rng.normal(size=len(owner)) for lift in (1.5, 1.0)])
    return odds, truth, owner, people


def reply(site: str, model: int) -> FinalTestReply:
    odds, truth, owner, people = rows(site)
    logits = np.stack([0 * odds[model], odds[model]], 1)
    each = count_predictions(logits, truth, owner, people, BINS, coarse=COARSE_FACTOR)
    total = count_predictions(logits, truth, owner * 0, 1, BINS).total()
    drawn = evaluation.resample_patients(each, RESAMPLES, rng_for(5, site, "bootstrap"))
    item = evaluation.build_evaluation(TASK, total, drawn, people, [people, people])
    return FinalTestReply(
        site, FinalTestReport(evaluations={"all": item}), tables={"all": total, "all/resampled": drawn}
    )


def group(model: int) -> tuple[paired_resamples.Draws, dict[str, dict[str, Evaluation]], dict[str, Evaluation]]:
    replies = {site: reply(site, model) for site in ("a", "b")}
    by_table, pooled = combine_evaluations(TASK, replies)
    return collect_draws(TASK, replies, by_table), by_table, pooled


def test_the_difference_of_draws_is_a_paired_bootstrap() -> None:
    (one, *_), (two, *_) = group(0), group(1)
    slow: dict[str, list[float]] = {"a": [], "b": [], paired_resamples.POOLED: []}
    weights = {
        s: evaluation.draw_bootstrap_weights(rows(s)[3], RESAMPLES, rng_for(5, s, "bootstrap")).astype(int)
        for s in "ab"
    }
    for i in range(RESAMPLES):
        right = []
        for site in ("a", "b"):
            odds, truth, owner, people = rows(site)
            chosen = np.concatenate(
                [np.flatnonzero(owner == p) for p in range(people) for _ in range(weights[site][i, p])]
            )
            right.append([(odds[m][chosen] > 0) == (truth[chosen] == 1) for m in (0, 1)])
            slow[site].append(right[-1][0].mean() - right[-1][1].mean())
        slow[paired_resamples.POOLED].append(
            np.mean(np.concatenate([r[0] for r in right])) - np.mean(np.concatenate([r[1] for r in right]))
        )
    for position, expected in slow.items():
        result = one["all", position]["accuracy"] - two["all", position]["accuracy"]
        np.testing.assert_allclose(result, expected, atol=1e-6)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    (one, first, _), (two, second, _) = group(0), group(1)
    a, b = first["all"]["a"], second["all"]["a"]
    assert a.auroc is not None
    assert b.auroc is not None
    mine, theirs_ = (part["all", "a"]["auroc"].astype(float) for part in (one, two))
    paired = make_figure(a.auroc.value - b.auroc.value, mine - theirs_, 12)  # type: ignore[operator]
    shuffled = make_figure(a.auroc.value - b.auroc.value, mine - np.roll(theirs_, 1), 12)  # type: ignore[operator]
    assert paired.high - paired.low < 0.7 * (shuffled.high - shuffled.low)  # type: ignore[operator]


def test_resamples_hold_the_metrics_of_the_event_and_spread_around_them() -> None:
    result, by_table, pooled = group(0)
    for position, item in {**by_table["all"], paired_resamples.POOLED: pooled["all"]}.items():
        for name in ("accuracy", "auroc", "auprc", "sensitivity", "specificity", "brier", "loss"):
            reported = getattr(item, name)
            share = tail_probability(item.patients)
            ends = np.quantile(result["all", position][name].astype(float), [share, 1 - share])
            np.testing.assert_allclose([reported.low, reported.high], ends, atol=1e-6)


def test_resamples_survive_a_file_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    result, *_ = group(0)
    path = tmp_path / "draws.safetensors"
    path.write_bytes(paired_resamples.pack_resamples(result))
    again = paired_resamples.load_resamples(path)
    assert again.keys() == result.keys()
    np.testing.assert_allclose(again["all", "a"]["auroc"], result["all", "a"]["auroc"], rtol=1e-6)
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="damaged"):
        paired_resamples.load_resamples(path)
    assert paired_resamples.load_resamples(tmp_path / "none") == {}


def test_a_site_that_shares_no_resamples_leaves_none_for_the_pool() -> None:
    replies = {site: reply(site, 0) for site in ("a", "b")}
    del replies["b"].tables["all/resampled"]  # type: ignore[attr-defined]
    by_table, _ = combine_evaluations(TASK, replies)
    assert set(collect_draws(TASK, replies, by_table)) == {("all", "a")}


def test_pooled_auroc_from_merged_histograms_is_the_exact_one() -> None:
    """Scores as a network gives them: most far out, many at the ends, sites that differ in level and in spread."""
    rng = np.random.default_rng(8)
    counts, odds, truth = [], [], []
    for level, spread, share in ((-4.0, 3.0, 0.02), (-1.0, 1.0, 0.2), (-9.0, 6.0, 0.05)):
        y = (rng.random(8000) < share).astype(int)
        z = level + spread * (rng.standard_t(4, 8000) + 1.6 * y)
        counts.append(count_predictions(np.stack([0 * z, z], 1), y, y * 0, 1, BINS).total())
        odds.append(z)
        truth.append(y)
    merged = counts[0] + counts[1] + counts[2]
    exact = theirs.roc_auc_score(np.concatenate(truth), np.concatenate(odds))
    result = compute_figures(TASK, merged, None, 100).values["class_auroc"][1]
    assert result == pytest.approx(exact, abs=1e-3)
    mean = np.mean([auroc(item.scores)[1] for item in counts])
    assert abs(mean - exact) > 0.01
