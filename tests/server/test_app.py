"""The ServerApp's files: whole at any moment, JSON without NaN."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from common.config import config_to_json
from common.errors import ConfigError
from common.files import write_arrays, write_json
from server import app
from tests import tiny
from tests.wire import FakeGrid

pytestmark = pytest.mark.usefixtures("waiting_clock")


def test_main_reads_the_run_from_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        app, "run_federation", lambda grid, config, out, read_names: given.extend([grid, config, out, read_names()])
    )
    config, grid = tiny.run_config(), FakeGrid([])
    context = Context(
        run_id=1, node_id=0, node_config={}, state=RecordDict(),
        run_config={"wardround-config": config_to_json(config), "wardround-out": str(tmp_path)},
    )  # fmt: skip
    app.main(grid, context)
    assert given == [grid, config, tmp_path, None]


def test_a_wrong_strategy_is_reported_in_the_files_too(tmp_path: Path) -> None:
    config = tiny.run_config(federation__strategy={"name": "nope"})
    with pytest.raises(ConfigError):
        app.run_federation(FakeGrid([]), config, tmp_path / "new")
    done = json.loads((tmp_path / "new" / "server.done").read_text())
    assert done["status"] == "failed"
    assert "nope" in done["error"]
    result = json.loads((tmp_path / "new" / "federated.json").read_text())
    assert (result["status"], result["sites"], result["weights"]) == ("failed", {}, None)
    assert (tmp_path / "new" / "rounds.jsonl").read_text() == ""


def test_an_unexpected_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(app, "run_handshake", breaks)
    with pytest.raises(RuntimeError):
        app.run_federation(FakeGrid([]), tiny.run_config(), tmp_path)
    error = json.loads((tmp_path / "server.done").read_text())["error"]
    assert error.startswith("unexpected RuntimeError in tests/server/test_app.py, line ")
    assert "first line" not in error  # it could quote a patient's value


def test_an_app_that_flower_ends_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: Any) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(app, "run_handshake", end)
    with pytest.raises(SystemExit):
        app.run_federation(FakeGrid([]), tiny.run_config(), tmp_path)
    done = json.loads((tmp_path / "server.done").read_text())
    assert done == {"status": "failed", "error": "ended by the server: see its log"}


def test_json_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": [1.0, float("nan"), (float("inf"),)]})
    assert json.loads(path.read_text()) == {"x": [1.0, None, [None]]}
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_json(path, {"y": 2})
    with pytest.raises(OSError, match="power cut"):
        write_arrays(path, {"w": np.zeros(2)}, {})
    assert json.loads(path.read_text()) == {"x": [1.0, None, [None]]}


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    given = {"a": whole.T, "b": np.asarray(3.0), "c": whole[:, ::2]}
    write_arrays(tmp_path / "m.safetensors", given, {"round": "3"})
    result = load_file(tmp_path / "m.safetensors")
    for key, value in given.items():
        np.testing.assert_array_equal(result[key], value)
