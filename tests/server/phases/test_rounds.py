"""The rounds against a plain loop over the sites, and what they do when sites fail."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error, RecordDict

from client.site import Site
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import messages, models
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.metrics import evaluation
from common.metrics.counts import Counts
from common.metrics.table_names import ALL_PATIENTS
from common.replies import HandshakeReply, Reply, ValidateReply
from common.reports import HandshakeCounts, HandshakeReport, SplitCounts, ValidateReport
from common.request_record import PROTOCOL
from common.requests import HandshakeRequest, Request, ValidateRequest
from common.seeds import seed_for
from server import app, exchange, strategies
from server.events import Event, WaitingEvent
from server.exchange import Expected, Step
from server.phases import handshake
from server.phases.handshake import run_handshake
from server.phases.test import run_test
from server.phases.train import run_rounds
from server.phases.validate import is_better
from server.run import Federation, Outcome, Run, digest_weights
from tests import tiny
from tests.wire import Answer, FakeGrid, Script, change_json, change_report, site_script


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    """Two sites of different sizes, opened by name."""
    north = tiny.site("north", 1)
    south = tiny.site("south", 2, parts=(0, 0, 0, 0, 0, 1, 2, 2))
    found = {"north": north, "south": south}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def scripts(sites: dict[str, Site]) -> list[Script]:
    return [site_script(site) for site in sites.values()]


def quiet(event: dict[str, Any]) -> None:
    """Listen to nothing."""


def lead(grid: FakeGrid, config: RunConfig, out: Path, listen: Callable[[Any], None] = quiet) -> Any:
    """Run the server and return its outcome."""
    app.run_federation(grid, config, out, listen)
    return outcome(out)


def strictly(text: str) -> Any:
    """Read JSON that holds no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def outcome(out: Path) -> Any:
    for line in (out / "events.jsonl").read_text().splitlines():
        strictly(line)
    assert not list(out.glob("*.part"))
    return strictly((out / "federated.json").read_text())


