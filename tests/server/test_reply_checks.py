"""What a hostile or broken site sends loses that site for that round, by name; the others' run goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Array, MetricRecord, RecordDict

from client.site import Site
from common import messages
from common.metrics.counts import Counts
from common.replies import Reply
from common.request_record import PROTOCOL
from common.untrusted import MAX_JSON_BYTES
from server import app, reply_checks
from server.run import Run
from tests import tiny
from tests.server.hostile_replies import MARKUP, counts_times, edit, having, run_with, tables_as, without
from tests.wire import Answer, FakeGrid, site_script

pytestmark = pytest.mark.usefixtures("waiting_clock")


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> dict[str, Site]:
    sites = {name: tiny.site(name, seed) for seed, name in enumerate(("east", "north", "west"), start=1)}
    monkeypatch.setattr("client.site.read_site", lambda context, config: sites[str(context.site)])
    return sites


def nested(levels: int) -> Callable[[Reply], RecordDict]:
    return edit(lambda report: json.dumps(report)[:-1] + ', "note": ' + "[" * levels + "]" * levels + "}")


def weights_as(change: Callable[[np.ndarray], Any]) -> Callable[[Any], Answer]:
    return lambda reply: replace(reply, weights={name: change(value) for name, value in reply.weights.items()})


def record_as(**changes: Any) -> Callable[[Reply], RecordDict]:
    def change(reply: Reply) -> RecordDict:
        content = messages.pack_reply(reply)
        for name, value in changes.items():
            content.config_records[messages.REPLY_KEY][name] = value
        return content

    return change


def arrays_as(change: Callable[[Array], Array]) -> Callable[[Reply], RecordDict]:
    def changed(reply: Reply) -> RecordDict:
        content = messages.pack_reply(reply)
        record = content.array_records[messages.ARRAYS_KEY]
        first = next(iter(record))
        record[first] = change(record[first])
        return content

    return changed


def lying_header(array: Array) -> Array:
    """Return an array whose header asks for a terabyte."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)})
    return Array(dtype="float32", shape=(1 << 38,), stype="numpy.ndarray", data=head.getvalue() + b"0" * 64)


def with_metrics(reply: Reply) -> RecordDict:
    content = messages.pack_reply(reply)
    content["metrics"] = MetricRecord({"num-examples": -5, "weight": 1e300})
    return content


HANDSHAKE = {
    "no counts": (without("counts"), "its handshake report is wrong: counts: Field required"),
    "no patients": (without("counts", "train", "patients"), "counts.train.patients: Field required"),
    "a text for patients": (having("6", "counts", "train", "patients"), "counts.train.patients: Input should be"),
    "negative examples": (
        having(-900, "counts", "train", "examples"),
        "counts.train.examples: Input should be greater",
    ),
    "huge counts": (having(10**12, "counts", "train", "examples"), "counts.train.examples: Input should be less"),
    "true for a count": (having(True, "counts", "train", "patients"), "counts.train.patients: Input should be"),
    "more patients than examples": (having(41, "counts", "train", "patients"), "of 41 patients with 24 examples"),
    "examples of nobody": (having(0, "counts", "train", "patients"), "of 0 patients with 24 examples"),
    "a class less": (having([20, 20], "counts", "train", "classes"), "train counts do not fit its classes"),
    "a list": (edit(lambda report: [1]), "Input should be an object"),
    "no JSON": (edit(lambda report: "{"), "its report is not JSON"),
    "an unknown field": (having(1, "extra"), "extra: Extra inputs are not permitted"),
    "control characters": (having("ok\x1b]0;owned\x07", "warning"), "a text of its report holds control characters"),
    "text that turns round": (having("abc\u202etxt.exe", "device"), "holds control characters"),
    "a lone surrogate": (edit(lambda r: json.dumps(r | {"warning": "X"}).replace('"X"', '"\\ud800"')), "holds control"),
    "markup as a key": (having({MARKUP: 5}, "excluded"), "holds control characters"),
    "a long text": (having("a" * 501, "warning"), "has 501 characters, at most 500"),
    "a task of strings": (having("tiny", "task"), "task: Value error, not a task"),
    "a task without end": (having(10**12, "task", "samples"), "the task is too large"),
    "another fingerprint": (having("0" * 16, "fingerprint"), "its fingerprint is not its task's"),
    "an old version": (
        record_as(protocol=PROTOCOL - 1),
        f"it speaks protocol {PROTOCOL - 1} (release",
    ),
    "a version that is no number": (record_as(protocol=str(PROTOCOL)), f"it speaks protocol '{PROTOCOL}'"),
    "markup for a name": (record_as(site=MARKUP), "cannot name a site"),
    "a formula for a name": (record_as(site='=cmd|"/C calc"!A0'), "cannot name a site"),
    "no name": (record_as(site=""), "cannot name a site"),
    "another kind": (record_as(kind="train"), "it answered another request than handshake"),
    "foreign": (lambda reply: RecordDict(), "its answer is not one of this federation's protocol"),
}


