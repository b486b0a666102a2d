"""Rows in time: order, values carried forward and labels ahead, against a slow obvious computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.settings import validate_settings
from sites.datasets.table.ahead import look_ahead
from sites.datasets.table.description import Description
from sites.datasets.table.rows import read_rows


def describe(ahead: float, after: str, *, carry: bool = True) -> Description:
    raw: dict[str, Any] = {
        "patient": "p",
        "time": {"column": "t", "ahead_hours": ahead, "after": after, "carry": carry},
        "outcome": {"column": "y", "values": ["0", "1"]},
        "inputs": [{"name": "v", "indicator": True}, {"name": "k", "kind": "yes_no"}],
    }
    return validate_settings(Description, raw, "test")


@pytest.mark.parametrize("after", ["keep", "drop"])
@pytest.mark.parametrize("carry", [True, False])
def test_labels_and_values_against_a_loop(tmp_path: Path, after: str, carry: bool) -> None:
    rng = np.random.default_rng(5)
    table = []
    for patient in range(12):
        onset = rng.integers(2, 10) if rng.random() < 0.6 else None
        for hour in range(int(rng.integers(1, 14))):
            value = f"{rng.normal():.3f}" if rng.random() < 0.5 else ""
            known = str(rng.integers(2)) if rng.random() < 0.7 else ""
            if value or known:
                table.append((f"p{patient}", hour * 1.5, value, known, int(onset is not None and hour >= onset)))
    order = rng.permutation(len(table))
    (tmp_path / "a.csv").write_text(
        "p,t,v,k,y\n" + "\n".join(f"{p},{t},{v},{k},{y}" for p, t, v, k, y in (table[i] for i in order))
    )
    description = describe(4.0, after, carry=carry)
    timed = look_ahead(read_rows(tmp_path, description), description, labelled=True)
    expected = []
    for patient in timed.rows.patients:
        own = sorted(row for row in table if row[0] == patient)
        events = [t for _, t, _, _, y in own if y]
        onset_at = min(events) if events else None
        v = k = float("nan")
        for _, t, value, known, y in own:
            v = float(value) if value else v if carry else float("nan")
            k = float(known) if known else k if carry else float("nan")
            until = float("nan") if onset_at is None else onset_at - t
            if until <= 0 and after == "drop":
                continue
            label = y if until <= 0 else int(until <= 4.0)
            expected.append((patient, t, v, float(bool(value)), k, label, until))
    result = [
        (timed.rows.patients[p], t, *f, y, u)
        for p, t, f, y, u in zip(
            timed.rows.patient, timed.rows.hours, timed.rows.features.tolist(), timed.rows.y, timed.until, strict=True
        )
    ]
    assert [row[0] for row in result] == [row[0] for row in expected]
    np.testing.assert_allclose([row[1:] for row in result], [row[1:] for row in expected], rtol=1e-6)


def test_dates_and_hours_covered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "p,t,v,k,y\n1,2024-01-31T23:00,1,0,0\n1,2024-02-01T01:30,2,0,0\n1,2024-02-01 02:30:00,3,0,1\n"
        "2,2024-01-01,1,1,0\n"
    )
    description = describe(2.0, "keep")
    timed = look_ahead(read_rows(tmp_path, description), description, labelled=True)
    assert timed.covered.tolist() == [2.5, 1.0, 1.75, 1.75]  # the last of a patient: the median of the others
    np.testing.assert_allclose(timed.until, [3.5, 1.0, 0.0, np.nan])
    assert timed.rows.y.tolist() == [0, 1, 1, 0]