def lines(out: Path) -> list[Any]:
    return [strictly(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def plain_rounds(sites: dict[str, Site], config: RunConfig) -> list[dict[str, np.ndarray]]:
    """Federated averaging as a plain loop over the sites in the order of their names; the weights of each round."""
    current = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    counts = [sum(s.train.class_counts()[c] for s in sites.values()) for c in range(3)]
    total = sum(len(s.train.y) for s in sites.values())
    found = []
    for number in range(1, config.federation.rounds + 1):
        merged: dict[str, np.ndarray] = {}
        for name in sorted(sites):
            model = models.build_model(tiny.TASK, config.model, config.seed)
            model.load_state_dict({key: torch.tensor(value) for key, value in current.items()})
            seed = seed_for(config.seed, name, number, "train")
            epochs = config.training.epochs
            schedule = Schedule((number - 1) * epochs, config.federation.rounds * epochs)
            train_model(model, sites[name].train, config.training, seed, counts=counts, schedule=schedule)
            share = len(sites[name].train.y) / total
            for key, value in copy_weights(model).items():
                merged[key] = merged[key] + value * share if key in merged else value * share
        found.append(merged)
        current = merged
    return found


def test_rounds_are_the_plain_loop_over_sites(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__rounds=3, training__epochs=2, federation__choose="last")
    done = lead(FakeGrid(scripts(sites)), config, tmp_path)
    expected = plain_rounds(sites, config)
    assert [line["weights"] for line in lines(tmp_path)] == [digest_weights(w) for w in expected]
    assert (done["status"], done["chosen"], done["weights"]) == ("complete", 3, digest_weights(expected[-1]))


def test_one_site_with_all_data_is_ordinary_training(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__choose="last")
    north = sites["north"]
    lead(FakeGrid([site_script(north)]), config, tmp_path)
    model = models.build_model(tiny.TASK, config.model, config.seed)
    for number in (1, 2):
        seed = seed_for(config.seed, "north", number, "train")
        counts = north.train.class_counts()
        train_model(model, north.train, config.training, seed, counts=counts, schedule=Schedule(number - 1, 2))
        assert lines(tmp_path)[number - 1]["weights"] == digest_weights(copy_weights(model))


def test_any_order_of_answers_gives_the_same_weights(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config()
    found = []
    for i, sign in enumerate((1, -1)):
        grid = FakeGrid(scripts(sites), order=lambda message, s=sign: s * message.metadata.dst_node_id)
        found.append(lead(grid, config, tmp_path / str(i)))
    turned = FakeGrid(list(reversed(scripts(sites))))
    found.append(lead(turned, config, tmp_path / "turned"))
    for other in found[1:]:
        assert {k: v for k, v in other.items() if k != "seconds"} == {
            k: v for k, v in found[0].items() if k != "seconds"
        }


def fails_in(script: Script, wrong: Callable[[Request], Answer], kind: str, rounds: set[int]) -> Script:
    """Return a script that goes wrong in some rounds of one kind."""

    def answer(request: Request) -> Answer:
        return wrong(request) if request.kind == kind and request.round in rounds else script(request)

    return answer


def test_a_site_that_fails_in_round_2_is_named_and_comes_back(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)
    reason = messages.pack_error("south", "SiteError", "policy: too few people")
    south = fails_in(south, lambda request: Error(code=messages.ERROR_CODE, reason=reason), "train", {2})
    config = tiny.run_config(federation__rounds=3)
    done = lead(FakeGrid([north, south]), config, tmp_path)
    told = lines(tmp_path)
    assert [sorted(s for s, v in line["sites"].items() if "train" in v) for line in told] == [
        ["north", "south"], ["north"], ["north", "south"],
    ]  # fmt: skip
    assert told[1]["lost"] == {"south": "policy: too few people"}
    assert (done["status"], done["lost"]) == ("complete", {"south": "round 2: policy: too few people"})
    assert set(done["test"]["all"]) == {"north", "south"}


def spoilt(script: Script, **changes: Any) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        reply = script(request)
        assert isinstance(reply, Reply)
        return replace(reply, **changes)

    return answer


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda s: spoilt(s, weights={"other": np.zeros(3)}), "its weights do not fit the model"),
        (lambda s: lambda request: RecordDict(), "its answer is not one of this federation's protocol"),
        (
            lambda s: lambda request: change_report(s(request), examples=0),
            "it trained on 0 examples, in the handshake it stated 40",
        ),
        (lambda s: lambda request: Error(code=7, reason="node\nunavailable"), "transport error 7: node"),
        (lambda s: lambda request: Error(code=100, reason="not JSON"), "transport error 100: not JSON"),
        (lambda s: lambda request: None, "no answer within 0.3 s"),
    ],
    ids=["other model", "empty", "no examples", "transport", "garbled error", "silent"],
)
def test_a_broken_answer_costs_its_site_and_no_other(
    sites: dict[str, Site], tmp_path: Path, wrong: Any, why: str
) -> None:
    north, south = scripts(sites)
    config = tiny.run_config(federation__rounds=1, federation__round_timeout=0.3)
    done = lead(FakeGrid([north, fails_in(south, wrong(south), "train", {1})]), config, tmp_path)
    assert done["status"] == "complete"
    assert lines(tmp_path)[0]["lost"] == {"south": why}
    assert lines(tmp_path)[0]["sites"]["south"].keys() == {"validation"}


def test_weights_that_are_not_finite_do_not_reach_the_average(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)

    def poison(request: Request) -> Answer:
        reply = south(request)
        assert isinstance(reply, Reply)
        next(iter(reply.weights.values())).flat[0] = np.nan
        return reply

    config = tiny.run_config(federation__rounds=1, federation__choose="last")
    lead(FakeGrid([north, fails_in(south, poison, "train", {1})]), config, tmp_path)
    assert lines(tmp_path)[0]["lost"] == {"south": "its weights of stem.weight are not finite numbers"}


def test_fewer_sites_than_needed_end_the_run(sites: dict[str, Site], tmp_path: Path) -> None:
    north, south = scripts(sites)
    south = fails_in(south, lambda request: Error(code=1, reason="power cut"), "train", {2})
    config = tiny.run_config(federation__min_sites=2, federation__rounds=3)
    with pytest.raises(EngineError, match=r"round 2: 1 of 2 sites answered, 2 are needed \(south: .*power cut"):
        lead(FakeGrid([north, south]), config, tmp_path)
    done = outcome(tmp_path)
    assert done["status"] == "failed"
    assert "round 2" in done["error"]
    assert "round 2" in done["lost"]["south"]
    assert len(lines(tmp_path)) == 1
    assert (tmp_path / "model.safetensors").is_file()
    assert strictly((tmp_path / "server.done").read_text())["status"] == "failed"


