"""One draw about each value: no option of a data set and no other patients give a second one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.gate.changed_records import change_records
from client.gate.register import open_register
from tests.client.gate.people_table import SECRET, table
from tests.client.gate.stranger import ask_scaling, make_hospital


def test_a_draw_does_not_depend_on_which_values_others_have() -> None:
    whole = table(300)
    fewer = whole.take(whole.features[:, 1] != 2)
    both = whole.features[:, 1] != 2
    changed, again = change_records(whole, SECRET, 0.0, 0.15), change_records(fewer, SECRET, 0.0, 0.15)
    replaced = changed.features[both, 1] != whole.features[both, 1]
    assert np.array_equal(replaced, again.features[:, 1] != fewer.features[:, 1])


def test_a_patients_recording_cut_or_labelled_otherwise_is_no_further_draw_of_the_outcome() -> None:
    whole = table(4000)
    views = [whole, replace(whole, y=1 - whole.y)]
    for rows in (2, 3, 5, 8):
        taken = whole.take(np.repeat(np.arange(4000), rows))
        views += [taken, replace(taken, y=1 - taken.y)]
    replaced = []
    for view in views:
        changed = change_records(view, SECRET, 0.5, 0.15)
        away = (changed.y != view.y).reshape(4000, -1)
        assert (away == away[:, :1]).all()
        replaced.append(away[:, 0])
    assert replaced[0].mean() == pytest.approx(0.15, abs=0.02)
    assert (np.asarray(replaced) == replaced[0]).all()  # else most of several draws are right


def test_a_few_other_patients_draw_no_second_noise_about_the_same_values(tmp_path: Path) -> None:
    """The size of the noise is a power of the root of 2, and a few people may shift it to the next."""
    register = open_register(make_hospital(tmp_path))
    whole = table(60)
    features = whole.features.copy()
    features[30:, 0] = 5 + 0.2 * (features[30:, 0] - 5)
    whole = replace(whole, features=features)
    half = whole.take(np.arange(30))

    def keep(column: str, spread: float) -> float:
        return register.keep_spread("table", column, spread)

    fresh = [change_records(part, SECRET, 0.5, 0.15).features[:30, 0] for part in (whole, half)]
    assert not np.isclose(*fresh).any()  # two draws about each of 30 people
    kept = [change_records(part, SECRET, 0.5, 0.15, keep=keep).features[:30, 0] for part in (whole, half)]
    assert np.array_equal(*kept)
    assert np.array_equal(kept[0], fresh[0])
    other_unit = replace(whole, features=whole.features * 10)
    noise = change_records(other_unit, SECRET, 0.5, 0.15, keep=keep).features[:, 0] - other_unit.features[:, 0]
    assert noise.std() == pytest.approx(0.5 * other_unit.features[:, 0].std(), rel=0.4)


def test_a_hospital_keeps_the_size_of_noise_over_requests_and_starts(tmp_path: Path) -> None:
    context = make_hospital(tmp_path)
    first = open_register(context).keep_spread("heart_disease", "feature age", 2.0)
    again = open_register(context).keep_spread("heart_disease", "feature age", 2.0 * 2**0.5)
    assert (first, again) == (2.0, 2.0)
    assert open_register(context).keep_spread("heart_disease", "feature age", 2000.0) == 2000.0  # another unit
    assert open_register(context).keep_spread("heart_disease", "feature age", 2.0 * 2**0.5) == 2.0
    assert open_register(context).keep_spread("heart_disease", "feature sex", 2.0 * 2**0.5) > 2.5
    ask_scaling(context)
    with open_register(context).open() as connection:
        kept = dict(connection.execute("SELECT key, value FROM about WHERE key LIKE 'spread of %'"))
    assert any("trestbps" in key for key in kept)
