"""Private training against slow loops and plain sums; policy, budget, restart."""

from __future__ import annotations

import copy
import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.policy import SIMULATION_POLICY
from client.privacy import budget, unit_gradients
from client.privacy.accounting import Accountant as Method_
from client.privacy.accounting import GaussianSteps, compute_epsilon, solve_noise
from client.privacy.budget import DpSgdPlan
from client.privacy.charges import BudgetSpent
from client.privacy.dp_sgd import _sample_rows, train_privately
from client.privacy.ledger import Ledger, get_ledger_path
from client.privacy.unit_gradients import UnitGradients
from client.privacy.units import _digests, count_units, group_rows_by_unit
from client.requests import handle
from client.site import Site, load_site
from client.site_context import SiteContext
from client.training.batches import load_tensors
from client.training.local_update import copy_weights
from client.training.loop import Schedule
from client.training.losses import build_example_loss
from common import models, noise
from common.config import RunConfig, parse_config
from common.errors import ConfigError, DataError, SiteError
from common.models._layers import Dropout
from common.requests import Method
from common.sections.training import ModelConfig
from common.task import Task
from sites.cohort import Cohort
from tests import tiny
from tests.wire import build_request

RUN = "a" * 32
METHOD = Method()
MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [8, 16], "hidden": 8}, "mlp": {}, "logreg": {}, "gru": {"width": 8, "hidden": 8},
    "lstm": {"width": 8, "hidden": 8}, "tcn": {"width": 8, "hidden": 8}, "transformer": {"width": 8, "hidden": 8},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(task: Task, name: str, **more: Any) -> nn.Module:
    """Return a model whose dropout is off, so that two ways give one gradient."""
    model = models.build_model(task, ModelConfig(name=name, options={**MODELS[name], **more}), seed=1).train()
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    return model


def reader(cohort: Cohort) -> Any:
    cut, features, y = load_tensors(cohort, torch.device("cpu"))
    return lambda rows: (cut(rows), features[rows], y[rows])


def slow(model: nn.Module, cohort: Cohort, units: Any) -> Tensor:
    """The gradients of units, one ordinary backward pass each."""
    read, loss, found = reader(cohort), build_example_loss(cohort.task), []
    for unit in units:
        model.zero_grad()
        x, features, y = read(torch.from_numpy(unit))
        loss(model(x, features), x, features, y).mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))  # type: ignore[union-attr]
    model.zero_grad()
    return torch.stack(found)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("each", [1, 3, 20])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_of_units_are_the_slow_loops(name: str, each: int) -> None:
    if name == "lstm" and each == 1:
        with pytest.raises(ConfigError, match=r"nn\.LSTM"):
            models.check_per_unit_gradients(network(tiny.TASK, name), "record")
    cohort = tiny.cohort(1, people=4, each=each)
    units = [rows[: len(rows) - i % 2 * (each > 1)] for i, rows in enumerate(group_rows_by_unit(cohort, "patient"))]
    model = network(tiny.TASK, name)
    models.check_per_unit_gradients(model, "patient")
    found = UnitGradients(model, build_example_loss(cohort.task)).each(units, reader(cohort))
    expected = slow(model, cohort, units)
    assert (found - expected).norm(dim=1).div(expected.norm(dim=1)).max() < 1e-5
    assert expected.norm(dim=1).min() > 1e-3


def test_many_labels_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(tiny.TASK, kind="multilabel")
    whole = tiny.cohort(2, people=5, each=2)
    y = np.random.default_rng(1).integers(0, 2, (10, 3))
    cohort = replace(whole, task=task, y=y)
    model, units = network(task, "cnn"), group_rows_by_unit(cohort, "patient")
    monkeypatch.setattr(unit_gradients, "MAX_GRADIENT_BYTES", 1)
    found = UnitGradients(model, build_example_loss(task)).each(units, reader(cohort))
    assert torch.allclose(found, slow(model, cohort, units), rtol=1e-4, atol=1e-6)


def test_layers_that_are_not_known_are_mapped_over() -> None:
    cohort, units = tiny.cohort(1, people=4, each=1), [np.asarray([i]) for i in range(4)]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.out = nn.Linear(16, 3)

        def forward(self, x: Tensor, features: Tensor) -> Tensor:
            found: Tensor = self.out(x.flatten(1)) * self.scale
            return found

    found = UnitGradients(Odd(), build_example_loss(cohort.task))
    assert found.method == "vmap"
    for name in MODELS:
        known = UnitGradients(network(tiny.TASK, name), build_example_loss(cohort.task)).method == "ghost"
        assert known == (name != "lstm")
    model = Odd()
    expected = slow(model, cohort, units)
    assert torch.allclose(
        UnitGradients(model, build_example_loss(cohort.task)).each(units, reader(cohort)), expected, atol=1e-6
    )


