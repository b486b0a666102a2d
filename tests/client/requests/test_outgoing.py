"""What a site has learned leaves it by one function alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client
from client import requests as work
from client.policy import SIMULATION_POLICY
from client.requests.outgoing import build_update_reply
from client.site_context import SiteContext
from client.training.local_update import copy_weights
from common import messages, models
from common.errors import SiteError
from common.replies import TrainReply
from common.reply_arrays import name_arrays
from common.reports import TrainReport
from common.requests import Method, RequestKind
from tests import tiny
from tests.wire import build_request

CLIENT = Path(client.__file__).parent
CARRY = {"weights", "control"}
"""What of a reply holds what was learned."""


def senders(source: str) -> list[int]:
    """Return the lines that could put weights into a reply, or into a message beside one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        if name == "TrainReply" or (name.endswith("Reply") and (given & CARRY or None in given or len(node.args) > 2)):
            found.append(node.lineno)
        if (name == "replace" and given & CARRY) or name in ("pack_weights", "ArrayRecord", "Array"):
            found.append(node.lineno)
    return found


def test_only_one_module_puts_weights_into_a_reply() -> None:
    where = {str(path.relative_to(CLIENT)) for path in CLIENT.rglob("*.py") if senders(path.read_text())}
    assert where == {"requests/outgoing.py"}
    for text in ("TrainReply(s, r, weights=w)", "TrainReply(s, r)", "replies.TrainReply(s, r, control=c)",
                 "ValidateReply(s, r, w)", "replace(reply, weights=w)", "ScalingReply(**all)",
                 "messages.pack_weights(w)"):  # fmt: skip
        assert senders(text)
    assert not senders("ValidateReply(s, r, tables=t)")


def test_every_update_passes_by_it_and_nothing_else_carries_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    site = tiny.site("north", 1)
    monkeypatch.setattr("client.site.read_site", lambda place, config: site)
    passed: list[Any] = []
    true = build_update_reply

    def spy(*args: Any, **more: Any) -> Any:
        passed.append(true(*args, **more))
        return passed[-1]

    monkeypatch.setattr("client.requests.train.build_update_reply", spy)
    config = tiny.run_config()
    weights = copy_weights(models.build_model(tiny.TASK, config.model, 1))
    kinds: tuple[RequestKind, ...] = (
        "handshake", "scaling", "train", "validate", "test", "domain_shift", "latent", "canary", "grow",
    )  # fmt: skip
    assert set(kinds) == set(messages.MESSAGE_TYPES)
    with pytest.raises(SiteError, match=r"model\.name=cnn has no latent space"):
        work.handle(
            SiteContext(SIMULATION_POLICY, site="north"), build_request("latent", config, 1, weights, (1, 1, 1))
        )
    for kind in kinds:
        if kind in ("latent", "grow"):  # of other models
            continue
        reply = work.handle(
            SiteContext(SIMULATION_POLICY, site="north"), build_request(kind, config, 1, weights, (1, 1, 1))
        )
        if kind == "train":
            assert [reply] == passed
            assert set(reply.weights) == set(weights)
            assert any(not np.array_equal(reply.weights[name], value) for name, value in weights.items())
        else:
            assert not isinstance(reply, TrainReply)
            assert kind != "canary" or not name_arrays(reply)
            shapes = {value.shape for value in weights.values()}
            assert kind == "scaling" or not shapes & {value.shape for value in getattr(reply, "sums", {}).values()}
    assert len(passed) == 1


def test_control_variates_pass_by_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tiny.site("north", 1)
    monkeypatch.setattr("client.site.read_site", lambda place, config: site)
    config = tiny.run_config(training__optimizer="sgd", training__momentum=0.0)
    weights = copy_weights(models.build_model(tiny.TASK, config.model, 1))
    zero = {name: np.zeros_like(value) for name, value in weights.items()}
    request = build_request(
        "train", config, 1, weights, (1, 1, 1), method=Method(control=True), control=zero, run_id="a" * 32
    )
    place = SiteContext(SIMULATION_POLICY, site="north", state=tmp_path)
    assert set(work.handle(place, request).control) == set(weights)
    monkeypatch.setattr(
        "client.requests.train.build_update_reply", lambda *_: TrainReply("north", TrainReport(examples=1))
    )
    assert not work.handle(place, request).control
