"""The canary: who answers, what would be refused, and that nothing is spent, released or recorded for it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error

from client.gate.approvals import get_approval_file
from client.gate.register import open_register
from client.policy import SitePolicy
from client.privacy.ledger import Ledger, get_ledger_path
from client.requests import handle
from client.requests.canary import make_random_cohort, measure_step_seconds
from client.site import Site
from client.site_context import SiteContext
from common import messages, models
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.replies import CanaryReply
from common.requests import CanaryRequest, Request
from common.run_folder import RunFolder
from common.task import Task
from server import app
from server.canary import ask_sites, run_canary
from server.events import WaitingEvent
from tests import tiny
from tests.wire import Answer, FakeGrid, Script, change_report, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

PRIVATE: dict[str, Any] = {
    "training__loss": "cross_entropy", "federation__choose": "last", "privacy__delta": 1e-5,
    "privacy__accountant": "rdp", "privacy__sampling": 0.5,
}  # fmt: skip


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    parts = (*[0] * 24, *[1] * 6, *[2] * 6)
    found = {
        name: tiny.site(name, number, tiny.cohort(number, people=36, each=3), parts=parts)
        for number, name in enumerate(("north", "south"), 1)
    }
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def hospital(folder: Path, name: str = "north", **policy: Any) -> SiteContext:
    data = folder / name
    data.mkdir(parents=True, exist_ok=True)
    return SiteContext(SitePolicy(**policy), site=name, data=data, state=folder / f"state-{name}")


def hospital_script(context: SiteContext) -> Script:
    """Return what a hospital answers; what it refuses comes as an error, as from client.app."""

    def answer(request: Request) -> Answer:
        try:
            return handle(context, request)
        except Exception as error:
            return Error(messages.ERROR_CODE, messages.pack_error(str(context.site), type(error).__name__, str(error)))

    return answer


def ask(config: RunConfig, *scripts: Script) -> dict[str, Any]:
    return ask_sites(FakeGrid(scripts), config, lambda event: None, lambda: None)


def test_every_site_answers_twice_and_is_ready(sites: dict[str, Site]) -> None:
    grid = FakeGrid([site_script(site) for site in sites.values()])
    config = tiny.run_config()
    answer = ask_sites(grid, config, lambda event: None, lambda: None)
    assert list(answer["sites"]) == ["north", "south"]
    assert (answer["missing"], answer["problems"]) == ({}, [])
    assert all(site["step_seconds"] > 0 and "refusals" not in site for site in answer["sites"].values())
    assert [(node, request.kind, request.round) for node, request in grid.sent] == [
        (1, "canary", 0), (2, "canary", 0), (1, "canary", 1), (2, "canary", 1),
    ]  # fmt: skip
    first, second = grid.sent[0][1], grid.sent[2][1]
    assert isinstance(first, CanaryRequest)
    assert not first.weights
    expected = models.build_model(tiny.TASK, tiny.run_config().model, tiny.run_config().seed).state_dict()
    assert list(second.weights) == list(expected)


def dump(path: Path) -> dict[str, list[Any]]:
    """Return all rows of an SQLite file by table, without those of canaries."""
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    connection.close()
    rows["questions"] = [row for row in rows.get("questions", ()) if row[1] != "canaries"]
    return rows


@pytest.mark.parametrize("private", [False, True])
def test_nothing_is_charged_released_or_recorded(sites: dict[str, Site], tmp_path: Path, private: bool) -> None:
    context = hospital(tmp_path, privacy_levels=("patient",))
    config = tiny.run_config(**(PRIVATE | {"privacy__epsilon": 4.0} if private else {}))
    register = open_register(context)
    with register.open():
        pass
    before = dump(register.path)
    answer = ask(config, hospital_script(context))
    assert (list(answer["sites"]), answer["missing"]) == (["north"], {})
    assert "refusals" not in answer["sites"]["north"]
    assert dump(register.path) == before
    assert before["releases"] == before["people"] == []
    ledger = get_ledger_path(tmp_path / "state-north", "north")
    assert (Ledger.read(ledger).rows() if ledger.exists() else []) == []
    left = {path.name for path in register.path.parent.iterdir()}
    assert left <= {"register.sqlite", "register.sqlite-shm", "register.sqlite-wal", "privacy.sqlite",
                    "data-digests.json", "audit.jsonl", "audit.jsonl.head"}  # fmt: skip


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"private_only": True}, {}, "policy: nothing trains here without differential privacy: set privacy.epsilon"),
    ({}, {"sites__limit": 3}, "sites.limit is this hospital's to allow"),
    ({"min_training_patients": 30}, {}, "policy: the answer would rest on too few people"),
    ({}, {"training__lr": 10.0, "training__weight_decay": 1.0}, "an update forgets its first steps"),
    (
        {"privacy_levels": ("record",)},
        {**PRIVATE, "privacy__epsilon": 4.0},
        "privacy.level=patient is not allowed here",
    ),
    ({"max_epsilon": 2.0}, {**PRIVATE, "privacy__epsilon": 4.0}, "privacy.epsilon=4 is above the 2 allowed here"),
]


@pytest.mark.parametrize(("policy", "config", "why"), REFUSED)
def test_what_a_run_would_be_refused_is_known_before_it(
    sites: dict[str, Site], tmp_path: Path, policy: dict[str, Any], config: dict[str, Any], why: str
) -> None:
    """The canary's reason is that of the run itself."""
    wanted = tiny.run_config(**config, federation__rounds=1, federation__connect_timeout=1.0)
    answer = ask(wanted, hospital_script(hospital(tmp_path / "asked", **policy)))
    refusals = answer["sites"]["north"]["refusals"]
    assert any(why in text for text in refusals), refusals
    with pytest.raises(EngineError) as error:
        app.run_federation(FakeGrid([hospital_script(hospital(tmp_path / "run", **policy))]), wanted, tmp_path / "out")
    assert why in str(error.value)