def test_frozen_layers_are_left_out() -> None:
    cohort, units = tiny.cohort(1, people=4, each=1), [np.asarray([i]) for i in range(4)]
    whole, part = network(tiny.TASK, "cnn"), network(tiny.TASK, "cnn")
    models.freeze_parameters(part, ["stem*", "head.hidden.bias"])
    expected = UnitGradients(whole, build_example_loss(cohort.task)).each(units, reader(cohort))
    found = UnitGradients(part, build_example_loss(cohort.task))
    keep = torch.cat([torch.full((p.numel(),), name in found.trained) for name, p in whole.named_parameters()])
    assert 0 < int((~keep).sum()) < len(keep)
    assert torch.allclose(found.each(units, reader(cohort)), expected[:, keep], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("each", [1, 3, 12])
def test_clipping_is_the_slow_loops(each: int) -> None:
    cohort = tiny.cohort(3, people=6, each=each)
    units, model = group_rows_by_unit(cohort, "patient"), network(tiny.TASK, "cnn")
    gradients = slow(model, cohort, units).double()
    limit = float(gradients.norm(dim=1).median())
    expected = sum(g * min(1.0, limit / float(g.norm())) for g in gradients)
    found = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units, reader(cohort), limit)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-4, atol=1e-6)
    without = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units[1:], reader(cohort), limit)
    assert np.linalg.norm(found - without) <= limit * (1 + 1e-6)


def test_a_gradient_that_is_no_number_adds_nothing() -> None:
    cohort = tiny.cohort(3, people=3, each=1)
    units, model = group_rows_by_unit(cohort, "patient"), network(tiny.TASK, "mlp", inputs="both")
    broken = replace(cohort, x=cohort.x.copy())  # type: ignore[union-attr]
    broken.x[units[1]] = np.nan  # type: ignore[index]
    found = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum(units, reader(broken), 1.0)
    rest = UnitGradients(model, build_example_loss(cohort.task)).clipped_sum([units[0], units[2]], reader(cohort), 1.0)
    np.testing.assert_allclose(found, rest, atol=1e-6)
    assert np.linalg.norm(rest) > 0.01


def test_a_person_is_a_unit_whatever_their_recordings() -> None:
    cohort = replace(tiny.cohort(1, people=3, each=2), persons=("b", "a", "b"))
    assert [unit.tolist() for unit in group_rows_by_unit(cohort, "patient")] == [[2, 3], [0, 1, 4, 5]]
    assert [unit.tolist() for unit in group_rows_by_unit(cohort, "record")] == [[i] for i in range(6)]
    assert (count_units(cohort, "patient"), count_units(cohort, "record")) == (2, 6)


PLAIN = DpSgdPlan("record", 1.0, 0.0, float("inf"), 1, 64, private=False)


def test_no_noise_and_no_clipping_is_the_plain_step() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0).training
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn")
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    read = reader(cohort)(torch.arange(len(cohort.y)))
    loss = nn.functional.cross_entropy(model(*read[:2]), read[2])
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    result = train_privately(model, cohort, config, PLAIN, 1)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    rate = result.rate_sum
    assert (after - (before - rate * gradient)).norm() < 1e-5 * rate * gradient.norm()
    assert result.loss == ()


def test_private_training_follows_the_learning_rate_of_the_run() -> None:
    config = tiny.run_config(training__epochs=2, training__lr=0.1).training
    cohort, plan = tiny.cohort(5), replace(PLAIN, sigma=1.0, clip=0.5, q=0.25, steps=8)
    result = train_privately(network(tiny.TASK, "mlp"), cohort, config, plan, 1, schedule=Schedule(1, 4))
    done = [(1 + step / 4) / 4 for step in range(8)]
    by_hand = sum(0.1 * (0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2) for share in done)
    assert (result.steps, result.rate_sum) == (8, pytest.approx(by_hand))


def test_private_steps_fill_whole_epochs() -> None:
    config = tiny.run_config(training__epochs=2).training
    with pytest.raises(ValueError, match="3 private steps cannot be spread evenly over 2 epochs"):
        train_privately(network(tiny.TASK, "mlp"), tiny.cohort(5), config, replace(PLAIN, steps=3), 1)


