"""What a hospital's gate costs for each message: `wardround bench gate`.

A SYNTHETIC hospital in UCI heart disease's layout answers each kind of request under the default policy. Counted as the
gate are the checks before and after the work, and bringing the counts of predictions to the grain at which they may
leave; hashing of configurations, weights and people is counted for itself. Times are processor times of the thread,
medians over turns in which the kinds of request alternate. "cold" is the first message of a process, which opens the
register; each later one finds it open.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from client.gate import admission, weights
from client.gate.admission import admit
from client.gate.disclosure import ReleaseRules
from client.gate.register_file import hash_person, release_register_file
from client.gate.release import check_reply
from client.policy import SitePolicy
from client.requests import HANDLERS
from client.site import Site, load_site
from client.site_context import SiteContext
from common import models
from common.arrays import Weights
from common.config import RunConfig, parse_config
from common.replies import TrainReply
from common.requests import (
    FinalTestRequest,
    HandshakeRequest,
    Request,
    ScalingRequest,
    TrainRequest,
    ValidateRequest,
)
from experiments.markdown_table import render_markdown_table
from sites.datasets.heart_disease import simulate

SETTINGS: dict[str, Any] = {
    "name": "gate",
    "data": {"dataset": "heart_disease", "scaling": "none"},
    "sites": {"split": "patient"},
    "model": {"name": "logreg"},
    "training": {"batch_size": 4096, "optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "loss": "cross_entropy"},
    "federation": {"rounds": 2},
    "evaluation": {"bins": 62, "bootstrap": 2, "recalibrate": [], "subgroups": {"sex": True, "age": [40, 65]}},
}  # fmt: skip
HASHING, DATA, GRAIN = "hashing", "data", "grain"
COUNTED: tuple[tuple[Any, str, str], ...] = (
    (admission, "digest_settings", HASHING),
    (admission, "digest_question", HASHING),
    (weights, "digest_weights", HASHING),
    (admission, "load_site", DATA),  # which the work needs too
    (ReleaseRules, "coarsen", GRAIN),
    (ReleaseRules, "resample", GRAIN),
    (ReleaseRules, "hide_groups", GRAIN),
)
"""Functions whose time is counted for itself: where they are, their names, what they are counted as."""


@contextmanager
def count_time(owner: Any, name: str, spent: dict[str, float], label: str) -> Iterator[None]:
    """Add the processor time of a function to `spent[label]` while the block runs."""
    before = getattr(owner, name)

    @wraps(before)
    def timed(*given: Any, **named: Any) -> Any:
        start = time.thread_time()
        try:
            return before(*given, **named)
        finally:
            spent[label] = spent.get(label, 0.0) + time.thread_time() - start

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, before)


def measure_gate(people: int, turns: int) -> dict[str, Any]:
    """Return the medians for each kind of request, in milliseconds.

    Args:
        people: people of the hospital.
        turns: how often each kind of request is answered.
    """
    torch.set_num_threads(1)
    times: dict[str, list[Mapping[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="wardround-") as name:
        folder = Path(name)
        simulate.generate(folder / "data", hospitals=1, patients=people, seed=3)
        config = parse_config(SETTINGS)
        context = SiteContext(SitePolicy(), site="hospital", data=folder / "data", state=folder / "state")
        site = load_site(context, config)
        requests = build_requests(context, config, site)
        with ExitStack() as stack:
            spent: dict[str, float] = {}
            for owner, function, label in COUNTED:
                stack.enter_context(count_time(owner, function, spent, label))
            for _ in range(turns):
                for kind, request in requests.items():
                    times.setdefault(kind, []).append(time_message(context, request, spent))
                release_register_file()
                hash_person.cache_clear()
                times.setdefault("handshake, cold", []).append(time_message(context, requests["handshake"], spent))
        everyone = [person for part in (site.train, site.validation, site.test) for person in part.people_names]
        hash_person.cache_clear()
        start = time.thread_time()
        for person in everyone:
            hash_person(b"secret", person)
        hashing = 1e3 * (time.thread_time() - start)
        release_register_file()
    rows = [
        {"request": kind, **{key: round(1e3 * statistics.median(each[key] for each in turn), 3) for key in turn[0]}}
        for kind, turn in times.items()
    ]
    return {"people": len(everyone), "turns": turns, "hashing everyone": round(hashing, 3), "messages": rows}


def build_requests(context: SiteContext, config: RunConfig, site: Site) -> dict[str, Request]:
    """Return a request of each kind of one run, whose first round the hospital has trained."""
    built = models.build_model(site.task, config.model, config.seed).state_dict()
    first: Weights = {name: value.detach().numpy().copy() for name, value in built.items()}
    run_id = secrets.token_hex(16)
    train = TrainRequest(config, round=1, weights=first, run_id=run_id)
    admit(context, train)
    reply = HANDLERS[TrainRequest](context, train)
    assert isinstance(reply, TrainReply)
    check_reply(context, train, reply)
    merged: Weights = {**first, **reply.weights}
    return {
        "handshake": HandshakeRequest(config),
        "scaling": ScalingRequest(config, run_id=run_id),
        "train, first round": train,
        "train, later round": TrainRequest(config, round=2, weights=merged, run_id=run_id),
        "validate": ValidateRequest(config, round=2, weights=merged, run_id=run_id),
        "test": FinalTestRequest(config, round=2, weights=merged, run_id=run_id),
    }


def time_message(context: SiteContext, request: Request, spent: dict[str, float]) -> Mapping[str, float]:
    """Return the seconds that a message's checks, hashing, grain and work take."""
    spent.clear()

    def clock(run: Callable[[], Any]) -> tuple[Any, float]:
        start = time.thread_time()
        result = run()
        return result, time.thread_time() - start

    _, before = clock(lambda: admit(context, request))
    reply, work = clock(lambda: HANDLERS[type(request)](context, request))
    _, after = clock(lambda: check_reply(context, request, reply))
    hashing, grain = spent.get(HASHING, 0.0), spent.get(GRAIN, 0.0)
    checks = before + after - hashing - spent.get(DATA, 0.0)
    return {"checks": checks, "grain": grain, "hashing": hashing, "work": work - grain}


def render_gate_table(measured: Mapping[str, Any]) -> str:
    """Return the measurements as a Markdown table."""
    header = ["request", "checks, ms", "grain of counts, ms", "hashing, ms", "work, ms"]
    rows = [
        [item["request"], *(f"{item[key]:.2f}" for key in ("checks", "grain", "hashing", "work"))]
        for item in measured["messages"]
    ]
    note = (
        f"SYNTHETIC hospital of {measured['people']} people; hashing them all: {measured['hashing everyone']:.2f} ms."
    )
    return f"{render_markdown_table(header, rows)}\n\n{note}"