def test_rounds_beyond_the_policys_limit_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    script = hospital_script(hospital(tmp_path, max_rounds_per_run=3))
    assert "refusals" not in ask(tiny.run_config(federation__rounds=3), script)["sites"]["north"]
    answer = ask(tiny.run_config(federation__rounds=4), script)
    assert answer["sites"]["north"]["refusals"] == [
        "policy: this hospital trains at most 3 rounds in one run: the run has 4"
    ]


def test_a_budget_that_would_not_suffice_is_known(sites: dict[str, Site], tmp_path: Path) -> None:
    context = hospital(tmp_path, max_epsilon=5.0)
    config = tiny.run_config(**PRIVATE, privacy__epsilon=4.0, federation__rounds=1)
    script = hospital_script(context)
    assert "refusals" not in ask(config, script)["sites"]["north"]
    app.run_federation(FakeGrid([script]), config, tmp_path / "out")
    (refusal,) = ask(config, script)["sites"]["north"]["refusals"]
    assert refusal.startswith("privacy budget spent: round 1 would bring epsilon to ")
    assert refusal.endswith("of the site's 5 at delta 1e-05")


def test_a_budget_of_evaluation_that_would_not_suffice_is_known(sites: dict[str, Site], tmp_path: Path) -> None:
    script = hospital_script(hospital(tmp_path, max_evaluation_epsilon=2.5))
    config = tiny.run_config(
        privacy__evaluation_epsilon=2.0, privacy__accountant="rdp", privacy__delta=1e-5, federation__rounds=1,
        evaluation__bins=32, evaluation__keep_resamples=False,
    )  # fmt: skip
    assert "refusals" not in ask(config, script)["sites"]["north"]
    app.run_federation(FakeGrid([script]), config, tmp_path / "out")
    refusals = ask(config, script)["sites"]["north"]["refusals"]
    assert len(refusals) == 2  # of those who validate, and of those who are tested
    for split, text in zip(("validation", "test"), refusals, strict=True):
        assert text.endswith(f"of the site's 2.5 at delta 1e-05, for the {split} patients")


def test_a_run_that_must_be_approved_is_known_and_does_not_wait_for_it(sites: dict[str, Site], tmp_path: Path) -> None:
    context = hospital(tmp_path, approval="required")
    (refusal,) = ask(tiny.run_config(), hospital_script(context))["sites"]["north"]["refusals"]
    assert refusal.startswith("waits for approval: somebody at this hospital must approve the configuration ")
    assert get_approval_file(tmp_path / "state-north", "north").read() == {}


def test_first_weights_that_were_not_approved_are_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    model = models.build_model(tiny.TASK, tiny.run_config().model, 99)
    save_file({name: value.numpy() for name, value in model.state_dict().items()}, tmp_path / "start.safetensors")
    config = tiny.run_config(federation__start=str(tmp_path / "start.safetensors"))
    (refusal,) = ask(config, hospital_script(hospital(tmp_path)))["sites"]["north"]["refusals"]
    assert "this hospital must approve them first (approved_weights: " in refusal


def test_missing_sites_and_other_problems_are_named(sites: dict[str, Site]) -> None:
    def silent(request: Request) -> Answer:
        return None

    north, south = (site_script(site) for site in sites.values())
    config = tiny.run_config(federation__connect_timeout=0.3, federation__expect=["north", "west"])
    answer = ask(config, north, silent)
    assert answer["missing"] == {"node 2": "no answer within 0.3 s"}
    assert answer["problems"] == [
        "1 of 2 sites answered", "the configuration names west, which did not answer",
    ]  # fmt: skip
    other = Task(**{**tiny.TASK.__dict__, "rate_hz": 250.0})

    def differs(request: Request) -> Answer:
        return change_report(south(request), task=other)

    (problem,) = ask(tiny.run_config(), north, differs)["problems"]
    assert problem.startswith("the sites hold different tasks: north against south")
    with pytest.raises(ConfigError, match="two nodes call themselves"):
        ask(tiny.run_config(), north, site_script(sites["north"]))


