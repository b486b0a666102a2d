"""A site is called as its key was registered, and by no other name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.site import Site
from common.errors import DataError, EngineError
from common.requests import Request
from server import app
from server.phases.handshake import run_handshake
from server.site_registry import (
    REGISTRY_VARIABLE,
    read_registry,
    registered_names,
    registry_path,
    write_registry,
)
from server.superlink import Connection
from tests import tiny
from tests.wire import FakeGrid, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    sites = {name: tiny.site(name, seed) for seed, name in enumerate(("east", "north", "west"), start=1)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    return sites


def make_grid(sites: dict[str, Site]) -> FakeGrid:
    return FakeGrid([site_script(site) for site in sites.values()])


def quiet(event: Any) -> None: ...


def test_a_name_that_the_key_was_not_registered_for_is_refused(sites: dict[str, Site]) -> None:
    registered = {1: "east", 2: "south", 3: "west"}
    federation, refused = run_handshake(make_grid(sites), tiny.run_config(), quiet, lambda: registered)
    assert refused == {"south": "it calls itself north, but its key is registered for south"}
    assert federation.names == {1: "east", 3: "west"}


def test_two_nodes_of_one_name_end_no_run_where_keys_are_registered(sites: dict[str, Site]) -> None:
    scripts = [site_script(sites["east"]), site_script(sites["east"])]
    federation, refused = run_handshake(FakeGrid(scripts), tiny.run_config(), quiet, lambda: {1: "east", 2: "north"})
    assert list(federation.reports) == ["east"]
    assert refused == {"north": "it calls itself east, but its key is registered for north"}


def test_a_node_that_was_unregistered_is_refused(sites: dict[str, Site]) -> None:
    federation, refused = run_handshake(make_grid(sites), tiny.run_config(), quiet, lambda: {1: "east", 2: "north"})
    assert sorted(federation.reports) == ["east", "north"]
    assert refused == {"west": "it calls itself west, but its key is registered for no site: wardround server register"}


def test_a_named_site_cannot_be_played_by_another(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__expect=["east", "north"])
    names = {1: "east", 2: "south", 3: "west"}
    with pytest.raises(
        EngineError, match=r"missing north .*it calls itself north, but its key is registered for south"
    ):
        app.run_federation(make_grid(sites), config, tmp_path, read_names=lambda: names)


def test_a_site_that_fails_is_called_as_registered(sites: dict[str, Site]) -> None:
    def breaks(request: Request) -> None:
        return None

    scripts = [site_script(sites["east"]), breaks]
    config = tiny.run_config(federation__connect_timeout=0.5)
    _, refused = run_handshake(FakeGrid(scripts), config, quiet, lambda: {1: "east", 2: "north"})
    assert list(refused) == ["north"]


def test_without_a_registry_a_site_is_called_as_it_calls_itself(sites: dict[str, Site]) -> None:
    federation, refused = run_handshake(make_grid(sites), tiny.run_config(), quiet)
    assert federation.names == {1: "east", 2: "north", 3: "west"}
    assert refused == {}


def test_the_registry_reaches_the_app_by_the_environment(tmp_path: Path) -> None:
    path = registry_path(tmp_path)
    assert registered_names({}) is None
    assert registered_names({REGISTRY_VARIABLE: str(path)}) == {}
    write_registry(path, {"west": "3", "east": str(2**63 + 1)})
    assert registered_names({REGISTRY_VARIABLE: str(path)}) == {3: "west", 2**63 + 1: "east"}
    assert list(json.loads(path.read_text())) == ["east", "west"]
    assert Connection("127.0.0.1:1", None, tmp_path).sites() == {"west": "3", "east": str(2**63 + 1)}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": "one"}', "{"])
def test_a_damaged_registry_is_named(tmp_path: Path, text: str) -> None:
    path = registry_path(tmp_path)
    path.write_text(text)
    with pytest.raises(DataError, match=r"sites\.json is damaged: restore it"):
        read_registry(path)
