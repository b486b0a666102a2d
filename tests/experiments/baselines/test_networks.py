"""The baselines are the same fit() on the rows they say, evaluated at every hospital."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.site import Site
from client.training.batches import predict_logits
from client.training.local_update import copy_weights
from client.training.loop import Schedule, train_model
from common import models
from common.errors import SiteError
from common.scaling import Scaling
from common.seeds import seed_for
from experiments.baselines import classical, networks
from server.run import digest_weights
from sites.cohort import join_cohorts
from tests import tiny


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> list[Site]:
    result = [tiny.site("north", 1), tiny.site("south", 2), tiny.site("west", 3, parts=(0, 0, 0))]
    monkeypatch.setattr("client.site.read_site", lambda context, config: result[context.index])
    return result


def read(out: Path) -> Any:
    return json.loads((out / "baselines.json").read_text())


def test_pooled_is_fit_on_all_rows_joined(sites: list[Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__choose="last", training__epochs=2, baselines__local=False)
    torch.set_num_threads(2)
    assert networks.train_baselines(config, tmp_path, 3) == {}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    train = join_cohorts([site.train for site in sites])
    assert len(train.y) == sum(len(site.train.y) for site in sites)
    model = models.build_model(tiny.TASK, config.model, config.seed)
    train_model(
        model,
        train,
        config.training.model_copy(update={"epochs": 4}),
        seed_for(config.seed, "pooled", "baseline"),
        counts=train.class_counts(),
        schedule=Schedule(0, 4),
    )
    remaining = load_file(tmp_path / "model.pooled.safetensors")
    assert digest_weights(remaining) == digest_weights(copy_weights(model))
    (result,) = read(tmp_path)["models"]
    right = total = 0
    for site in sites[:2]:
        hits = predict_logits(model, site.test, torch.device("cpu")).argmax(1) == site.test.y
        assert result["test"]["all"][site.name]["accuracy"]["value"] == pytest.approx(hits.mean())
        right, total = right + hits.sum(), total + len(hits)
    assert result["pooled"]["all"]["accuracy"]["value"] == pytest.approx(right / total)


def test_each_hospital_alone_is_evaluated_at_all(sites: list[Site], tmp_path: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    networks.train_baselines(tiny.run_config(), tmp_path, 3, lambda *what: reported.append(what))
    result = {item["name"]: item for item in read(tmp_path)["models"]}
    assert list(result) == ["pooled", "local:north", "local:south", "local:west"]
    assert [result[f"local:{name}"]["trained_at"] for name in ("north", "south", "west")] == ["north", "south", "west"]
    for item in result.values():
        assert set(item["test"]["all"]) == {"north", "south"}  # west has nobody to test on
        assert item["kind"] in ("pooled", "local")
        assert (tmp_path / f"model.{item['name'].replace(':', '.')}.safetensors").is_file()
    assert {name for name, *_ in reported[:4]} == set(result)
    assert all(done == 0 for _, done, _ in reported[:4])
    assert ("pooled", 2, 2) in reported


def test_workers_do_not_change_a_baseline(sites: list[Site], tmp_path: Path) -> None:
    result = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        out.mkdir()
        networks.train_baselines(tiny.run_config(federation__workers=workers), out, 3)
        result.append(read(out))
    assert result[0] == result[1]


def test_the_best_epoch_is_kept(sites: list[Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__rounds=6, training__lr=0.2, baselines__local=False, evaluation__metric="loss")
    networks.train_baselines(config, tmp_path, 3)
    (result,) = read(tmp_path)["models"]
    validation = join_cohorts([site.validation for site in sites])
    losses = []

    def after(epoch: int, model: torch.nn.Module) -> None:
        z = torch.from_numpy(predict_logits(model, validation, torch.device("cpu"))).double()
        losses.append(float(torch.nn.functional.cross_entropy(z, torch.tensor(validation.y))))

    train = join_cohorts([site.train for site in sites])
    seed, training = seed_for(config.seed, "pooled", "baseline"), config.training.model_copy(update={"epochs": 6})
    model = models.build_model(tiny.TASK, config.model, config.seed)
    train_model(model, train, training, seed, counts=train.class_counts(), schedule=Schedule(0, 6), after_epoch=after)
    assert result["epoch"] == int(np.argmin(losses)) + 1


def test_a_baseline_stops_as_the_federation_does(sites: list[Site], tmp_path: Path) -> None:
    """The network that is kept is the one after which two rounds were no better, in a training to the end."""
    settings = {"training__lr": 0.2, "training__epochs": 2, "baselines__local": False, "evaluation__metric": "loss"}
    config = tiny.run_config(federation__rounds=20, federation__patience=2, **settings)
    reported: list[tuple[str, int, int]] = []
    networks.train_baselines(config, tmp_path, 3, lambda *what: reported.append(what))
    (result,) = read(tmp_path)["models"]
    validation, train = (join_cohorts([getattr(site, part) for site in sites]) for part in ("validation", "train"))
    losses = []

    def after(epoch: int, model: torch.nn.Module) -> None:
        if epoch % 2:
            z = torch.from_numpy(predict_logits(model, validation, torch.device("cpu"))).double()
            losses.append(float(torch.nn.functional.cross_entropy(z, torch.tensor(validation.y))))

    seed, training = seed_for(config.seed, "pooled", "baseline"), config.training.model_copy(update={"epochs": 40})
    model = models.build_model(tiny.TASK, config.model, config.seed)
    train_model(model, train, training, seed, counts=train.class_counts(), schedule=Schedule(0, 40), after_epoch=after)
    best = next(i for i in range(20) if min(losses[: i + 1]) == losses[i] <= min(losses[i : i + 3]))
    assert best + 3 < 20
    assert result["epoch"] == 2 * (best + 1)
    assert [done for _, done, _ in reported] == [*range(2 * (best + 3) + 1), 40]


def test_one_that_fails_does_not_end_the_others(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(model: Any, train: Any, *args: Any, **kwargs: Any) -> Any:
        if train is sites[0].train:
            raise SiteError("the training loss is not a finite number")
        return train_model(model, train, *args, **kwargs)

    monkeypatch.setattr(networks, "train_model", breaks)
    failed = networks.train_baselines(tiny.run_config(), tmp_path, 3)
    assert failed == {"local:north": "the training loss is not a finite number"}
    assert read(tmp_path)["failed"] == failed
    assert [item["name"] for item in read(tmp_path)["models"]] == ["pooled", "local:south", "local:west"]


def test_an_interrupt_keeps_what_is_done(sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = networks.wait, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*args, **{**kwargs, "timeout": None})

    monkeypatch.setattr(networks, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        networks.train_baselines(tiny.run_config(federation__workers=1), tmp_path, 3)
    assert read(tmp_path)["models"][0]["name"] == "pooled"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("baseline")]


def make_tables(sites: list[Site]) -> None:
    """Change the signals of sites, which are no beats, to tables: their features alone are the inputs."""
    flat = replace(tiny.TASK, name="flat", channels=0, samples=0, channel_names=())
    for i, site in enumerate(sites):
        parts = {
            name: replace(getattr(site, name), task=flat, x=np.zeros((len(getattr(site, name).y), 0, 0), np.float32))
            for name in ("train", "validation", "test")
        }
        sites[i] = replace(site, task=flat, **parts)


def test_classical_models_train_on_raw_rows_and_are_tested_alike(sites: list[Site], tmp_path: Path) -> None:
    config = tiny.run_config(federation__rounds=1, baselines__classical=["logreg"])
    make_tables(sites)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": "logreg", "options": {}})})
    assert networks.train_baselines(config, tmp_path, 3) == {}
    result = {item["name"]: item for item in read(tmp_path)["models"]}
    assert [name for name in result if name.startswith("logreg")] == [
        "logreg:pooled", "logreg:north", "logreg:south", "logreg:west",
    ]  # fmt: skip
    assert result["logreg:north"]["kind"] == "classical-local"
    assert result["logreg:pooled"]["trained_at"] is None
    train = join_cohorts([site.train for site in sites])
    predict = classical.fit_classical(
        "logreg", train, seed_for(config.seed, "logreg:pooled"), classical.ClassicalOptions.from_config(config, 1)
    )
    for site in sites[:2]:
        right = (predict(site.test).argmax(1) == site.test.y).mean()
        assert result["logreg:pooled"]["test"]["all"][site.name]["accuracy"]["value"] == pytest.approx(right)


def test_without_networks_classical_models_are_trained_on_all_rows(sites: list[Site], tmp_path: Path) -> None:
    make_tables(sites)
    result = []
    for i, pooled in enumerate((True, False)):
        out = tmp_path / str(i)
        out.mkdir()
        config = tiny.run_config(
            federation__rounds=1, model__name="logreg", model__options={}, baselines__local=False,
            baselines__pooled=pooled, baselines__classical=["logreg"],
        )  # fmt: skip
        assert networks.train_baselines(config, out, 3) == {}
        result.append([item for item in read(out)["models"] if item["name"] != "pooled"])
    assert [item["name"] for item in result[1]] == ["logreg:pooled"]
    assert result[0] == result[1]


def test_each_hospitals_own_scaling_is_no_models_scaling(sites: list[Site], tmp_path: Path) -> None:
    """With data.scaling=site there is none to keep beside a model; a shared one is its training rows'."""
    for how in ("site", "standard"):
        config = tiny.run_config(federation__rounds=1, data__scaling=how)
        out = tmp_path / how
        out.mkdir()
        networks.train_baselines(config, out, 3)
        remaining = sorted(path.name for path in out.glob("scaling.*"))
        names = ["scaling.local.north.safetensors", "scaling.local.south.safetensors", "scaling.local.west.safetensors"]
        assert remaining == ([] if how == "site" else [*names, "scaling.pooled.safetensors"])
    result = Scaling.from_bytes((tmp_path / "standard" / "scaling.pooled.safetensors").read_bytes())
    rows = np.concatenate([site.train.features for site in sites])
    np.testing.assert_allclose(result.centre[:1], rows.mean(0), rtol=1e-5)