def test_a_site_that_goes_offline_is_not_waited_for(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "OFFLINE_GRACE", 0.2)
    north, south = scripts(sites)
    grid = FakeGrid([north, south])

    def dies(request: Request) -> Answer:
        grid.offline.add(2)
        return None

    def comes_back(request: Request) -> Answer:
        if request.kind == "train" and request.round == 3:
            grid.offline.discard(2)
        return north(request)

    grid.scripts = {1: comes_back, 2: fails_in(south, dies, "train", {2})}
    done = lead(grid, tiny.run_config(federation__rounds=4), tmp_path)
    told = lines(tmp_path)
    assert told[1]["lost"] == {"south": "went offline"}
    assert told[2]["lost"] == {"south": "offline"}
    assert told[3]["lost"] == {}
    assert told[3]["sites"]["south"]["train"]["examples"] == 40
    assert done["status"] == "complete"
    assert done["seconds"] < 10


def test_exchange_sorts_and_waits_no_longer_than_asked(sites: dict[str, Site]) -> None:
    config = tiny.run_config()
    grid = FakeGrid([*reversed(scripts(sites)), lambda request: None])
    heard: list[Any] = []
    outgoing = messages.build_messages(HandshakeRequest(config), (1, 2, 3))
    expected = Expected(HandshakeReply, lambda reply, node: "")
    names = {1: "south", 2: "north", 3: "west"}
    found, lost = exchange.send_and_collect(grid, outgoing, names, 0.2, heard.append, Step("handshake"), expected)
    assert list(found) == ["north", "south"]
    assert lost == {"west": "no answer within 0.2 s"}
    assert [(event.site, event.ok, event.waiting) for event in heard] == [("south", True, 2), ("north", True, 1)]


def constant(value: np.ndarray) -> Counts:
    return Counts(value, np.zeros((3, 2, 64), np.int64), np.zeros(()))


def confusion(right: int, wrong: int) -> np.ndarray:
    """Two classes: `right` of the first are found, `wrong` are taken for the second, which is always found."""
    return np.array([[right, wrong, 0], [0, 10, 0], [0, 0, 0]], dtype=np.int64)


def checked(script: Script, by_round: dict[int, np.ndarray]) -> Script:
    """Return a script whose validation counts are given."""

    def answer(request: Request) -> Answer:
        if isinstance(request, HandshakeRequest):
            reply = script(request)
            examples = max(int(each.sum()) for each in by_round.values())
            held = SplitCounts(patients=1, examples=examples, classes=(examples, 0, 0))
            return change_report(reply, counts=reply.report.counts.model_copy(update={"validation": held}))
        if not isinstance(request, ValidateRequest):
            return script(request)
        counts = constant(by_round[request.round])
        return ValidateReply("ignored", ValidateReport(patients=1), tables={ALL_PATIENTS: counts})

    return answer


def test_the_round_is_chosen_on_merged_counts_not_on_the_mean_of_sites(sites: dict[str, Site], tmp_path: Path) -> None:
    # accuracy: a small site that gains and a large one that loses. The mean of sites prefers round 2 (0.9 and 0.7
    # against 0.6 and 0.8), the merged counts round 1.
    small = {1: np.diag([6, 0, 0]), 2: np.diag([9, 0, 0])}
    small[1][0, 1], small[2][0, 1] = 4, 1
    large = {1: np.diag([800, 0, 0]), 2: np.diag([700, 0, 0])}
    large[1][0, 1], large[2][0, 1] = 200, 300
    north, south = scripts(sites)
    config = tiny.run_config(evaluation__metric="accuracy")
    done = lead(FakeGrid([checked(north, small), checked(south, large)]), config, tmp_path)
    values = [line["validation"]["accuracy"] for line in lines(tmp_path)]
    assert values == pytest.approx([806 / 1010, 709 / 1010])
    assert done["chosen"] == 1
    last = tiny.run_config(evaluation__metric="accuracy", federation__choose="last")
    assert lead(FakeGrid([north, south]), last, tmp_path / "last")["chosen"] == 2


