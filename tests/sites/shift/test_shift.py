"""Simulated differences: seeds, sides of the split, and the options of a site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import requests as work
from client.policy import SIMULATION_POLICY, SitePolicy
from client.site import load_site
from client.site_context import SiteContext
from common import config
from common.errors import ConfigError, SiteError
from sites import shift
from sites.cohort import SPLITS
from sites.datasets import synthetic
from tests.sites.shift.shift_cohorts import SIGNAL_OPTIONS, flat, make_options, shifted, window
from tests.wire import build_request


def test_nothing_asked_gives_the_same_cohort_back() -> None:
    cohort = flat(3)
    for options in ({}, {"signal": {"unit_mv": 2.0}}):
        same, notes = shifted(cohort, **options)
        assert same is cohort
        assert notes == {}


@pytest.mark.parametrize("name", SIGNAL_OPTIONS)
@pytest.mark.parametrize("where", ["all", "train", "test"])
def test_each_signal_option_changes_its_side_alone_and_leaves_its_input(name: str, where: str) -> None:
    cohort = window()
    before = cohort.x.copy()
    result, notes = shifted(cohort, **{name: SIGNAL_OPTIONS[name] | {"where": where}})
    np.testing.assert_array_equal(cohort.x, before)
    changed = (result.x != before).any((1, 2))
    test = cohort.split == SPLITS.index("test")
    np.testing.assert_array_equal(changed, {"all": test | True, "train": ~test, "test": test}[where])
    assert list(notes) == [name]
    assert f"{ {'all': 4, 'train': 3, 'test': 1}[where] } recordings" in notes[name]
    assert ("only" in notes[name]) == (where != "all")
    assert result.y is cohort.y


EVERYTHING: dict[str, Any] = SIGNAL_OPTIONS | {"label_noise": {"probability": 0.3, "where": "all"}}


def test_the_same_seed_gives_the_same_bits_and_another_seed_or_site_others() -> None:
    one, _ = shifted(window(), **EVERYTHING)
    two, _ = shifted(window(), **EVERYTHING)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    for other in ({"seed": 2}, {"site": "south"}):
        result, _ = shifted(window(), **EVERYTHING, **other)
        assert (result.x != one.x).mean() > 0.5
        assert (result.y != one.y).any()


@pytest.mark.parametrize("name", [*SIGNAL_OPTIONS, "label_noise"])
def test_a_recording_is_changed_alike_whoever_else_is_there_and_in_whatever_order(name: str) -> None:
    cohort = window()
    whole, _ = shifted(cohort, **{name: EVERYTHING[name]})
    order = np.concatenate([np.flatnonzero(cohort.patient == p) for p in (2, 0)])
    names = tuple(cohort.patients[p] for p in (2, 0))
    few = replace(
        cohort.take(order), patient=np.repeat(np.arange(2), 10).astype(np.int64), patients=names, persons=names
    )
    result, _ = shifted(few, **{name: EVERYTHING[name]})
    np.testing.assert_array_equal(result.x, whole.x[order])
    np.testing.assert_array_equal(result.y, whole.y[order])


def test_what_an_option_draws_does_not_hang_on_the_other_options() -> None:
    cohort = flat(4, rate=250.0, seconds=2)
    hum, _ = shifted(cohort, hum={"mv": 0.2})
    emg, _ = shifted(cohort, emg={"mv": 0.1})
    both, _ = shifted(cohort, hum={"mv": 0.2}, emg={"mv": 0.1})
    np.testing.assert_allclose(both.x, hum.x + emg.x, atol=1e-6)


def test_a_site_has_the_options_of_all_and_its_own_before_them() -> None:
    run = config.parse_config(
        {"shift": {"*": {"hum": {"mv": 0.1}, "gain": {"factor": 2.0}}, "south": {"hum": {"mv": 0.3, "mains": 60}}}}
    )
    run = config.config_from_json(config.config_to_json(run))
    north, south = (shift.site_options(run, site) for site in ("north", "south"))
    assert north == make_options(hum={"mv": 0.1}, gain={"factor": 2.0})
    assert south == make_options(hum={"mv": 0.3, "mains": 60}, gain={"factor": 2.0})
    shift.check_sites(run, ["north", "south"])
    with pytest.raises(ConfigError, match=r"shift\.south: this run has no such hospital \(did you mean mouth\?\)"):
        shift.check_sites(run, ["north", "mouth"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"north": {"hmu": {}}}, r"unknown key shift\.north\.hmu \(did you mean hum\?\)"),
        ({"north": {"hum": {"mw": 1.0}}}, r"shift\.north\.hum\.mv: Field required; unknown key .*did you mean mv"),
        ({"north": {"emg": {"mv": -1}}}, r"shift\.north\.emg\.mv: Input should be greater"),
        ({"north": {"signal": {"band": [40, 0.5]}}}, r"shift\.north\.signal: band: give the lower and the upper edge"),
        ({"a": {"calibration": {"features": {"x": {"gian": 1}}}}}, r"features\.x\.gian \(did you mean gain\?\)"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.parse_config({"shift": given})


def test_real_sites_are_never_shifted(hospitals: Path) -> None:
    with pytest.raises(ConfigError, match="shift is for simulations only"):
        config.parse_config({"shift": {"*": {}}, "federation": {"engine": "federation", "address": "h:1", "ca": "x"}})
    run = config.parse_config({"data": {"path": str(hospitals)}, "shift": {"*": {"gain": {"factor": 2.0}}}})
    with pytest.raises(SiteError, match="a real hospital's data stay as they are"):
        load_site(SiteContext(SitePolicy(), site="north", data=hospitals / "north"), run)


def test_a_simulated_site_is_shifted_after_its_split_and_says_so(hospitals: Path) -> None:
    raw = {"data": {"path": str(hospitals)}, "sites": {"validation": 0.5}}
    plain = config.parse_config(raw)
    run = config.parse_config(raw | {"shift": {"south": {"hum": {"mv": 0.2}, "label_noise": {"probability": 0.5}}}})
    north, south = (SiteContext(SIMULATION_POLICY, index=i, count=2) for i in range(2))
    assert synthetic.CARD.synthetic
    for split in SPLITS:
        was, now = (getattr(load_site(north, it), split) for it in (plain, run))
        np.testing.assert_array_equal(was.x, now.x)
        np.testing.assert_array_equal(was.y, now.y)
        was, now = (getattr(load_site(south, it), split) for it in (plain, run))
        np.testing.assert_array_equal(was.patient, now.patient)
        assert (was.x != now.x).any()
        assert (was.y != now.y).any() == (split != "test")
    said = [
        work.handle(position, build_request("handshake", run)).report.to_dict()["shift"] for position in (north, south)
    ]
    assert said[0] == {}
    assert list(said[1]) == ["label_noise", "hum"]
    assert said[1]["hum"].startswith("0.2 mV at 50 Hz")
