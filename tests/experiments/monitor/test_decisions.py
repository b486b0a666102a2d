from __future__ import annotations

import numpy as np
import pytest

from experiments.monitor import decisions
from experiments.monitor.decisions import DecisionEngine, Limits, ScoredBeat


def beats(probabilities: list[float], start: float = 0.0, interval: float = 0.4, **values: bool) -> list[ScoredBeat]:
    return [ScoredBeat(start + i * interval, "V", p, **values) for i, p in enumerate(probabilities)]


def kinds(engine: DecisionEngine, given: list[ScoredBeat]) -> list[str]:
    return [alert.kind for alert in engine.add_beats(given)]


def test_three_ventricular_beats_in_a_row_are_a_run() -> None:
    engine = DecisionEngine()
    (alert,) = engine.add_beats(beats([0, 0, 0.95, 0.95, 0.95, 0]))
    assert (alert.kind, alert.level, alert.seconds) == ("ventricular run", "alarm", pytest.approx(0.8))
    assert "150/min" in alert.text
    assert kinds(DecisionEngine(), beats([0.95, 0.95, 0, 0.95, 0.95, 0])) == []


def test_a_slow_run_is_none() -> None:
    assert kinds(DecisionEngine(), beats([0.95] * 5, interval=0.8)) == []


def test_a_run_starts_at_the_mean_and_goes_on_at_the_low_level() -> None:
    assert kinds(DecisionEngine(), beats([0.7, 0.7, 0.9, 0.7])) == []
    assert kinds(DecisionEngine(), beats([0.99, 0.3, 0.99, 0.99])) == []
    assert kinds(DecisionEngine(), beats([0.95, 0.5, 0.96])) == ["ventricular run"]
    engine = DecisionEngine()
    engine.add_beats(beats([0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5]))
    assert "ventricular run" in engine.active
    engine.add_beats(beats([0.3], start=2.8))
    assert "ventricular run" not in engine.active


def test_a_long_run_is_one_alarm_and_a_second_one_waits_for_the_refractory_time() -> None:
    engine = DecisionEngine(Limits(ectopy=10_000, fast=10_000))
    assert kinds(engine, beats([0.95] * 200)) == ["ventricular run"]
    assert kinds(engine, beats([0, 0.95, 0.95, 0.95, 0], start=100)) == []
    assert kinds(engine, beats([0.95, 0.95, 0.95, 0], start=200)) == ["ventricular run"]


def test_alarms_of_an_hour_are_bounded_and_what_is_withheld_is_counted() -> None:
    engine = DecisionEngine(Limits(per_hour=3))
    given = [alert for i in range(20) for alert in engine.add_beats(beats([0.95, 0.95, 0.95, 0], start=100.0 * i))]
    assert len(given) == 3
    assert engine.withheld == 17
    (later,) = engine.add_beats(beats([0.95, 0.95, 0.95, 0], start=3650))
    assert later.withheld == 17


def test_an_unusable_signal_raises_no_alarm_and_is_reported_itself() -> None:
    engine = DecisionEngine()
    assert kinds(engine, beats([0.99] * 10, usable=False)) == []
    alerts = [alert for second in range(40) for alert in engine.add_second(second, False, second - 1.0, None)]
    assert [(alert.kind, alert.seconds) for alert in alerts] == [("signal not usable", 10.0)]
    assert engine.active == ("signal not usable",)
    engine.add_second(40, True, 39.0, None)
    assert engine.active == ()


def run_seconds(engine: DecisionEngine, seconds: range, usable: bool, latest: float | None) -> list[str]:
    every = [engine.add_second(second, usable, second - 0.5, latest) for second in seconds]
    return [alert.kind for alerts in every for alert in alerts]


def test_a_pause_is_an_alarm_only_in_a_usable_signal() -> None:
    engine = DecisionEngine()
    assert run_seconds(engine, range(8), True, 7.2) == []
    assert run_seconds(engine, range(8, 14), True, 7.2) == ["no beat"]
    engine.add_second(14, True, 13.9, 13.8)
    assert engine.active == ()
    engine = DecisionEngine()
    assert run_seconds(engine, range(8), True, 7.2) == []
    assert run_seconds(engine, range(8, 14), False, 7.2) == []
    assert run_seconds(engine, range(14, 18), True, 7.2) == []
    assert run_seconds(engine, range(18, 22), True, 7.2) == ["no beat"]


def test_a_stream_without_any_beat_is_a_pause() -> None:
    assert run_seconds(DecisionEngine(), range(8), True, None) == ["no beat"]


def test_rates_have_different_levels_for_start_and_end() -> None:
    engine = DecisionEngine()
    assert kinds(engine, beats([0.0] * 20, interval=60 / 155)) == ["fast rhythm"]
    assert kinds(engine, beats([0.0] * 20, start=7.8, interval=60 / 140)) == []
    assert engine.active == ("fast rhythm",)
    engine.add_beats(beats([0.0] * 20, start=16.8, interval=60 / 100))
    assert engine.active == ()
    assert kinds(DecisionEngine(), beats([0.0] * 12, interval=2.0)) == ["slow rhythm"]


def test_ectopic_beats_and_an_irregular_rhythm_are_reported_once() -> None:
    assert kinds(DecisionEngine(), beats([0.95, 0] * 30, interval=0.8)) == ["frequent ectopic beats"]
    assert kinds(DecisionEngine(), beats([0.0] * 60, interval=0.8, irregular=True)) == ["irregular rhythm"]
    assert kinds(DecisionEngine(), beats([0.0] * 60, interval=0.8, anomaly=True)) == ["unusual beats"]


@pytest.mark.parametrize("seed", range(5))
def test_random_beats_never_exceed_the_bound(seed: int) -> None:
    draw = np.random.default_rng(seed)
    limits = Limits(per_hour=4, refractory=5.0)
    engine, given, time = DecisionEngine(limits), [], 0.0
    while time < 3 * 3600:
        time += float(draw.uniform(0.3, 1.2))
        usable = bool(draw.random() > 0.05)
        given += engine.add_beats(
            [ScoredBeat(time, "V", float(draw.random() ** 0.3), usable, bool(draw.random() < 0.5))]
        )
    for kind in decisions.LEVELS:
        times = np.array([alert.seconds for alert in given if alert.kind == kind])
        assert all(((times > time - 3600) & (times <= time)).sum() <= 4 for time in times)
    assert any(alert.kind == decisions.RUN for alert in given)