def test_dropout_differs_between_units_and_is_seeded() -> None:
    cohort, options = tiny.cohort(5, people=3, each=1), {"dropout": 0.9}
    one, other, third = (
        models.build_model(tiny.TASK, ModelConfig(name="mlp", options=options), seed=1) for _ in range(3)
    )
    config = tiny.run_config().training
    for model, seed in ((one, 1), (other, 1), (third, 2)):
        train_privately(model, cohort, config, PLAIN, seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters(), strict=True))


def test_where_noise_is_secret_so_is_dropout() -> None:
    cohort, options, found = tiny.cohort(5, people=3, each=1), {"dropout": 0.5}, []
    for private_ in (True, True, False, False):
        model = models.build_model(tiny.TASK, ModelConfig(name="mlp", options=options), seed=1)
        train_privately(model, cohort, tiny.run_config().training, replace(PLAIN, private=private_), 1)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])


class Nobody:
    """A source that draws nobody; its noise is that of a seed."""

    private = False

    def __init__(self, units: int) -> None:
        self._units, self._inner = units, noise.SeededSource(1)

    def uniform(self, count: int) -> Any:
        return np.full(count, 0.999) if count == self._units else self._inner.uniform(count)


def test_a_step_that_draws_nobody_is_noise_alone() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0,
                             training__schedule="constant", training__lr=1.0).training  # fmt: skip
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn", widths=[64, 64], hidden=64)
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    plan = DpSgdPlan("patient", 0.5, 3.0, 0.25, 2, 64)
    train_privately(model, cohort, config, plan, 1, source=Nobody(cohort.people()))
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    expected = 3.0 * 0.25 / (0.5 * cohort.people()) * np.sqrt(2)
    assert moved.std().item() == pytest.approx(expected, rel=5 / np.sqrt(len(moved)))


def test_the_noise_in_the_weights_has_the_variance_that_is_charged() -> None:
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0, training__weight_decay=0.0,
                             training__schedule="constant", training__lr=1.0).training  # fmt: skip
    cohort, model = tiny.cohort(5), network(tiny.TASK, "cnn", widths=[64, 64], hidden=64)
    plain = copy.deepcopy(model)
    plan = DpSgdPlan("patient", 1.0, 2.0, 0.5, 1, 64)
    train_privately(model, cohort, config, plan, 1)
    train_privately(plain, cohort, config, replace(plan, sigma=0.0), 1)
    difference = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), plain.parameters(), strict=True)])
    assert difference.std().item() == pytest.approx(2.0 * 0.5 / cohort.people(), rel=5 / np.sqrt(len(difference)))


def test_few_of_a_persons_examples_are_drawn_anew() -> None:
    unit, source = np.arange(100), noise.SeededSource(1)
    some = [_sample_rows(unit, 10, source) for _ in range(50)]
    assert all(len(set(rows.tolist())) == 10 for rows in some)
    assert len(set(np.concatenate(some).tolist())) > 80
    np.testing.assert_array_equal(_sample_rows(unit, 100, source), unit)


# --- a site -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    found = {"north": tiny.site("north", 1, parts=(0,) * 8 + (2,)), "south": tiny.site("south", 2)}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


def private(**more: Any) -> RunConfig:
    held = {"privacy__epsilon": 8.0, "privacy__delta": 1e-3, "privacy__sampling": 0.5, "privacy__accountant": "rdp",
            "training__loss": "cross_entropy", "federation__choose": "last", "federation__rounds": 10}  # fmt: skip
    return tiny.run_config(**{**held, **more})


def here(state: Path, site: str = "north", **policy: Any) -> SiteContext:
    rules = tiny.policy(**{"max_delta": 0.01, "counts": "public", **policy})
    return SiteContext(rules, site=site, state=state)


def asked(config: RunConfig, number: int, run: str = RUN, kind: Any = "train", method: Method = METHOD) -> Any:
    weights = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    return build_request(kind, config, number, weights, (1, 1, 1), run_id=run, method=method)


