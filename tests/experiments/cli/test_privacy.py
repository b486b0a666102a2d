"""`wardround privacy ledger` on ledgers that are whole, changed, of other data or not there."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.privacy.accounting import GaussianSteps, compute_epsilon
from client.privacy.charges import Charge
from client.privacy.data_digest import digest_folder
from client.privacy.ledger import Ledger, get_ledger_path
from common.errors import ConfigError, DataError
from experiments.cli.main import app


@pytest.fixture
def state(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.csv").write_text("1\n")
    book = Ledger(get_ledger_path(tmp_path / "state" / "runs", "north"), digest_folder(data))
    for number in (1, 2):
        book.charge(Charge("a" * 32, number, "patient", "person", 44, GaussianSteps(0.1, 4.0, 10), 1e-5, "rdp"))
    return tmp_path / "state"


def said(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["privacy", "ledger", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_the_charges_are_printed(state: Path) -> None:
    text = said("--site", "north", "--state", state)
    assert "2 charges, none changed or removed" in text
    total = compute_epsilon([GaussianSteps(0.1, 4.0, 20)], 1e-5, "rdp")
    assert f"{total:.3f}" in text
    rows = [json.loads(line) for line in said("--site", "north", "--state", state, "--json").splitlines()]
    assert [(row["round"], row["units"], row["level"]) for row in rows] == [(1, 44, "patient"), (2, 44, "patient")]
    assert rows[-1]["epsilon"] == total
    path = get_ledger_path(state / "runs", "north")
    assert said("--path", path, "--verify").strip() == f"{path}: 2 charges, none changed or removed"


def test_each_splits_people_have_a_ledger_and_grown_data_are_accepted_for_all(state: Path, tmp_path: Path) -> None:
    data, runs = tmp_path / "data", state / "runs"
    tested = Ledger(get_ledger_path(runs, "north", "test"), digest_folder(data))
    tested.charge(Charge("b" * 32, 7, "patient", "person", 12, GaussianSteps(1.0, 4.0, 1), 1e-5, "rdp"))
    text = said("--site", "north", "--state", state, "--split", "test", "--json")
    assert [(row["round"], row["units"]) for row in map(json.loads, text.splitlines())] == [(7, 12)]
    with pytest.raises(DataError, match="no privacy ledger"):
        said("--site", "north", "--state", state, "--split", "validation")
    (data / "b.csv").write_text("2\n")
    said("--site", "north", "--state", state, "--accept-data", data)
    for split in ("train", "test"):
        assert Ledger(get_ledger_path(runs, "north", split), digest_folder(data)).rows()


def test_what_is_wrong_is_said(state: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--site NAME or --path"):
        said()
    with pytest.raises(DataError, match="no privacy ledger"):
        said("--site", "south", "--state", state)
    path = get_ledger_path(state / "runs", "north")
    plain = sqlite3.connect(path)
    plain.executescript("DROP TRIGGER charges_stay; UPDATE charges SET sigma = 400 WHERE number = 1;")
    plain.close()
    for option in ("--verify", "--json"):
        with pytest.raises(DataError, match="changed at row 1"):
            said("--path", path, option)


def test_data_that_grew_goes_on(state: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "b.csv").write_text("2\n")
    path = get_ledger_path(state / "runs", "north")
    with pytest.raises(DataError, match="belongs to other data"):
        Ledger(path, digest_folder(data)).rows()
    said("--path", path, "--accept-data", data)
    assert len(Ledger(path, digest_folder(data)).rows()) == 2