@pytest.mark.parametrize("name", HANDSHAKE)
def test_a_handshake_that_does_not_fit_loses_its_site(name: str, sites: dict[str, Site], tmp_path: Path) -> None:
    change, reason = HANDSHAKE[name]
    done = run_with(sites, "handshake", change, tmp_path, federation__rounds=1, federation__min_sites=2)
    assert done["status"] == "complete"
    ((lost, why),) = done["lost"].items()
    unnamed = "name" in reason or name == "foreign"
    assert (lost, reason in why) == ("node 3" if unnamed else "west", True), why
    assert len(why.splitlines()) == 1
    assert set(done["sites"]) == set(done["test"]["all"]) == {"east", "north"}


TRAIN = {
    "complex weights": (weights_as(lambda v: v + 1e6j), "holds complex64, not real numbers"),
    "float64 of 1e300": (weights_as(lambda v: np.full(v.shape, 1e300)), "are float64, not float32"),
    "3e38": (weights_as(lambda v: np.full_like(v, 3e38)), "its weights of stem.weight reach 3e+38 (at most 1e+12)"),
    "1e30": (weights_as(lambda v: np.full_like(v, 1e30)), "its weights of stem.weight reach 1e+30 (at most 1e+12)"),
    "NaN": (weights_as(lambda v: v * np.nan), "its weights of stem.weight are not finite numbers"),
    "infinite": (weights_as(lambda v: np.full_like(v, -np.inf)), "are not finite numbers"),
    "whole numbers": (weights_as(lambda v: v.astype(np.int8)), "are int8, not float32"),
    "texts": (weights_as(lambda v: np.full(v.shape, "a")), "not real numbers"),
    "truth values": (weights_as(lambda v: v > 0), "holds bool, not real numbers"),
    "turned bytes": (weights_as(lambda v: v.astype(">f4")), "not real numbers"),
    "another shape": (weights_as(lambda v: np.zeros((7, 7), np.float32)), "its weights do not fit the model"),
    "claims a billion examples": (
        having(10**9, "examples"),
        "it trained on 1000000000 examples, in the handshake it st",
    ),
    "claims too many examples": (having(10**12, "examples"), "examples: Input should be less"),
    "negative examples": (having(-5, "examples"), "examples: Input should be greater"),
    "no examples": (without("examples"), "examples: Field required"),
    "a loss of text": (having(MARKUP[:-5], "loss"), "loss: Input should be a valid number"),
    "a loss that is no number": (edit(lambda r: json.dumps(r | {"loss": float("nan")})), "holds NaN"),
    "an infinite number": (edit(lambda r: json.dumps(r)[:-1] + ', "note": 1e999}'), "a number that is not finite"),
    "privacy of text": (having("junk", "privacy"), "privacy: Input should be"),
    "JSON 900 deep": (nested(900), "its report is nested more than 32 levels deep"),
    "JSON 100000 deep": (nested(100_000), "its report is nested more than 32 levels deep"),
    "a report without end": (having("A" * MAX_JSON_BYTES, "note"), "bytes, at most 8388608 are allowed"),
    "a number without end": (
        edit(lambda r: json.dumps(r)[:-1] + ', "note": ' + "9" * 5000 + "}"),
        "its report is not JSON",
    ),
    "more arrays": (lambda r: replace(r, weights={**r.weights, "more": np.zeros(10**6)}), "bytes, at most"),
    "an array that asks for a terabyte": (arrays_as(lying_header), "has not the bytes that its shape needs"),
    "an array of another format": (
        arrays_as(lambda a: Array(dtype=a.dtype, shape=a.shape, stype="pickle", data=a.data)),
        "is not in NumPy's format",
    ),
    "an array of nonsense": (
        arrays_as(lambda a: Array(dtype=a.dtype, shape=a.shape, stype=a.stype, data=b"nonsense")),
        "is not in NumPy's format",
    ),
    "metrics of its own": (with_metrics, "its answer is not one of this federation's protocol"),
    "control variates": (lambda r: replace(r, control=dict(r.weights)), "its control variates do not fit the model"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAIN)
def test_an_update_that_does_not_fit_loses_its_site_for_the_round(
    name: str, sites: dict[str, Site], tmp_path: Path
) -> None:
    change, reason = TRAIN[name]
    done = run_with(sites, "train", change, tmp_path / "hostile", federation__choose="last")
    assert done["status"] == "complete"
    assert list(done["lost"]) == ["west"]
    assert reason in done["lost"]["west"], done["lost"]
    assert done["lost"]["west"].startswith("round 2: ")
    assert set(done["test"]["all"]) == {"east", "north", "west"}


def test_the_model_is_that_of_the_other_sites(sites: dict[str, Site], tmp_path: Path) -> None:
    sections = {"federation__choose": "last", "data__scaling": "none", "training__loss": "cross_entropy"}
    done = run_with(sites, "train", TRAIN["3e38"][0], tmp_path / "three", **sections)
    others = [site_script(sites["east"]), site_script(sites["north"])]
    app.run_federation(FakeGrid(others), tiny.run_config(federation__rounds=2, **sections), tmp_path / "two")
    assert done["weights"] == json.loads((tmp_path / "two" / "federated.json").read_text())["weights"]


VALIDATE = {
    "no patients": (without("patients"), "patients: Field required"),
    "a text for patients": (having("NaN", "patients"), "patients: Input should be a valid integer"),
    "negative patients": (having(-1, "patients"), "patients: Input should be greater"),
    "other patients": (having(5, "patients"), "its counts are of 5 patients, in the handshake it stated 1"),
    "negative counts": (tables_as(counts_times(-1)), "its counts all are below 0"),
    "counts a billion times": (
        tables_as(counts_times(10**7)),
        "of more than the 8 examples that it stated in the handsh",
    ),
    "no counts": (lambda r: replace(r, tables={}), "it sent other counts than those of all its validation patients"),
    "another loss": (
        tables_as(lambda c: replace(c, loss=np.asarray(np.nan))),
        "its counts all are not numbers that can be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VALIDATE)
def test_validation_that_does_not_fit_loses_its_site_for_the_round(
    name: str, sites: dict[str, Site], tmp_path: Path
) -> None:
    change, reason = VALIDATE[name]
    done = run_with(sites, "validate", change, tmp_path)
    assert done["status"] == "complete"
    assert list(done["lost"]) == ["west"]
    assert done["lost"]["west"].startswith("round 2: validation: ")
    assert reason in done["lost"]["west"], done["lost"]
    assert set(done["test"]["all"]) == {"east", "north", "west"}


def test_too_few_honest_sites_end_the_run_with_every_reason(sites: dict[str, Site], tmp_path: Path) -> None:
    from common.errors import EngineError

    with pytest.raises(EngineError, match=r"round 1: 2 of 3 sites answered, 3 are needed \(west: its weights of"):
        run_with(sites, "train", TRAIN["1e30"][0], tmp_path, federation__min_sites=3)
    assert json.loads((tmp_path / "federated.json").read_text())["status"] == "failed"


def test_an_honest_run_loses_nobody(sites: dict[str, Site], tmp_path: Path) -> None:
    done = run_with(sites, "train", lambda reply: reply, tmp_path)
    assert (done["status"], done["lost"], done["shift"]["lost"]) == ("complete", {}, {})


def test_a_task_with_a_utility_may_be_evaluated_without_resamples() -> None:
    task = replace(tiny.TASK, classes=("N", "V"), class_titles=("normal", "ventricular"), utility=True)
    config = tiny.run_config(evaluation__bootstrap=0)
    run = SimpleNamespace(task=task, config=config)
    none = Counts(np.zeros((0, 2, 2), np.int64), np.zeros((0, 2, 2, 64), np.int64), np.zeros(0))
    assert reply_checks._fits(none, cast(Run, run), resampled=True)
    whole = Counts(np.zeros((2, 2), np.int64), np.zeros((2, 2, 64), np.int64), np.zeros(()))
    assert not reply_checks._fits(whole, cast(Run, run), resampled=False)