@pytest.mark.parametrize("how", ["rdp", pytest.param("prv", marks=pytest.mark.slow)])
def test_ten_rounds_are_one_accountant_before_and_after_a_restart(
    sites: dict[str, Site], tmp_path: Path, how: Method_
) -> None:
    config = private(privacy__accountant=how)
    sigma = solve_noise(8.0, 1e-3, 0.5, 20, how)
    told = []
    for number in range(1, 11):
        if number == 5:  # another process: nothing of it is in memory
            _digests.clear()
            solve_noise.cache_clear()
            sites["north"] = tiny.site("north", 1, parts=(0,) * 8 + (2,))
        told.append(handle(here(tmp_path), asked(config, number)).report.to_dict()["privacy"])
        expected = compute_epsilon([GaussianSteps(0.5, sigma, 2)] * number, 1e-3, how)
        assert told[-1]["epsilon_run"] == told[-1]["epsilon"] == expected
        assert (told[-1]["sigma"], told[-1]["steps"], told[-1]["units"]) == (sigma, 2, 8)
    assert 7.9 < told[-1]["epsilon"] <= 8.0
    with pytest.raises(BudgetSpent, match="privacy budget spent: round 11"):
        handle(here(tmp_path), asked(config, 11))
    # a second run on the same data adds up
    second = handle(here(tmp_path), asked(config, 1, "b" * 32)).report.to_dict()["privacy"]
    assert second["epsilon_run"] == compute_epsilon([GaussianSteps(0.5, sigma, 2)], 1e-3, how)
    assert second["epsilon"] == compute_epsilon([GaussianSteps(0.5, sigma, 22)], 1e-3, how)


def test_the_charge_stands_before_the_step_is_taken(
    sites: dict[str, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.requests.train.train_privately", crash)
    with pytest.raises(KeyboardInterrupt):
        handle(here(tmp_path), asked(private(), 1))
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 1


def test_what_leaves_a_private_site(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path), asked(private(), 1))
    assert reply.report.loss is None
    other = handle(here(tmp_path / "2"), asked(private(), 1))
    assert any(not np.array_equal(reply.weights[name], other.weights[name]) for name in reply.weights)


@pytest.mark.parametrize(
    ("policy", "more", "says"),
    [
        ({"private_only": True}, {"privacy__level": "none"}, "nothing trains here without"),
        ({"max_epsilon": 3.0}, {"privacy__level": "none"}, "nothing trains here without"),
        ({"max_epsilon": 3.0}, {}, "epsilon=8 is above the 3"),
        ({"max_delta": 1e-5}, {}, "delta=0.001 is above the 1e-05"),
        ({}, {"privacy__level": "record"}, "level=record is not allowed"),
        ({}, {"privacy__noise": "seeded"}, "NOT PRIVATE"),
        ({"max_delta": 0.5}, {"privacy__delta": 0.125}, "below 1 / 8 persons"),
    ],
)
@pytest.mark.parametrize("kind", ["handshake", "train", "scaling"])
def test_a_policy_refuses_before_anything_is_charged(
    sites: dict[str, Site], tmp_path: Path, policy: dict[str, Any], more: dict[str, Any], says: str, kind: str
) -> None:
    with pytest.raises(SiteError, match=says):
        handle(here(tmp_path, **policy), asked(private(**more), 1, kind=kind))
    assert not list(tmp_path.rglob("privacy.sqlite"))


def test_a_site_spends_no_more_than_its_policy_over_runs(sites: dict[str, Site], tmp_path: Path) -> None:
    config = private(privacy__epsilon=4.0)
    place = here(tmp_path, max_epsilon=4.5)
    done = 0
    with pytest.raises(BudgetSpent, match=r"of the site's 4\.5"):
        for run in ("a" * 32, "b" * 32):
            for number in range(1, 11):
                handle(place, asked(config, number, run))
                done += 1
    assert 10 <= done < 20
    assert budget.open_ledger(place, sites["north"]).total(1e-3, "rdp") <= 4.5


def test_what_else_is_refused(sites: dict[str, Site], tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="give --state"):
        handle(SiteContext(tiny.policy(max_delta=0.1), site="north"), asked(private(), 1))
    for method in (Method(control=True), Method(pull=0.1)):
        with pytest.raises((ConfigError, SiteError), match=r"fedavg|control variates"):
            handle(here(tmp_path), asked(private(), 1, method=method))
    sites["north"] = replace(sites["north"], task=replace(tiny.TASK, units=True))
    with pytest.raises(ConfigError, match="the input 'rr' has no public range"):
        handle(here(tmp_path), asked(private(), 1, kind="handshake"))
    assert not list(tmp_path.rglob("*.head"))


def test_other_data_and_damage_stop_the_handshake(sites: dict[str, Site], tmp_path: Path) -> None:
    place = here(tmp_path)
    handle(place, asked(private(), 1))
    sites["north"] = tiny.site("north", 7, parts=(0,) * 8 + (2,))
    with pytest.raises(DataError, match="belongs to other data"):
        handle(place, asked(private(), 1, kind="handshake"))
    get_ledger_path(tmp_path, "north").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DataError, match="cannot be used"):
        handle(place, asked(private(), 1, kind="handshake"))