def test_a_lost_site_does_not_make_a_round_look_better(sites: dict[str, Site], tmp_path: Path) -> None:
    # south's patients are hard; in round 2 it is silent, and the merged accuracy rises although north's falls
    easy = {1: np.diag([90, 0, 0]), 2: np.diag([85, 0, 0])}
    easy[1][0, 1], easy[2][0, 1] = 10, 15
    hard = {1: np.diag([50, 0, 0])}
    hard[1][0, 1] = 50
    north, south = scripts(sites)
    silent = fails_in(checked(south, hard), lambda request: None, "validate", {2})
    config = tiny.run_config(evaluation__metric="accuracy", federation__round_timeout=0.3)
    done = lead(FakeGrid([checked(north, easy), silent]), config, tmp_path)
    assert [line["validation"]["accuracy"] for line in lines(tmp_path)] == pytest.approx([0.7, 0.85])
    assert lines(tmp_path)[1]["lost"] == {"south": "validation: no answer within 0.3 s"}
    assert done["chosen"] == 1


def test_a_smaller_loss_is_better(sites: dict[str, Site]) -> None:
    config = tiny.run_config(evaluation__metric="loss")
    run = Run(
        FakeGrid([]), config, strategies.build_strategy(config.federation.strategy), Federation(), tiny.TASK, quiet
    )
    low, high = (Counts(np.diag([5, 5, 0]), np.zeros((3, 2, 64), int), np.asarray(v)) for v in (1.0, 2.0))
    assert is_better(run, {"a": low}, {"a": high})
    assert not is_better(run, {"a": high}, {"a": low})
    assert not is_better(run, {"a": low}, {"a": low})
    assert not is_better(run, {"b": high}, {"a": low})


def test_the_choice_of_the_round_does_not_freeze_where_no_site_answers_in_both(sites: dict[str, Site]) -> None:
    config = tiny.run_config(evaluation__metric="loss")
    run = Run(
        FakeGrid([]), config, strategies.build_strategy(config.federation.strategy), Federation(), tiny.TASK, quiet
    )
    low, high = (Counts(np.diag([5, 5, 0]), np.zeros((3, 2, 64), int), np.asarray(v)) for v in (1.0, 2.0))
    assert is_better(run, {"a": low}, {"b": high})
    assert not is_better(run, {"a": high}, {"b": low})
    assert not is_better(run, {}, {"b": low})
    assert is_better(run, {"a": high, "b": low}, {"b": high, "c": low})  # on b alone


