"""A federation that begins with another run's weights, and what of them does not train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from client.site import Site
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import models
from common.config import RunConfig, parse_config
from common.errors import ConfigError
from common.seeds import seed_for
from server import app, initial_model
from tests import tiny
from tests.wire import FakeGrid, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")

Weights = dict[str, np.ndarray]


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    parts = ((0, 0, 0, 0, 1, 2), (0, 0, 0, 1, 2), (0, 0, 1, 2))
    found = {name: tiny.site(name, i + 1, parts=parts[i]) for i, name in enumerate(("north", "south", "west"))}
    monkeypatch.setattr("client.site.read_site", lambda place, config: found[str(place.site)])
    return found


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The folder of another run: the tiny model from another seed."""
    folder = tmp_path / "other"
    folder.mkdir()
    config = tiny.run_config()
    save_file(copy_weights(models.build_model(tiny.TASK, config.model, 99)), folder / "model.safetensors")
    return folder


def transfer(where: Path, **sections: Any) -> RunConfig:
    return tiny.run_config(federation__start=str(where), federation__choose="last", **sections)


def lead(sites: dict[str, Site], config: RunConfig, out: Path) -> tuple[FakeGrid, Any, Weights, list[Any]]:
    grid, events = FakeGrid([site_script(site) for site in sites.values()]), []
    app.run_federation(grid, config, out, events.append)
    return grid, json.loads((out / "federated.json").read_text()), load_file(out / "model.safetensors"), events


def test_round_one_begins_with_the_saved_weights(sites: dict[str, Site], other: Path, tmp_path: Path) -> None:
    saved = load_file(other / "model.safetensors")
    config = transfer(other, federation__start_except=["head.out.*"])
    grid, done, _, events = lead(sites, config, tmp_path / "run")
    fresh = copy_weights(models.build_model(tiny.TASK, config.model, config.seed))
    first = [request for _, request in grid.sent if request.kind == "train" and request.round == 1]
    assert len(first) == 3
    for request in first:
        assert list(request.weights) == list(fresh)
        for name, value in request.weights.items():
            assert np.array_equal(value, fresh[name] if name.startswith("head.out.") else saved[name])
    taken = [name for name in fresh if not name.startswith("head.out.")]
    assert done["start"] == {"from": str(other), "taken": taken, "frozen": []}
    assert {"event": "initial-model", **done["start"]}.items() <= next(
        e for e in events if e["event"] == "initial-model"
    ).items()


def test_rounds_from_saved_weights_are_the_plain_loop(sites: dict[str, Site], other: Path, tmp_path: Path) -> None:
    config = transfer(other / "model.safetensors", training__freeze=["stem*", "stages.*"])
    _, done, found, _ = lead(sites, config, tmp_path / "run")
    saved = load_file(other / "model.safetensors")
    total = sum(len(site.train.y) for site in sites.values())
    counts = [sum(site.train.class_counts()[c] for site in sites.values()) for c in range(3)]
    current = saved
    for number in (1, 2):
        merged = {name: np.zeros(value.shape, np.float64) for name, value in saved.items()}
        for name, site in sites.items():
            model = models.build_model(tiny.TASK, config.model, 0)
            model.load_state_dict({key: torch.tensor(value) for key, value in current.items()})
            seed, when = seed_for(config.seed, name, number, "train"), Schedule(number - 1, 2)
            train_model(model, site.train, config.training, seed, counts=counts, schedule=when)
            for key, value in copy_weights(model).items():
                merged[key] += value.astype(np.float64) * len(site.train.y) / total
        current = {key: value.astype(np.float32) for key, value in merged.items()}
    resting = {name for name in saved if name.startswith(("stem", "stages."))}
    assert set(done["start"]["frozen"]) == resting
    for name, value in found.items():
        if name in resting:
            assert np.array_equal(value, saved[name]), name  # to the last bit
        else:
            np.testing.assert_allclose(value, current[name], rtol=1e-3, atol=1e-5)
            assert not np.array_equal(value, saved[name]), name


def test_without_a_start_nothing_is_said(sites: dict[str, Site], tmp_path: Path) -> None:
    _, done, _, events = lead(sites, tiny.run_config(), tmp_path / "run")
    assert done["start"] is None
    assert not [event for event in events if event["event"] == "initial-model"]


