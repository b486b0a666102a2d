"""What a private federation refuses: in one line, before anything is trained, charged or sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error
from torch import Tensor, nn

from client import requests as work
from client.privacy import ledger
from client.privacy.accounting import GaussianSteps
from client.privacy.charges import Charge
from client.privacy.ledger import Ledger, get_ledger_path
from client.site import load_site
from client.site_context import SiteContext
from common import messages, models
from common.config import RunConfig
from common.errors import ConfigError, EngineError, WardroundError
from common.requests import Request
from server import app
from tests import tiny
from tests.wire import FakeGrid, Script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture(autouse=True)
def _sites(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {name: tiny.site(name, i) for i, name in enumerate(("north", "south"), 1)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: held[str(context.site)])


def private(**more: Any) -> RunConfig:
    held = {"privacy__epsilon": 6.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5, "privacy__accountant": "rdp",
            "training__loss": "cross_entropy", "federation__choose": "last", "federation__min_sites": 2}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def script(state: Path, site: str, **policy: Any) -> Script:
    context = SiteContext(tiny.policy(**{"max_delta": 0.5, "counts": "public", **policy}), site=site, state=state)

    def answer(request: Request) -> Any:
        try:
            return work.handle(context, request)
        except WardroundError as error:
            return Error(code=messages.ERROR_CODE, reason=messages.pack_error(site, type(error).__name__, str(error)))

    return answer


def charged(state: Path, site: str = "north", data: str = "other data") -> Ledger:
    """A ledger of `data` with a charge."""
    book = Ledger(get_ledger_path(state, site), data)
    book.charge(Charge("b" * 32, 1, "patient", "person", 3, GaussianSteps(0.5, 9.0, 1), 1e-3, "rdp"))
    return book


def corrupt(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charged(state).path.write_bytes(b"no ledger" * 999)


def tampered(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = own(state)
    with sqlite3.connect(book.path) as plain:
        plain.execute("DROP TRIGGER charges_stay")
        plain.execute("UPDATE charges SET steps = 0")
    plain.close()


def other_data(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    charged(state)


def own(state: Path) -> Ledger:
    context = SiteContext(tiny.policy(), site="north", state=state)
    from client.privacy import budget

    book = budget.open_ledger(context, load_site(context, private()))
    return charged(state, data=book.data)


def read_only(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, true = own(state).path, ledger.connect_sqlite

    def connect(wanted: Path) -> sqlite3.Connection:
        if wanted != path:
            return true(wanted)
        return sqlite3.connect(f"file:{wanted}?mode=ro", uri=True, isolation_level=None)

    monkeypatch.setattr(ledger, "connect_sqlite", connect)


def full_disk(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, true = own(state).path, ledger.connect_sqlite

    def connect(wanted: Path) -> sqlite3.Connection:
        result = true(wanted)
        if wanted == path:
            result.execute(f"PRAGMA max_page_count = {result.execute('PRAGMA page_count').fetchone()[0]}")
        return result

    monkeypatch.setattr(ledger, "connect_sqlite", connect)


def no_folder(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.mkdir()
    (state / "north").write_text("a file where the ledger's folder should be")


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        result: Tensor = self.out(self.norm(x).flatten(1))
        return result


def batch_norm(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "build_model", lambda task, wanted, seed: Mixing())


def nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None: ...


@pytest.mark.parametrize(
    ("spoil", "policy", "more", "says"),
    [
        (corrupt, {}, {}, r"the privacy ledger .* cannot be used"),
        (tampered, {}, {}, r"was changed at row 1"),
        (other_data, {}, {}, r"belongs to other data"),
        (read_only, {}, {}, r"cannot be used \(attempt to write a readonly"),
        (full_disk, {}, {}, r"cannot be used \(database or disk is full"),
        (no_folder, {}, {}, r"cannot make the folder"),
        (batch_norm, {}, {}, r"norm is a BatchNorm1d, which mixes patients"),
        (nothing, {"min_training_patients": 4}, {}, r"too few people"),
        (nothing, {}, {"privacy__delta": 0.34}, r"must be below 1 / 3 persons"),
        (nothing, {"private_only": True}, {"privacy__level": "none"}, r"nothing trains here without differential"),
        (nothing, {"max_epsilon": 5.0}, {}, r"epsilon=6 is above the 5"),
        (nothing, {"privacy_levels": ("record",)}, {}, r"level=patient is not allowed"),
    ],
)
def test_a_site_that_refuses_ends_the_run_before_anything_happens(
    spoil: Callable[[Path, pytest.MonkeyPatch], None], policy: dict[str, Any], more: dict[str, Any], says: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    state = tmp_path / "state"
    spoil(state, monkeypatch)
    grid = FakeGrid([script(state, "north", **policy), script(state, "south")])
    with pytest.raises((EngineError, ConfigError), match=says) as caught:
        app.run_federation(grid, private(**more), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert "north" in str(caught.value)
    assert {request.kind for _, request in grid.sent} == {"handshake"}
    assert not (tmp_path / "run" / "model.safetensors").exists()
    monkeypatch.undo()
    south = get_ledger_path(state, "south")
    assert not south.exists() or Ledger.read(south).rows() == []


@pytest.mark.parametrize(
    "wrong", [{"privacy__epsilon": 0.0}, {"privacy__epsilon": -1.0}, {"privacy__delta": 0.0}, {"privacy__delta": 1.0}]
)
def test_numbers_that_are_none(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong)).replace("__", ".")
    with pytest.raises(ConfigError, match=f"{name}: Input should be") as caught:
        private(**wrong)
    assert "\n" not in str(caught.value)