def test_sites_that_are_registered_are_waited_for_and_named(sites: dict[str, Site]) -> None:
    grid = FakeGrid([site_script(site) for site in sites.values()])
    grid.fixed_nodes, grid.offline = False, {2}
    names = {1: "north", 2: "south"}
    config = tiny.run_config(federation__connect_timeout=0.5)
    answer = ask_sites(grid, config, lambda event: None, lambda: names)
    assert (list(answer["sites"]), answer["missing"]) == (["north"], {"south": "did not connect within 0.5 s"})
    grid.offline = set()
    again = ask_sites(grid, config, lambda event: None, lambda: {1: "north", 2: "west"})
    assert again["missing"] == {"west": "it calls itself south, but its key is registered for west"}


def test_a_site_that_is_not_registered_is_not_waited_for(sites: dict[str, Site]) -> None:
    grid = FakeGrid([site_script(sites["north"])])
    grid.fixed_nodes = False
    events: list[Any] = []
    config = tiny.run_config(federation__connect_timeout=120.0, federation__expect=["north", "west"])
    answer = ask_sites(grid, config, events.append, lambda: {1: "north"})
    assert answer["missing"] == {"west": "is not registered: wardround server register west west.pub"}
    assert [event for event in events if isinstance(event, WaitingEvent) and event.seconds] == []


def test_a_site_that_is_away_is_waited_for_half_a_minute(sites: dict[str, Site], waiting_clock: Any) -> None:
    grid = FakeGrid([site_script(sites["north"])])
    grid.fixed_nodes = False
    config, start = tiny.run_config(federation__connect_timeout=120.0), waiting_clock.monotonic()
    answer = ask_sites(grid, config, lambda event: None, lambda: {1: "north", 2: "south"})
    assert answer["missing"] == {"south": "did not connect within 30 s"}
    assert 30 <= waiting_clock.monotonic() - start < 40


def test_a_folder_that_is_made_for_a_canary_gets_one(sites: dict[str, Site], tmp_path: Path) -> None:
    RunFolder(tmp_path).canary.write_text("{}")
    grid = FakeGrid([site_script(site) for site in sites.values()])
    app.run_federation(grid, tiny.run_config(), tmp_path)
    assert list(json.loads(RunFolder(tmp_path).canary.read_text())["sites"]) == ["north", "south"]
    assert json.loads(RunFolder(tmp_path).server_done.read_text()) == {"status": "complete", "error": None}
    assert not RunFolder(tmp_path).checkpoints.exists()
    wrong = tiny.run_config(federation__strategy={"name": "scaffold"})
    with pytest.raises(ConfigError, match="scaffold corrects plain gradient steps"):
        run_canary(grid, wrong, tmp_path)
    assert json.loads(RunFolder(tmp_path).server_done.read_text())["status"] == "failed"


def test_a_step_is_measured_on_random_inputs(sites: dict[str, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []
    monkeypatch.setattr(
        "client.requests.canary.train_model", lambda model, cohort, *args, **more: trained.append(cohort)
    )
    config = tiny.run_config()
    weights = {k: v.numpy() for k, v in models.build_model(tiny.TASK, config.model, config.seed).state_dict().items()}
    measure_step_seconds(sites["north"], CanaryRequest(config, 1, weights))
    assert [cohort.persons for cohort in trained] == [("random",)] * 2
    assert [len(cohort.y) for cohort in trained] == [8, 24]
    assert set(trained[0].persons).isdisjoint(sites["north"].train.persons)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_random_inputs_have_the_shapes_of_the_task(kind: str) -> None:
    task = Task(**{**tiny.TASK.__dict__, "kind": kind})
    cohort = make_random_cohort(task, 10)
    assert (cohort.x.shape, cohort.features.shape) == ((10, 1, 16), (10, 1))
    assert cohort.y.shape == ((10, 3) if kind == "multilabel" else (10,))


def test_a_canary_is_counted_and_limited(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.gate.admission.MAX_CANARIES_PER_MONTH", 2)
    script = hospital_script(hospital(tmp_path))
    assert isinstance(script(CanaryRequest(tiny.run_config())), CanaryReply)
    assert isinstance(script(CanaryRequest(tiny.run_config())), CanaryReply)
    refused = script(CanaryRequest(tiny.run_config()))
    assert isinstance(refused, Error)
    assert "this hospital answers canaries for at most 2 models in 30 days" in str(refused.reason)
