from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tornado")

from common.distance import psi, psi_null_quantile
from common.errors import ConfigError
from experiments.monitor.drift import (
    MIN_BEATS,
    OWN_COLUMNS,
    BeatHistograms,
    GroupShares,
    Reference,
    compare_groups,
    describe_drift,
    load_reference,
    write_reference,
)
from experiments.monitor.metrics import WardCollector
from experiments.monitor.reference import make_reference
from sites.ecg.recordings import Recording
from tests.experiments.monitor.conftest import heartbeats


def draw_group(patients: int, rate: float, seed: int, beats: int = 400) -> BeatHistograms:
    draw, own = np.random.default_rng(seed), BeatHistograms()
    for patient in range(patients):
        mean = draw.normal(rate, 12)
        values = draw.normal(mean, 6, beats)
        own.add(1000 * seed + patient, values, draw.uniform(0, 1, beats), draw.normal(size=(beats, 2)))
    return own


def as_reference(group: GroupShares | None) -> Reference:
    assert group is not None
    return Reference("run-1", (*OWN_COLUMNS, "a", "b"), group)


def test_the_index_is_that_of_histograms_made_by_hand() -> None:
    one, other = BeatHistograms(), BeatHistograms()
    for patient in range(5):
        one.add(patient, np.full(60, 61.0), np.zeros(60), np.zeros((60, 1)))
        rates = np.r_[np.full(30, 61.0), np.full(30, 121.0)]
        other.add(patient, rates, np.zeros(60), np.zeros((60, 1)))
    reference = Reference("r", (*OWN_COLUMNS, "a"), one.summarise() or GroupShares(np.zeros((3, 41)), 0))
    first = compare_groups(reference, other.summarise())[0]
    expected = (1 - 0.5) * np.log(1 / 0.5) + (1e-4 - 0.5) * np.log(1e-4 / 0.5)
    assert first.name == "heart rate"
    assert first.psi == pytest.approx(expected)
    assert first.null_limit == pytest.approx(psi_null_quantile(5, 5))


def test_a_long_stay_counts_no_more_than_a_short_one() -> None:
    own = BeatHistograms()
    own.add(0, np.full(5000, 61.0), np.zeros(5000), np.zeros((5000, 1)))
    own.add(1, np.full(100, 121.0), np.full(100, np.nan), np.zeros((100, 1)))
    own.add(2, np.full(MIN_BEATS - 1, 181.0), np.zeros(MIN_BEATS - 1), np.zeros((MIN_BEATS - 1, 1)))
    group = own.summarise()
    assert group is not None
    assert group.patients == 2
    assert group.shares[0, [10, 20, 30]].tolist() == [1.0, 1.0, 0.0]
    assert group.shares[1, [0, 40]].tolist() == [1.0, 1.0]  # missing values have a bin of their own


def test_the_same_patients_seldom_differ_and_others_always_do() -> None:
    reference = as_reference(draw_group(40, 75, 0).summarise())
    alike = [compare_groups(reference, draw_group(40, 75, seed).summarise()) for seed in range(1, 41)]
    assert sum(any(row.large for row in rows) for rows in alike) <= 4
    for seed in range(1, 11):
        rows = compare_groups(reference, draw_group(40, 110, seed).summarise())
        assert [row.name for row in rows if row.large] == ["heart rate"]
    text = describe_drift(reference, draw_group(40, 110, 1).summarise(), "run-1")
    assert "may no longer fit: heart rate (PSI" in text
    assert "40 patients of training and 40 now" in text
    assert "cannot be judged yet: 3 of 5" in describe_drift(reference, draw_group(3, 75, 1).summarise(), "run-1")
    assert "no reference" in describe_drift(reference, None, "run-2")
    assert "no reference" in describe_drift(None, None, "run-1")