def test_the_kept_weights_are_the_chosen_rounds(sites: dict[str, Site], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    good, bad = np.diag([10, 10, 10]), np.zeros((3, 3), int)
    bad[0, 1], bad[1, 1], bad[2, 2] = 10, 10, 10
    both = [checked(script, {1: good, 2: bad}) for script in scripts(sites)]
    done = lead(FakeGrid(both), tiny.run_config(), tmp_path)
    first = lines(tmp_path)[0]["weights"]
    assert (done["chosen"], done["weights"]) == (1, first)
    assert digest_weights(load_file(tmp_path / "model.safetensors")) == first


def test_pooled_figures_come_from_added_counts(sites: dict[str, Site], tmp_path: Path) -> None:
    config = tiny.run_config()
    done = lead(FakeGrid(scripts(sites)), config, tmp_path)
    both = [np.asarray(done["test"]["all"][name]["confusion"]) for name in sites]
    merged = sum(both)
    assert done["pooled"]["all"]["confusion"] == merged.tolist()
    assert done["pooled"]["all"]["accuracy"]["value"] == pytest.approx(np.trace(merged) / merged.sum())
    assert done["pooled"]["all"]["patients"] == 4


# The handshake


def hello(name: str, task: Any = tiny.TASK, **changes: Any) -> Script:
    """Return a site that only says hello."""
    part = SplitCounts(patients=1, examples=3, classes=(1, 1, 1))
    report = HandshakeReport(
        protocol=PROTOCOL, task=task, fingerprint=task.fingerprint(), synthetic=True, split="patient", warning="",
        excluded={}, shift={}, counts=HandshakeCounts(train=part, validation=part, test=part), device="cpu",
    )  # fmt: skip
    return lambda request: HandshakeReply(name, report.model_copy(update=changes))


def test_two_sites_of_one_name_are_refused_before_training() -> None:
    grid = FakeGrid([hello("north"), hello("north")])
    with pytest.raises(ConfigError, match="two nodes call themselves north"):
        run_handshake(grid, tiny.run_config(), quiet)
    assert {request.kind for _, request in grid.sent} == {"handshake"}


OTHER_TASK = type(tiny.TASK)(**{**tiny.TASK.__dict__, "rate_hz": 250.0})


def test_a_site_of_another_task_than_most_is_left_out_by_name() -> None:
    grid = FakeGrid([hello("south", OTHER_TASK), hello("east"), hello("north")])
    federation, refused = run_handshake(grid, tiny.run_config(), quiet)
    assert refused == {"south": "it holds another task than most sites: give it the same data options and version"}
    assert sorted(federation.reports) == sorted(federation.names.values()) == ["east", "north"]
    assert federation.task == tiny.TASK


@pytest.mark.parametrize(
    ("scripts", "more"),
    [
        ([hello("east"), hello("south", OTHER_TASK)], {}),
        ([hello("east"), hello("north"), hello("south", OTHER_TASK)], {"federation__min_sites": 3}),
        (
            [hello("east"), hello("north"), hello("south", OTHER_TASK)],
            {"federation__expect": ["east", "north", "south"]},
        ),
    ],
)
def test_sites_of_different_tasks_are_refused_before_training(
    scripts: list[Script], more: dict[str, Any], tmp_path: Path
) -> None:
    grid = FakeGrid(scripts)
    with pytest.raises(ConfigError, match=r"different tasks: east.* against south"):
        lead(grid, tiny.run_config(**more), tmp_path)
    assert {request.kind for _, request in grid.sent} == {"handshake"}
    assert outcome(tmp_path)["status"] == "failed"


def test_a_named_site_that_does_not_come_is_named() -> None:
    config = tiny.run_config(federation__expect=["north", "west"])
    with pytest.raises(EngineError, match="missing west"):
        run_handshake(FakeGrid([hello("north"), hello("south")]), config, quiet)


def test_a_named_site_that_refuses_is_not_waited_for() -> None:
    config = tiny.run_config(federation__expect=["north", "west"], federation__connect_timeout=60.0)
    reason = messages.pack_error("west", "DataError", "hello failed with DataError")
    grid = FakeGrid([hello("north"), lambda request: Error(code=messages.ERROR_CODE, reason=reason)])
    grid.fixed_nodes = False
    with pytest.raises(EngineError, match=r"missing west \(west: hello failed with DataError\)"):
        run_handshake(grid, config, quiet)


def test_only_named_sites_take_part() -> None:
    config = tiny.run_config(federation__expect=["north"])
    federation, refused = run_handshake(FakeGrid([hello("north"), hello("south")]), config, quiet)
    assert federation.names == {1: "north"}
    assert list(federation.reports) == ["north"]
    assert refused == {"south": "not named in federation.expect"}


def test_a_site_whose_hello_is_broken_does_not_take_part() -> None:
    whole = hello("south")

    def broken(request: Request) -> Answer:
        return change_json(whole(request), lambda report: report | {"counts": {}})

    federation, refused = run_handshake(FakeGrid([hello("north"), broken]), tiny.run_config(), quiet)
    assert list(federation.reports) == ["north"]
    assert refused == {"south": "its handshake report is wrong: counts.train: Field required"}


@pytest.mark.parametrize("fixed", [True, False])
def test_nobody_comes(fixed: bool) -> None:
    import time

    grid = FakeGrid([])
    grid.fixed_nodes = fixed
    heard: list[Event] = []
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"0 of 1 sites came \(no site is connected"):
        run_handshake(grid, tiny.run_config(federation__connect_timeout=0.5), heard.append)
    assert time.monotonic() - began < 2
    assert len(heard) <= 1


def test_a_silent_node_does_not_keep_the_others_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "SETTLE_SECONDS", 60.0)
    grid = FakeGrid([hello("north"), lambda request: None])
    grid.fixed_nodes = False
    federation, refused = run_handshake(grid, tiny.run_config(federation__connect_timeout=0.5), quiet)
    assert list(federation.reports) == ["north"]
    assert refused == {"node 2": "no answer within 1 s"}


