"""A site's state files: written whole or not at all, one folder a run, safe from processes that end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import node, supernode
from client import requests as work
from client.policy import SIMULATION_POLICY
from client.site import Site
from client.site_context import STATE_VARIABLE, SiteContext, read_site_context
from client.training.local_update import copy_weights
from client.training.state_files import StateFiles
from common import models
from common.arrays import Weights
from common.errors import DataError, SiteError
from common.requests import Method
from server.run import digest_weights
from tests import tiny
from tests.wire import build_request

RUN = "0123456789abcdef" * 2
ROOT = Path(__file__).resolve().parents[3]


def at(folder: Path, site: str = "north", run: str = RUN) -> StateFiles:
    return StateFiles.for_run(SiteContext(SIMULATION_POLICY, state=folder), site, run)


def test_written_state_is_read_back(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    given = {"a.weight": whole.T, "b": np.asarray(3.5), "c": whole[:, ::2]}
    state = at(tmp_path)
    assert (state.rounds(), state.read(1)) == ([], None)
    state.write(1, given, ())
    found = at(tmp_path).read(1)
    assert found is not None
    assert set(found) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value)


def test_each_site_and_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for i, (site, run) in enumerate([("north", RUN), ("south", RUN), ("north", RUN[::-1])]):
        at(tmp_path, site, run).write(1, {"w": np.full(1, i)}, ())
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert files == [
        f"north/{RUN}/round-00001.safetensors",
        f"north/{RUN[::-1]}/round-00001.safetensors",
        f"south/{RUN}/round-00001.safetensors",
    ]


@pytest.mark.parametrize("run", ["", "..", "../" + RUN[3:], RUN + "/x", RUN.upper(), RUN[:-1], RUN + "\n"])
def test_a_run_id_that_leaves_the_folder_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(SiteError, match="32 hex digits"):
        at(tmp_path, run=run)


@pytest.mark.parametrize("site", ["..", "a/b", "Long Beach", ".", "%2e", "München"])
def test_any_site_name_gives_one_folder_in_the_state_folder(tmp_path: Path, site: str) -> None:
    at(tmp_path, site).write(1, {"w": np.zeros(1)}, ())
    (folder,) = tmp_path.iterdir()
    assert folder.is_dir()
    assert at(tmp_path, site).folder.parent == folder
    assert at(tmp_path, site + "x").folder.parent != folder


def test_two_names_are_two_folders(tmp_path: Path) -> None:
    names = ["a/b", "a.b", "a_b", "a b", "a%2fb", "ab"]
    assert len({at(tmp_path, name).folder for name in names}) == len(names)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = at(tmp_path)
    state.write(1, {"w": np.ones(2)}, ())
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        for number in (1, 2):
            with pytest.raises(OSError, match="power cut"):
                state.write(number, {"w": np.zeros(2)}, ())
    found = state.read(1)
    assert found is not None
    assert found["w"].tolist() == [1, 1]
    assert (state.rounds(), state.read(2)) == ([1], None)


def test_a_hospitals_state_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), rename(*paths)))
    for context, expected in (
        (SiteContext(SIMULATION_POLICY, site="north", data=tmp_path, state=tmp_path), ["sync", "name", "sync"]),
        (SiteContext(SIMULATION_POLICY, index=1, count=2, state=tmp_path), ["name"]),
    ):
        done.clear()
        StateFiles.for_run(context, "north", RUN).write(1, {"w": np.zeros(2)}, ())
        assert done == expected


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_damaged_file_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    state = at(tmp_path)
    state.write(3, {"w": np.ones(2)}, ())
    path = state.folder / "round-00003.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        state.read(3)
    assert str(caught.value) == f"cannot read the state in {path}: move the file away to continue without it"


def test_only_named_rounds_stay(tmp_path: Path) -> None:
    state = at(tmp_path)
    for number in range(1, 6):
        state.write(number, {"w": np.full(1, number)}, keep=(number - 1, 2))
    assert state.rounds() == [2, 4, 5]
    (state.folder / "notes.txt").write_text("a reader's own")
    state.write(123456, {"w": np.zeros(1)}, ())
    assert state.rounds() == [123456]
    assert (state.folder / "notes.txt").exists()


def test_a_site_without_a_state_folder_refuses() -> None:
    with pytest.raises(SiteError, match="no folder for it: give --state"):
        StateFiles.for_run(SiteContext(SIMULATION_POLICY), "north", RUN)


# Where the folder is.


def test_the_state_folder_comes_from_the_nodes_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hospital: dict[str, object] = {"site": "north", "data": "/data"}
    simulated: dict[str, object] = {"partition-id": 0, "num-partitions": 2}
    assert (
        read_site_context(hospital).state
        is read_site_context(simulated).state
        is read_site_context({**simulated, "state": ""}).state
        is None
    )
    assert (
        read_site_context({**hospital, "state": "/s"}).state
        == read_site_context({**simulated, "state": "/s"}).state
        == Path("/s")
    )
    monkeypatch.setenv(STATE_VARIABLE, "/env")
    assert read_site_context(simulated).state == Path("/env")
    assert read_site_context({**simulated, "state": "/s"}).state == Path("/s")
    assert read_site_context(hospital).state is None


def test_the_state_folder_does_not_affect_the_site_cache() -> None:
    one, other = (
        SiteContext(SIMULATION_POLICY, index=1, count=2),
        SiteContext(SIMULATION_POLICY, index=1, count=2, state=Path("/s")),
    )
    assert one == other
    assert hash(one) == hash(other)


def test_a_hospitals_client_keeps_state_below_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from experiments.cli import main

    seen: list[supernode.NodeSettings] = []

    class Fake:
        def __init__(self, settings: supernode.NodeSettings, **_: Any) -> None:
            seen.append(settings)
            self.log = tmp_path / "node.log"

        def run(self, say: Any) -> None: ...

    monkeypatch.setattr(node, "Node", Fake)
    for name in ("ca.pem", "node.key"):
        (tmp_path / name).write_text("x")
    given = {"site": "north", "data": tmp_path, "superlink": "host:1", "ca": tmp_path / "ca.pem"}
    given |= {"key": tmp_path / "node.key", "state": tmp_path / "kept"}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    result = CliRunner().invoke(main.app, ["client", *words])
    assert result.exit_code == 0, result.output
    assert read_site_context(seen[0].node_config).state == tmp_path / "kept" / "runs"


# A site over several rounds.

PER = Method(local=("head.out.weight", "head.out.bias"))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    found = tiny.site("north", 1)
    monkeypatch.setattr("client.site.read_site", lambda context, config: found)
    return found


def first() -> Weights:
    return copy_weights(models.build_model(tiny.TASK, tiny.run_config().model, 1))


def ask(folder: Path, number: int, base: int, kept: int = 0, method: Method = PER, **more: Any) -> Any:
    kind = more.pop("kind", "train")
    request = build_request(
        kind, tiny.run_config(), number, more.pop("weights", first()), method=method, run_id=RUN, state_round=base,
        needed_rounds=(kept,) if kept else (), **more,
    )  # fmt: skip
    return work.handle(SiteContext(SIMULATION_POLICY, site="north", state=folder), request)


def test_local_layers_never_leave(site: Site, tmp_path: Path) -> None:
    reply = ask(tmp_path, 1, 0)
    assert list(reply.weights) == [name for name in first() if name not in PER.local]
    assert reply.control == {}
    found = at(tmp_path).read(1)
    assert found is not None
    assert set(found) == set(PER.local)
    assert not np.array_equal(found["head.out.bias"], first()["head.out.bias"])


def test_the_state_used_is_that_of_the_requests_weights(site: Site, tmp_path: Path) -> None:
    one = ask(tmp_path, 1, 0)
    sent = {**first(), **one.weights}
    two = ask(tmp_path, 2, 1, weights=sent)
    kept = [at(tmp_path).read(number) for number in (1, 2)]
    # the reply of round 2 never came: round 3 goes on from what round 1 left
    three = ask(tmp_path, 3, 1, weights=sent)
    assert at(tmp_path).rounds() == [1, 3]
    at(tmp_path).write(9, kept[0] or {}, (1,))
    same = ask(tmp_path, 3, 9, weights=sent)
    assert digest_weights(three.weights) == digest_weights(same.weights)
    at(tmp_path).write(9, kept[1] or {}, (1,))
    other = ask(tmp_path, 3, 9, weights=sent)
    assert digest_weights(three.weights) != digest_weights(other.weights)
    assert not any(reply.report.state for reply in (one, two, three))


def test_a_site_that_lost_its_state_continues_and_reports_it(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = ask(tmp_path, 2, 0)
    lost = ask(tmp_path / "new", 2, 1)
    assert digest_weights(lost.weights) == digest_weights(fresh.weights)
    assert (fresh.report.to_dict().get("state"), lost.report.to_dict()["state"]) == (None, "lost")
    assert "no state of round 1" in caplog.text


def test_results_note_when_a_site_has_no_personal_state(site: Site, tmp_path: Path) -> None:
    ask(tmp_path, 1, 0)
    ditto = Method(pull=0.5)
    for method, folder, table, words in (
        (PER, tmp_path / "new", "all", "local layers: this site has none, so the server's initial ones"),
        (ditto, tmp_path / "new", "personal", "personal model: this site has none, so the federated one"),
    ):
        found = ask(folder, 1, 0, method=method, kind="test").report.to_dict()["evaluations"]
        assert words in found[table]["notes"]
    assert set(found) == {"all", "personal"}
    assert found["all"]["confusion"] == found["personal"]["confusion"]
    for reply in (found, ask(tmp_path, 1, 1, kind="test").report.to_dict()["evaluations"]):
        assert not any("this site has none" in note for note in reply["all"]["notes"])


def test_a_personal_model_has_its_own_tables(site: Site, tmp_path: Path) -> None:
    config = tiny.run_config(evaluation__without={"one": ["1-5"]})
    request = build_request("test", config, 1, first(), method=Method(pull=0.5), run_id=RUN)
    reply = work.handle(SiteContext(SIMULATION_POLICY, site="north", state=tmp_path), request)
    names = ["all", "without one", "personal", "personal without one"]
    assert list(reply.report.to_dict()["evaluations"]) == names
    assert set(reply.tables) == {name + end for name in names for end in ("", "/resampled")}
    assert reply.tables["personal without one"].confusion.sum() < reply.tables["personal"].confusion.sum()


@pytest.mark.parametrize(
    ("method", "more", "why"),
    [
        (Method(local=("head.none",)), {}, "local layers that the model does not have"),
        (Method(local=("head.out.bias",)), {"base": 1}, "does not hold the local layers that the server names"),
        (Method(control=True), {}, "control variates do not fit the model"),
        (Method(control=True), {"control": {"w": np.zeros(2)}}, "control variates do not fit the model"),
    ],
)
def test_a_request_that_does_not_fit_the_model_is_refused(
    site: Site, tmp_path: Path, method: Method, more: dict[str, Any], why: str
) -> None:
    ask(tmp_path, 1, 0)
    before = at(tmp_path).rounds()
    with pytest.raises(SiteError, match=why):
        ask(tmp_path, 2, more.pop("base", 0), method=method, **more)
    assert at(tmp_path).rounds() == before


def test_plain_training_needs_no_folder_and_writes_none(site: Site, tmp_path: Path) -> None:
    request = build_request("train", tiny.run_config(), 1, first(), run_id="not even an id")
    assert work.handle(SiteContext(SIMULATION_POLICY, site="north"), request).weights.keys() == first().keys()
    assert work.handle(SiteContext(SIMULATION_POLICY, site="north", state=tmp_path / "s"), request)
    assert not (tmp_path / "s").exists()


PROCESS = """
import sys
from pathlib import Path
from client import site
from tests import tiny
from tests.client.training import test_state_files as test_state
site.read_site = lambda context, config: tiny.site("north", 1)
reply = test_state.ask(Path(sys.argv[1]), 2, 1, method=test_state.Method(pull=0.5), weights=test_state.first())
print(test_state.digest_weights(reply.weights), test_state.digest_weights(test_state.at(Path(sys.argv[1])).read(2)))
"""


@pytest.mark.slow
def test_a_restarted_client_continues_with_the_same_weights(site: Site, tmp_path: Path) -> None:
    ditto = Method(pull=0.5)
    for folder in (tmp_path / "one", tmp_path / "two"):
        ask(folder, 1, 0, method=ditto)
    here = ask(tmp_path / "one", 2, 1, method=ditto)
    kept = at(tmp_path / "one").read(2)
    assert kept is not None
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "two")]
    fresh = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    assert fresh.stdout.split() == [digest_weights(here.weights), digest_weights(kept)]
    assert digest_weights(kept) != digest_weights(at(tmp_path / "one").read(1) or {})