def test_prometheus_reads_the_index_of_each_column() -> None:
    reference, now = as_reference(draw_group(40, 75, 0).summarise()), draw_group(40, 110, 1).summarise()

    class Now:
        def patients_now(self) -> GroupShares | None:
            return now

    own = WardCollector.__new__(WardCollector)
    own._ward = Now()
    samples = {
        (item.name, *item.labels.values()): item.value
        for part in own._collect_drift(reference)
        for item in part.samples
    }
    first = compare_groups(reference, now)[0]
    assert samples["wardround_monitor_drift_psi", "heart rate"] == first.psi
    assert samples[("wardround_monitor_drift_psi_limit",)] == first.null_limit
    assert samples[("wardround_monitor_drift_patients",)] == 40
    assert samples["wardround_monitor_drift_psi_low", "heart rate"] == first.low
    assert len(samples) == 6 + 2 * 4


def test_a_reference_is_written_for_enough_people_and_read_for_its_model(causal_run: Path, tmp_path: Path) -> None:
    signals = [heartbeats(60 + patient) for patient in range(5)]
    symbols = np.array([], dtype=str)
    recordings = [
        Recording(str(i), 250.0, ("II",), signal, np.array([], dtype=int), symbols, ())
        for i, signal in enumerate(signals)
    ]
    reference = make_reference(causal_run, recordings)
    path = write_reference(tmp_path, reference)
    assert path.stat().st_mode & 0o077 == 0
    features = reference.columns[len(OWN_COLUMNS) :]
    again = load_reference(tmp_path, reference.run, features)
    assert again is not None
    assert np.allclose(again.group.shares, reference.group.shares, atol=1e-5)
    assert np.allclose(again.group.shares.sum(axis=1), 5)
    assert again.group.shares[0, 12] > 4.9  # 75 beats a minute: the bin from 72 to 78
    assert load_reference(tmp_path, "another", features) is None
    with pytest.raises(ConfigError, match="at least"):
        write_reference(tmp_path, make_reference(causal_run, recordings[:4]))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="make it again"):
        load_reference(tmp_path, reference.run, features)


def test_the_interval_is_that_of_resampled_patients_and_adds_up_over_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.monitor.drift.REPLICATES", 400)
    reference, now = as_reference(draw_group(40, 75, 0).summarise()), draw_group(40, 90, 1)
    halves = [BeatHistograms({i: part for i, part in now.counts.items() if i % 2 == rest}) for rest in (0, 1)]
    one, other = (half.summarise() for half in halves)
    assert one is not None
    assert other is not None
    whole, joined = compare_groups(reference, now.summarise()), compare_groups(reference, one + other)
    assert [row.name for row in whole] == [row.name for row in joined]
    for a, b in zip(whole, joined, strict=True):
        assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-3)
    top = whole[0]
    assert top.name == "heart rate"
    assert 0 < top.low < top.psi < top.high
    draw = np.random.default_rng(5)  # the slow, obvious way: patients drawn with replacement
    groups = [
        np.stack([part / part[0].sum() for part in draw_group(40, rate, seed).counts.values()])
        for rate, seed in ((75, 0), (90, 1))
    ]
    index = [psi(*(group[draw.integers(0, 40, 40)].mean(axis=0) for group in groups))[0] for _ in range(400)]
    assert (top.low, top.high) == pytest.approx(tuple(np.quantile(index, [0.025, 0.975])), rel=0.2)
    text = describe_drift(reference, now.summarise(), "run-1")
    assert f"PSI {top.psi:.2f}, 95 % {top.low:.2f} to {top.high:.2f}" in text


def test_intervals_stay_in_the_reference_file(tmp_path: Path) -> None:
    reference, now = as_reference(draw_group(40, 75, 0).summarise()), draw_group(40, 110, 1).summarise()
    write_reference(tmp_path, reference)
    again = load_reference(tmp_path, "run-1", ("a", "b"))
    assert again is not None
    rows = zip(compare_groups(reference, now), compare_groups(again, now), strict=True)
    assert all((a.low, a.high) == pytest.approx((b.low, b.high), abs=0.02) for a, b in rows)
