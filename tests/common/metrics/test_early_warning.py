"""Alarms and lead times, against going through the patients one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import messages
from common.metrics import early_warning, evaluation
from common.metrics.counts import apply_threshold, count_predictions
from common.metrics.intervals import tail_probability
from common.replies import ValidateReply
from common.reports import ValidateReport
from common.task import Task

TASK = Task("t", "multiclass", ("quiet", "event"), ("q", "e"), 0, 0, 0.0, ("a",), ())
BINS = 64


@st.composite
def stays(draw: st.DrawFn) -> list[tuple[list[float], list[bool]]]:
    """Each patient's hours until the event (NaN: none comes), falling by one, and alarms."""
    result = []
    for _ in range(draw(st.integers(1, 6))):
        n = draw(st.integers(1, 30))
        start = draw(st.one_of(st.none(), st.integers(-3, 28)))
        left = [float("nan") if start is None else start - i + draw(st.sampled_from([0.0, 0.25])) for i in range(n)]
        result.append((left, draw(st.lists(st.booleans(), min_size=n, max_size=n))))
    return result


@settings(max_examples=80, deadline=None)
@given(stays())
def test_the_lead_time_is_that_of_the_first_alarm_within_the_horizon(
    given: list[tuple[list[float], list[bool]]],
) -> None:
    owner = np.concatenate([np.full(len(left), i) for i, (left, _) in enumerate(given)])
    until, alarm = (np.concatenate([np.asarray(part[i]) for part in given]) for i in (0, 1))
    result = early_warning.count_lead_times(until, alarm.astype(bool), owner, len(given))
    reported = []
    for i, (left, calls) in enumerate(given):
        ill = not np.isnan(left).all()
        first = next(
            (a for a, call in zip(left, calls, strict=True) if call and 0 <= a <= early_warning.WARNING_HORIZON), None
        )
        row = [float(ill)] + [
            float(first is not None and int(first) == k) for k in range(early_warning.WARNING_HORIZON + 1)
        ]
        assert result[i].tolist() == row
        reported += [] if first is None else [int(first)]
    median = early_warning.median_lead_time(result.sum(0))
    assert np.isnan(median) if not reported else median == np.median(reported)
    np.testing.assert_array_equal(
        np.nan_to_num(early_warning.median_lead_time(result[None])[0], nan=-1).shape, (len(given),)
    )


def test_false_alarms_are_counted_over_the_hours_without_the_event() -> None:
    truth = np.array([0, 0, 0, 1, 1, 0])
    odds = np.array([-1.0, 2, -1, 1, -2, 3])
    hours = np.array([1, 2, 3, 4, 5, 2.0])
    until = np.array([np.nan, 20, 12.5, 7, 1, np.nan])
    owner = np.array([0, 1, 1, 1, 1, 2])
    logits = np.stack([0 * odds, odds], 1)
    counts = count_predictions(logits, truth, owner, 3, BINS, hours=hours, until=until).total()
    result = evaluation.build_evaluation(TASK, counts, None, 3, [3, 1])
    alarms = result.classes["event"].alarms
    assert alarms is not None
    assert alarms.hours == 17
    assert alarms.per_day.value == pytest.approx(24 * 3 / 17)
    assert result.false_per_hour is not None
    assert result.false_per_hour.value == pytest.approx(2 / 8)
    assert result.lead is not None
    assert (result.lead.patients, result.lead.warned.value, result.lead.hours.value) == (1, 1.0, 7.0)
    assert result.lead.histogram[7] == sum(result.lead.histogram) == 1
    assert result.classes["quiet"].alarms is None


def test_alarms_of_several_classes_are_counted_separately() -> None:
    task = Task("t", "multiclass", ("N", "S", "V"), ("n", "s", "v"), 1, 8, 125.0, (), ("lead",))
    logits = np.eye(3)[[0, 1, 1, 2, 2]]
    counts = count_predictions(logits, [0, 0, 1, 2, 1], np.zeros(5, int), 1, BINS, hours=np.full(5, 0.5)).total()
    assert counts.lead.size == 0
    parts = evaluation.build_evaluation(task, counts, None, 1, [1, 1, 1]).classes
    rates = {name: (part.alarms.per_day.value, part.alarms.false_per_hour.value) for name, part in parts.items()}  # type: ignore[union-attr]
    assert rates["V"] == (pytest.approx(24 * 2 / 2.5), pytest.approx(1 / 2.0))
    assert rates["S"] == (pytest.approx(24 * 2 / 2.5), pytest.approx(1 / 1.5))


def test_intervals_equal_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(3)
    owner, hour = np.repeat(np.arange(30), 20), np.tile(np.arange(20), 30)
    ill = rng.random(30) < 0.5
    until = np.where(ill[owner], 15.0 - hour, np.nan)
    truth = (until <= 6).astype(int)
    odds = rng.normal(size=600) + 2 * truth - 1
    logits = np.stack([0 * odds, odds], 1)
    given = {"hours": np.ones(600), "until": until}
    each = count_predictions(logits, truth, owner, 30, BINS, coarse=4, **given)
    drawn = evaluation.resample_patients(each, 60, np.random.default_rng(4))
    result = evaluation.build_evaluation(TASK, each.total(), drawn, 30, [30, int(ill.sum())])
    weights = evaluation.draw_bootstrap_weights(30, 60, np.random.default_rng(4)).astype(int)
    rates, leads = [], []
    for times in weights:
        rows = np.concatenate([np.flatnonzero(owner == p) for p in range(30) for _ in range(times[p])])
        rates.append(np.sum((odds[rows] > 0) & (truth[rows] == 0)) / np.sum(truth[rows] == 0))
        first = [
            max([u for u, z in zip(until[owner == p], odds[owner == p], strict=True) if z > 0 and 0 <= u <= 12] or [-1])
            for p in range(30)
        ]
        leads.append(np.median(np.repeat(first, times)[np.repeat(np.asarray(first) >= 0, times)]))
    assert result.false_per_hour is not None
    assert result.false_per_hour.low == pytest.approx(np.quantile(rates, share := tail_probability(30)))
    assert result.false_per_hour.high == pytest.approx(np.quantile(rates, 1 - share))
    assert result.lead_hours is not None
    assert result.lead_hours.low == pytest.approx(np.quantile(leads, share))


def test_time_and_lead_times_add_up_and_lead_times_end_with_another_threshold() -> None:
    rng = np.random.default_rng(1)
    odds, truth, owner = rng.normal(size=50), rng.integers(0, 2, 50), rng.integers(0, 5, 50)
    given = {"hours": rng.random(50), "until": np.where(truth == 1, 3.0, np.nan)}
    logits = np.stack([0 * odds, odds], 1)
    each = count_predictions(logits, truth, owner, 5, BINS, **given)
    total = each.total()
    sent = ValidateReply("a", ValidateReport(patients=5), tables={"all": total})
    again = messages.unpack_reply(ValidateReply, messages.pack_reply(sent)).tables["all"]
    np.testing.assert_allclose(again.time, total.time)
    np.testing.assert_array_equal(again.lead, total.lead)
    np.testing.assert_allclose((total + total).time, 2 * total.time)
    assert (total + replace(total, time=np.zeros(0))).time.size == 0
    assert total.time == pytest.approx([given["hours"][truth == c].sum() for c in (0, 1)])
    assert apply_threshold(total, 0.5).lead.size == 0
    assert apply_threshold(total, 0.5).time.size == 2