def test_a_site_that_comes_late_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = FakeGrid([hello("north"), hello("south")])
    grid.fixed_nodes = False
    grid.offline = {2}
    config = tiny.run_config(federation__min_sites=2, federation__connect_timeout=4.0)
    monkeypatch.setattr(handshake, "SETTLE_SECONDS", 0.0)
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        grid.offline.clear()

    federation, _ = run_handshake(grid, config, listen)
    assert sorted(federation.reports) == ["north", "south"]
    assert WaitingEvent(online=1, ready=1, need=2) in heard


def test_nothing_to_train_on_anywhere(tmp_path: Path) -> None:
    none = SplitCounts(patients=0, examples=0, classes=(0, 0, 0))
    grid = FakeGrid([hello("north", counts=HandshakeCounts(train=none, validation=none, test=none))])
    with pytest.raises(EngineError, match="no site has training examples"):
        lead(grid, tiny.run_config(), tmp_path)


def test_a_final_evaluation_without_answers_is_a_failure(sites: dict[str, Site], tmp_path: Path) -> None:
    gone = [fails_in(s, lambda request: Error(code=1, reason="gone"), "test", {1, 2}) for s in scripts(sites)]
    with pytest.raises(EngineError, match="final evaluation: none of 2 sites answered"):
        lead(FakeGrid(gone), tiny.run_config(), tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_sites_without_a_split_are_left_out_of_it(sites: dict[str, Site], tmp_path: Path) -> None:
    sites["east"] = tiny.site("east", 5, parts=(0, 0, 0))  # neither validation nor test patients
    sites["west"] = tiny.site("west", 6, parts=(2, 2, 1))  # nobody to train on
    sites["only"] = tiny.site("only", 7, tiny.cohort(7, people=6, classes=(0, 1)))  # no example of F
    grid = FakeGrid(scripts(sites))
    done = lead(grid, tiny.run_config(), tmp_path)
    kinds = {(node, request.kind) for node, request in grid.sent}
    assert (3, "test") not in kinds
    assert (3, "validate") not in kinds
    assert (4, "train") not in kinds
    assert set(done["test"]["all"]) == {"north", "south", "west", "only"}
    assert lines(tmp_path)[0]["lost"] == {}
    assert any("no examples of F" in note for note in done["test"]["all"]["only"]["notes"])
    assert done["test"]["all"]["only"]["classes"]["F"]["f1"]["value"] is None


def test_a_class_that_only_one_hospital_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"north": tiny.site("north", 1), "south": tiny.site("south", 2, tiny.cohort(2, classes=(0, 1)))}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    done = lead(FakeGrid(scripts(found)), tiny.run_config(), tmp_path)
    own = done["test"]["all"]["north"]["classes"]["F"]
    pooled = done["pooled"]["all"]["classes"]["F"]
    assert pooled["examples"] == own["examples"] > 0
    assert pooled["recall"]["value"] == own["recall"]["value"]


def test_an_interrupt_in_a_round_leaves_a_readable_folder(sites: dict[str, Site], tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        if event["event"] in ("reply", "done") and event.get("round", 2) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lead(FakeGrid(scripts(sites)), tiny.run_config(federation__rounds=3), tmp_path, listen)
    done = outcome(tmp_path)
    assert (done["status"], done["error"], done["chosen"]) == ("interrupted", "stopped by the user", 1)
    assert strictly((tmp_path / "server.done").read_text()) == {
        "status": "interrupted",
        "error": "stopped by the user",
    }
    assert len(lines(tmp_path)) == 1
    assert (tmp_path / "model.safetensors").is_file()


def test_train_leaves_what_it_was_given_alone(sites: dict[str, Site]) -> None:
    config = tiny.run_config()
    grid = FakeGrid(scripts(sites))
    federation, _ = run_handshake(grid, config, quiet)
    before = copy.deepcopy(federation.reports)
    run, found = (
        Run.from_handshake(grid, config, strategies.build_strategy(config.federation.strategy), federation, quiet),
        Outcome(),
    )
    kept: list[int] = []
    run_rounds(run, lambda number, weights: kept.append(number), found)
    run_test(run, found)
    assert federation.reports == before
    assert kept[-1] == found.chosen
    assert evaluation.find_worst_site(found.test["all"], "accuracy") is not None
