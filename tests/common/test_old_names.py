"""Files of earlier versions are read with today's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import load_config
from common.errors import ConfigError
from common.old_names import FORMAT, RENAMES, Rename, replace_old_names

CURVE: dict[str, Any] = {
    "sites": {"north": {"classes": {"V": {"calibration": {"curve": [{"chance": 0.5, "value": 1}]}}}}}
}
NEW_CURVE = {"sites": {"north": {"classes": {"V": {"calibration": {"curve": [{"probability": 0.5, "value": 1}]}}}}}}
TRANSFER = {"mend": "platt", "mended": None, "lost": 1, "gap": 2, "won": 3, "away": {"f1": 4}}
NEW_TRANSFER = {
    "recalibration": "platt", "recalibrated": None, "ranking_difference": 1, "decision_difference": 2, "recovered": 3,
    "away": {"f1": 4},
}  # fmt: skip
CONFIG = {"shift": {"south": {"prevalence": {"of": "V"}}}, "privacy": {"on_budget": "leave"}}
NEW_CONFIG = {"shift": {"south": {"prevalence": {"class_name": "V"}}}, "privacy": {"on_budget": "continue"}}
OLD_AND_NEW: dict[str, list[tuple[Any, Any]]] = {
    "config": [(CONFIG, NEW_CONFIG)],
    "about": [({"id": "of", "config": CONFIG}, {"id": "of", "config": NEW_CONFIG})],
    "outcome": [
        ({"test": {"all": CURVE}, "lost": {"of": "x"}}, {"test": {"all": NEW_CURVE}, "lost": {"of": "x"}}),
    ],
    "baselines": [
        ({"models": [CURVE], "travel": [TRANSFER]}, {"models": [NEW_CURVE], "transfers": [NEW_TRANSFER]}),
    ],
    "leave_one_out": [
        (
            {"sites": [{"internal": CURVE, "travel": TRANSFER}]},
            {"sites": [{"internal": NEW_CURVE, "transfer": NEW_TRANSFER}]},
        ),
        ({"sites": [{"internal": None, "travel": None}]}, {"sites": [{"internal": None, "transfer": None}]}),
    ],
    "audit": [({"seen": 1.0, "attack": 2.0}, {"measured": 1.0, "attack": 2.0})],
    "rounds": [({"round": 2, "of": 8, "lost": {"of": "x"}}, {"round": 2, "rounds": 8, "lost": {"of": "x"}})],
    "events": [
        ({"event": "hello", "sites": {"hello": {}}}, {"event": "handshake", "sites": {"hello": {}}}),
        ({"event": "begin", "from": "begin"}, {"event": "initial-model", "from": "begin"}),
        ({"event": "round", "of": 8}, {"event": "round", "rounds": 8}),
    ],
    "report": [
        (
            {
                "models": [CURVE], "travel": [TRANSFER], "left_out": [{"travel": TRANSFER}], "audit": {"seen": 1},
                "run": {"config": CONFIG},
            },
            {
                "models": [NEW_CURVE], "transfers": [NEW_TRANSFER], "left_out": [{"transfer": NEW_TRANSFER}],
                "audit": {"measured": 1}, "run": {"config": NEW_CONFIG},
            },
        ),
        ({"lost": {"south": "offline"}, "audit": None}, {"lost": {"south": "offline"}, "audit": None}),
    ],
}  # fmt: skip


def test_every_file_with_old_names_is_tested() -> None:
    assert set(OLD_AND_NEW) == set(RENAMES)


@pytest.mark.parametrize("file", OLD_AND_NEW)
def test_old_names_are_replaced_where_they_stood_and_nowhere_else(file: str) -> None:
    for old, new in OLD_AND_NEW[file]:
        assert replace_old_names(file, old, version=1) == new
        assert replace_old_names(file, new, version=1) == new  # as a file is that no version states
        assert replace_old_names(file, old, version=FORMAT) is old


def test_each_rename_is_of_a_version_that_exists() -> None:
    assert {rename.version for renames in RENAMES.values() for rename in renames} == set(range(2, FORMAT + 1))


def test_paths_match_at_their_depth() -> None:
    assert Rename(2, ("a", "*")).matches(("a", "b"))
    assert not Rename(2, ("a", "*")).matches(("a",))
    assert not Rename(2, ("a", "*")).matches(("a", "b", "c"))
    assert Rename(2, ("**", "curve", "*")).matches(("x", "y", "curve", "*"))
    assert Rename(2, ("**", "curve", "*")).matches(("curve", "*"))
    assert not Rename(2, ("**", "curve", "*")).matches(("*",))


def test_content_of_another_kind_stays_as_it_is() -> None:
    for content in (None, 3, "of", [1], {"privacy": "of", "shift": [1]}, {"privacy": {"on_budget": ["leave"]}}):
        assert replace_old_names("config", content, version=1) == content


def test_a_configuration_of_an_earlier_version_loads(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("privacy: {on_budget: leave}\nshift: {a: {prevalence: {share: 0.5, of: V}}}\n")
    config = load_config(path)
    assert (config.privacy.on_budget, config.shift["a"].prevalence.class_name) == ("continue", "V")
    path.write_text("shift: {a: {prevalence: {share: 0.5, of: V, class_name: N}}}\n")
    with pytest.raises(ConfigError, match=r"prevalence\.of"):
        load_config(path)
