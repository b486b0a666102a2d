"""What a private run has charged when it is stopped and resumed: neither lost nor doubled, and the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.privacy.ledger import Ledger
from common.config import RunConfig
from tests.server.test_resume import _one_thread, in_round, lines, results, run, run_config, sites

__all__ = ["_one_thread", "sites"]  # fixtures


def private(**sections: Any) -> RunConfig:
    given = {
        "federation__choose": "last", "training__loss": "cross_entropy", "privacy__sigma": 2.0, "privacy__delta": 0.01,
        "privacy__accountant": "rdp", "privacy__sampling": 0.5,
    }  # fmt: skip
    return run_config(**(given | sections))


def charges(out: Path, site: str) -> list[int]:
    return [row.round for row in Ledger.read(out / "sites" / site / "privacy.sqlite").rows()]


def test_charges_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    config = private()
    assert not run(config, tmp_path, lambda event: event["event"] == "round" and event["round"] == 2)
    assert [charges(tmp_path, site) for site in ("east", "north")] == [[1, 2], [1, 2]]
    assert run(config, tmp_path)  # round 2 had no checkpoint yet
    assert [charges(tmp_path, site) for site in ("east", "north")] == [[1, 2, 2, 3], [1, 2, 2, 3]]
    ids = {row.run for row in Ledger.read(tmp_path / "sites" / "east" / "privacy.sqlite").rows()}
    assert len(ids) == 1


def test_a_round_that_was_charged_and_lost_stays_charged_and_is_reported(tmp_path: Path) -> None:
    config = private()
    assert not run(config, tmp_path, in_round(2))
    lost = {site: charges(tmp_path, site).count(2) for site in ("east", "north")}
    assert run(config, tmp_path)
    for site, times in lost.items():
        rows = Ledger.read(tmp_path / "sites" / site / "privacy.sqlite").rows()
        assert [row.round for row in rows] == [1, *[2] * times, 2, 3]
        spent = [line["sites"][site]["train"]["privacy"] for line in lines(tmp_path)]
        assert sum(item["steps"] + item.get("lost_steps", 0) for item in spent) == sum(row.steps for row in rows)
        assert spent[-1]["epsilon_run"] == rows[-1].epsilon_run
    again = [event for event in lines(tmp_path, "events.jsonl") if event["event"] == "charged-again"]
    assert {(event["site"], event["round"]) for event in again} == {(site, 2) for site, times in lost.items() if times}
    assert again


def test_a_ledger_that_states_less_than_before_is_an_older_copy(tmp_path: Path) -> None:
    config = private()
    ledger = tmp_path / "sites" / "north" / "privacy.sqlite"
    assert not run(config, tmp_path, lambda event: event["event"] == "reply" and event["round"] == 1)
    assert not run(config, tmp_path, in_round(3))
    for path in (ledger, ledger.with_name("privacy.sqlite.head")):
        path.unlink()
    assert run(config, tmp_path)
    assert "an older copy of it is in use" in lines(tmp_path)[2]["lost"]["north"]


SEEDED = [
    {"privacy__level": "patient"},
    {"privacy__level": "hospital", "privacy__noise_at": "server", "privacy__weight_total": 2.0, "privacy__clip": 0.5},
    {"privacy__level": "hospital", "privacy__noise_at": "site", "privacy__weight_total": 2.0, "privacy__clip": 0.5},
]


@pytest.mark.parametrize("level", SEEDED)
def test_a_private_run_goes_on_to_the_same_weights_where_its_noise_can_be_repeated(
    tmp_path: Path, level: dict[str, Any]
) -> None:
    config = private(privacy__noise="seeded", federation__weights="equal", **level)
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(2))
    lost = {site: charges(tmp_path / "broken", site).count(2) for site in ("east", "north")}
    assert run(config, tmp_path / "broken")
    whole, broken = ([line["weights"] for line in lines(tmp_path / part)] for part in ("whole", "broken"))
    assert broken == whole
    for site, times in lost.items():
        assert charges(tmp_path / "whole", site) == [1, 2, 3]
        assert charges(tmp_path / "broken", site) == [1, *[2] * times, 2, 3]


def test_a_private_evaluation_goes_on_without_another_charge(tmp_path: Path) -> None:
    """The same question of the round that is run again is answered as before, at no cost."""
    config = run_config(
        privacy__evaluation_epsilon=50.0, privacy__delta=0.01, privacy__accountant="rdp", privacy__noise="seeded",
        evaluation__bins=16, evaluation__keep_resamples=False, evaluation__bootstrap=20,
    )  # fmt: skip
    assert run(config, tmp_path / "whole")
    assert not run(config, tmp_path / "broken", in_round(3, "validate"))
    assert run(config, tmp_path / "broken")
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    for site in ("east", "north"):
        rows = [
            [row.round for row in Ledger.read(tmp_path / part / "sites" / site / "privacy-validation.sqlite").rows()]
            for part in ("whole", "broken")
        ]
        assert rows[0] == rows[1] == [1, 2, 3]