def test_what_cannot_be_a_start_is_told_before_training(sites: dict[str, Site], other: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 40)
    save_file({"head.out.bias": np.zeros(7, np.float32)}, tmp_path / "small.safetensors")
    wrong = {
        "nowhere": r"federation\.start: no file .*nowhere: name a run's folder or a \.safetensors file",
        "empty": r"federation\.start: no file .*model\.safetensors: name a run's folder",
        "damaged.safetensors": r"federation\.start: .*damaged\.safetensors cannot be read as \.safetensors",
        "small.safetensors": r"federation\.start: the saved model does not fit in stem\.weight",
    }
    for name, said in wrong.items():
        with pytest.raises(ConfigError, match=said):
            lead(sites, transfer(tmp_path / name), tmp_path / f"run-{name}")
    for section, said in {
        "federation__start_except": r"federation\.start_except: 'nothing\.\*' matches no parameter",
        "training__freeze": r"training\.freeze: 'nothing\.\*' matches no parameter",
    }.items():
        with pytest.raises(ConfigError, match=said):
            initial_model.build_initial_model(transfer(other, **{section: ["nothing.*"]}), tiny.TASK)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_start_may_lie_at_home(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(other.parent))
    assert list(initial_model.load_saved_weights("~/other")) == list(load_file(other / "model.safetensors"))


def test_parts_of_a_transfer_need_a_start() -> None:
    for section, key in (({"training": {"freeze": ["stem.*"]}}, "training.freeze"),
                         ({"federation": {"start_except": ["stem.*"]}}, "federation.start_except")):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{key} needs federation.start: a run folder or .safetensors file"):
            parse_config(section)
    both = parse_config(
        {"training": {"freeze": ["stem.*"]}, "federation": {"start": "runs/x", "start_except": ["head.*"]}}
    )
    assert (both.training.freeze, both.federation.start_except) == (("stem.*",), ("head.*",))


class TestFit:
    """What `training.freeze` does to fit()."""

    def model(self, seed: int = 1) -> torch.nn.Module:
        return models.build_model(tiny.TASK, tiny.run_config().model, seed)

    def fitted(self, model: torch.nn.Module, **options: Any) -> Weights:
        raw = {"device": "cpu", "batch_size": 16, "lr": 0.05} | options
        train_model(
            model,
            tiny.cohort(1),
            parse_config({"training": raw, "federation": {"start": "x"}}).training,
            5,
            counts=(1, 1, 1),
        )
        return copy_weights(model)

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    @pytest.mark.parametrize("freeze", [("stem.weight", "stages.*"), ("*.weight",), ("*bias",)])
    def test_what_is_frozen_rests_and_the_rest_moves(self, optimizer: str, freeze: tuple[str, ...]) -> None:
        model = self.model()
        before = copy_weights(model)
        resting = models.freeze_parameters(model, freeze)
        after = self.fitted(model, optimizer=optimizer, freeze=list(freeze), weight_decay=0.1)
        for name in before:
            assert np.array_equal(before[name], after[name]) == (name in resting), name

    def test_a_step_is_that_of_the_free_parameters_alone(self) -> None:
        # Plain gradient descent, one batch; the gradient norm that is clipped is that of what trains.
        model, data, lr, clip = self.model(), tiny.cohort(1), 0.05, 0.01
        before = copy_weights(model)
        options = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": lr}
        after = self.fitted(model, batch_size=len(data.y), clip_norm=clip, freeze=["head.*"],
                            loss="cross_entropy", **options)  # fmt: skip
        plain = self.model().eval()  # dropout
        calm = [module for module in plain.modules() if hasattr(module, "generator")]
        assert calm
        plain.train()
        drop = torch.Generator().manual_seed(seed_for(5, "dropout"))
        for module in calm:
            module.generator = drop
        order = torch.randperm(len(data.y), generator=torch.Generator().manual_seed(seed_for(5, "shuffle")))
        x, features, y = (torch.from_numpy(a)[order] for a in (data.x, data.features, data.y))
        torch.nn.functional.cross_entropy(plain(x, features), y).backward()
        free = {name: p.grad for name, p in plain.named_parameters() if not name.startswith("head.")}
        norm = torch.sqrt(sum((g**2).sum() for g in free.values()))
        assert norm > clip
        for name in before:
            step = (lr * free[name] * clip / (norm + 1e-6)).numpy() if name in free else 0.0
            np.testing.assert_allclose(after[name], before[name] - step, rtol=1e-4, atol=1e-7)

    def test_a_network_that_is_used_again_is_thawed(self) -> None:
        model = self.model()
        self.fitted(model, freeze=["stem*"])
        before = copy_weights(model)
        after = self.fitted(model)
        assert not any(np.array_equal(before[name], after[name]) for name in before)

    def test_a_pattern_that_fits_nothing_is_told(self) -> None:
        with pytest.raises(ConfigError, match=r"training\.freeze: 'body\.\*' matches no parameter; there are stem\.\*"):
            self.fitted(self.model(), freeze=["body.*"])