def test_another_split_of_the_same_people_is_the_same_data(sites: dict[str, Site], tmp_path: Path) -> None:
    handle(here(tmp_path), asked(private(), 1))
    sites["north"] = tiny.site("north", 1, parts=(2, *(0,) * 8))
    for kind in ("handshake", "train", "scaling"):
        with pytest.raises(SiteError, match="other patients would train here than in earlier private runs"):
            handle(here(tmp_path), asked(private(), 1, "b" * 32, kind))
    allowed = here(tmp_path, several_splits=True)
    assert handle(allowed, asked(private(), 1, "b" * 32)).report.to_dict()["privacy"]["epsilon"] > 0
    assert len(Ledger.read(get_ledger_path(tmp_path, "north")).rows()) == 2


def test_seeded_noise_repeats_and_is_marked(sites: dict[str, Site], tmp_path: Path) -> None:
    config = private(privacy__noise="seeded")
    one, other = (handle(here(tmp_path / name, seeded_noise=True), asked(config, 1)) for name in "ab")
    assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert one.report.to_dict()["privacy"]["private"] is False
    assert config.not_private_notice.startswith("NOT PRIVATE")
    assert private().not_private_notice == ""


def test_a_run_without_privacy_needs_no_ledger(sites: dict[str, Site], tmp_path: Path) -> None:
    reply = handle(here(tmp_path), asked(tiny.run_config(), 1))
    assert reply.report.privacy is None
    assert not list(tmp_path.iterdir())


def test_a_hospitals_ledger_is_bound_to_its_folder(hospitals: Path, tmp_path: Path) -> None:
    run = parse_config({
        "name": "privacy", "sites": {"validation": 0.5},
        "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
        "training": {"device": "cpu", "loss": "cross_entropy"}, "federation": {"choose": "last"},
        "privacy": {"sigma": 2.0, "delta": 1e-3, "accountant": "rdp", "examples": 4},
    })  # fmt: skip
    place = SiteContext(tiny.policy(max_delta=0.01), site="north", data=hospitals / "north", state=tmp_path)
    found = handle(place, build_request("handshake", run))
    weights = copy_weights(models.build_model(load_site(place, run).task, run.model, run.seed))
    told = handle(place, build_request("train", run, 1, weights, run_id=RUN)).report.to_dict()["privacy"]
    assert told["steps"] == 20
    assert told["units"] == found.report.to_dict()["counts"]["train"]["patients"]
    south = replace(place, data=hospitals / "south")
    with pytest.raises(DataError, match="belongs to other data"):
        handle(south, build_request("handshake", run))


def test_models_that_mix_patients() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

    for level in ("record", "patient"):
        with pytest.raises(ConfigError, match="BatchNorm1d, which mixes patients"):
            models.check_per_unit_gradients(Mixed(), level)
    assert SIMULATION_POLICY.privacy_levels == ("record", "patient", "hospital")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"training__loss": "weighted"}, "training.loss=cross_entropy"),
        ({"federation__choose": "best"}, "federation.choose=last"),
        ({"training__patience": 1}, "training.patience=0"),
        ({"evaluation__threshold": "f1"}, "evaluation.threshold=likelier"),
        ({"data__scaling": "quantile"}, "data.scaling=standard or none"),
        ({"data__scaling": "site"}, "data.scaling=standard or none"),
        ({"sites__split": "beat-level"}, "split by patient"),
        ({"privacy__sigma": 1.0}, "one of privacy.epsilon and privacy.sigma"),
        ({"privacy__epsilon": None, "privacy__level": "record"}, "one of privacy.epsilon and privacy.sigma"),
        ({"privacy__epsilon": 0.0}, "privacy.epsilon"),
        ({"privacy__level": "hospital"}, "privacy.weight_total"),
        ({"privacy__level": "person"}, "privacy.level"),
        ({"privacy__delta": 0.0}, "privacy.delta"),
        ({"privacy__sigma": 0.0, "privacy__epsilon": None}, "privacy.sigma"),
    ],
)
def test_configurations_that_privacy_refuses(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        private(**more)


def test_privacy_is_off_and_then_per_patient_by_default() -> None:
    assert not tiny.run_config().privacy.on
    assert private().privacy.kind == "patient"
    assert private(privacy__level="none").privacy.on is False


def test_the_page_for_review_boards_says_what_the_program_does() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "privacy.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert (failed, tried > 5) == (0, True)
