"""What a site does when asked, on generated hospitals."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as truth

from client.evaluation.predictions import build_predictor, count_class_patients, predict_and_count
from client.policy import SIMULATION_POLICY
from client.requests import handle
from client.site import load_site
from client.site_context import SiteContext
from client.training.batches import predict_logits
from client.training.local_update import copy_weights
from common import config, models
from common.config import RunConfig
from common.errors import ConfigError, SiteError
from common.request_record import PROTOCOL
from tests import tiny
from tests.wire import build_request


@pytest.fixture
def run(hospitals: Path) -> RunConfig:
    return config.parse_config(
        {
            "name": "work",
            "data": {"path": str(hospitals)},
            "sites": {"validation": 0.5},
            "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
            "training": {"lr": 0.01, "device": "cpu"},
            "evaluation": {"bootstrap": 10, "bins": 64, "without": {"one": ["x"]}},
        }
    )


def simulated(index: int) -> SiteContext:
    return SiteContext(SIMULATION_POLICY, index=index, count=2)


def hospital(folder: Path, **policy: Any) -> SiteContext:
    """Return a hospital that allows what a simulation does, but for its resamples and `policy`."""
    allowed = SIMULATION_POLICY.model_copy(update={"share_resamples": False, **policy})
    state = Path(tempfile.mkdtemp(dir=folder.parent))
    return SiteContext(allowed, site="north", data=folder / "north", state=state)


def weights(run: RunConfig) -> dict[str, np.ndarray]:
    return copy_weights(models.build_model(load_site(simulated(0), run).task, run.model, run.seed))


def test_the_handshake_reports_counts_and_no_names(run: RunConfig, hospitals: Path) -> None:
    replies = [handle(simulated(i), build_request("handshake", run)) for i in range(2)]
    assert [reply.site for reply in replies] == ["north", "south"]
    for i, reply in enumerate(replies):
        site = load_site(simulated(i), run)
        counts = reply.report.to_dict()["counts"]
        assert reply.report.to_dict()["protocol"] == PROTOCOL
        assert reply.report.to_dict()["synthetic"] is True
        assert sum(part["examples"] for part in counts.values()) == sum(
            len(part.y) for part in (site.train, site.validation, site.test)
        )
        assert counts["train"]["classes"] == [Counter(site.train.y.tolist())[c] for c in range(4)]
        assert sum(part["patients"] for part in counts.values()) == 3
        assert not any(name in str(reply.report) for name in site.train.patients)
    assert replies[0].report.to_dict()["fingerprint"] == replies[1].report.to_dict()["fingerprint"]


def test_a_hospital_opens_its_own_folder_whatever_the_run_names(run: RunConfig, hospitals: Path) -> None:
    lying = run.model_copy(update={"data": run.data.model_copy(update={"path": "/nowhere", "cache": "/nowhere"})})
    own = load_site(hospital(hospitals), lying)
    same = load_site(simulated(0), run)
    assert own.name == "north"
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(own, part).x, getattr(same, part).x)
        np.testing.assert_array_equal(getattr(own, part).patient, getattr(same, part).patient)


def test_a_wrong_number_of_nodes(run: RunConfig) -> None:
    with pytest.raises(ConfigError, match="2 hospitals, but 3 nodes"):
        load_site(SiteContext(SIMULATION_POLICY, index=0, count=3), run)


def test_train_changes_the_weights_and_is_the_same_twice(run: RunConfig) -> None:
    given = weights(run)
    request = build_request("train", run, 1, given, (100, 10, 10, 10))
    one, other = (handle(simulated(0), request) for _ in range(2))
    assert one.report.examples == len(load_site(simulated(0), run).train.y)
    assert one.weights.keys() == given.keys()
    assert any(not np.array_equal(one.weights[key], given[key]) for key in given)
    assert all(np.array_equal(one.weights[key], other.weights[key]) for key in given)
    assert one.report.loss > 0
    next_round = handle(simulated(0), replace(request, round=2))
    assert any(not np.array_equal(one.weights[key], next_round.weights[key]) for key in given)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"stem.weight": np.zeros(3, np.float32)},
        {"other": np.zeros(3, np.float32)},
        {"stem.weight": np.asarray(["text"])},
    ],
    ids=["none", "shape", "name", "kind"],
)
@pytest.mark.parametrize("kind", ["train", "validate", "test"])
def test_weights_that_do_not_fit(run: RunConfig, wrong: dict[str, np.ndarray], kind: Any) -> None:
    given = {**weights(run), **wrong} if wrong else {}
    with pytest.raises(SiteError, match="do not fit the model"):
        handle(simulated(0), build_request(kind, run, 1, given))


def test_weights_that_are_not_numbers_give_no_figures(run: RunConfig) -> None:
    broken = {key: np.full_like(value, np.nan) for key, value in weights(run).items()}
    for kind in ("train", "validate", "test"):
        with pytest.raises(SiteError, match="not a finite number"):
            handle(simulated(0), build_request(kind, run, 1, broken))  # type: ignore[arg-type]


def test_a_policy_refuses_to_train_on_few(run: RunConfig, hospitals: Path) -> None:
    have = load_site(hospital(hospitals), run).train.people()
    request = build_request("train", run, 1, weights(run))
    handle(hospital(hospitals, min_training_patients=have), request)
    with pytest.raises(SiteError, match="too few people"):
        handle(hospital(hospitals, min_training_patients=have + 1), request)


def test_a_policy_decides_what_leaves(run: RunConfig, hospitals: Path) -> None:
    request = build_request("test", run, 1, weights(run))
    strict, open_ = (handle(hospital(hospitals, share_resamples=share), request) for share in (False, True))
    assert set(strict.tables) == set(strict.report.to_dict()["evaluations"]) == {"all"}
    assert set(open_.tables) == {"all", "all/resampled", "without one", "without one/resampled"}
    np.testing.assert_array_equal(strict.tables["all"].confusion, open_.tables["all"].confusion)
    assert strict.tables["all"].confusion.ndim == 2
    assert open_.tables["all/resampled"].confusion.shape == (10, 4, 4)


def test_figures_without_named_patients(run: RunConfig) -> None:
    site = load_site(simulated(0), run)
    gone = site.test.patients[int(site.test.patient[0])]
    wanted = run.model_copy(update={"evaluation": run.evaluation.model_copy(update={"without": {"one": (gone,)}})})
    reply = handle(simulated(0), build_request("test", wanted, 1, weights(run)))
    left = [site.test.patients[i] != gone for i in site.test.patient]
    assert reply.tables["all"].confusion.sum() == len(site.test.y)
    assert reply.tables["without one"].confusion.sum() == sum(left) < len(site.test.y)


def test_figures_are_sklearns(run: RunConfig) -> None:
    given = weights(run)
    given = handle(simulated(0), build_request("train", run, 1, given)).weights
    reply = handle(simulated(0), build_request("test", run, 1, given))
    site = load_site(simulated(0), run)
    model = models.build_model(site.task, run.model, run.seed)
    model.load_state_dict({key: torch.tensor(value) for key, value in given.items()})
    logits = torch.from_numpy(predict_logits(model, site.test, torch.device("cpu"))).double()
    predicted, y = logits.argmax(1).numpy(), site.test.y
    result = reply.report.to_dict()["evaluations"]["all"]
    present = sorted(set(y.tolist()))
    expected = truth.confusion_matrix(y, predicted, labels=range(4))
    assert np.asarray(result["confusion"]).tolist() == expected.tolist()
    assert result["accuracy"]["value"] == pytest.approx(truth.accuracy_score(y, predicted))
    f1 = truth.f1_score(y, predicted, labels=present, average="macro", zero_division=0)
    assert result["macro_f1"]["value"] == pytest.approx(f1)
    nll = truth.log_loss(y, torch.softmax(logits, 1).numpy(), labels=range(4))
    assert result["loss"]["value"] == pytest.approx(nll, rel=1e-6)
    assert [item["patients"] for item in result["classes"].values()] == [
        len(set(site.test.patient[y == c])) for c in range(4)
    ]
    validation = handle(simulated(0), build_request("validate", run, 1, given))
    assert validation.tables["all"].confusion.sum() == len(site.validation.y)
    assert validation.report.patients == site.validation.people()


@pytest.mark.parametrize(("parts", "kind"), [((0, 0, 0), "validate"), ((0, 0, 0), "test"), ((1, 2, 2), "train")])
def test_an_empty_split(monkeypatch: pytest.MonkeyPatch, parts: tuple[int, ...], kind: Any) -> None:
    site = tiny.site("north", 1, parts=parts)
    monkeypatch.setattr("client.site.read_site", lambda context, config: site)
    run = tiny.run_config()
    request = build_request(kind, run, 1, copy_weights(models.build_model(tiny.TASK, run.model, run.seed)))
    if kind == "train":
        with pytest.raises(SiteError, match=r"too few people|no training examples"):
            handle(simulated(0), request)
        return
    reply = handle(simulated(0), request)
    assert reply.tables["all"].confusion.sum() == 0


def test_recordings_of_one_person_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.cohort(1, people=3)
    twins = replace(whole, persons=("a", "a", "b"))
    site = tiny.site("north", 1, twins, parts=(2, 2, 2))
    run = tiny.run_config()
    predict = build_predictor(models.build_model(tiny.TASK, run.model, 1), run)
    counts = predict_and_count(predict, site.test, run).people
    assert [int(n) for n in counts.confusion.sum((1, 2))] == [16, 8]
    assert count_class_patients(site.test)[0] == 2
