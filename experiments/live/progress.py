"""What a run's events say of its progress: rounds, sites, loss, who is awaited, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from common.metrics.registry import METRICS

Event = Mapping[str, Any]
MAX_MESSAGES = 50
"""Newest messages that are kept."""


class RunProgress:
    """Follows the events of a run.

    Args:
        clock: returns seconds; the time left is measured with it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state: dict[str, Any] = {
            "title": "", "status": "starting", "stage": "", "rounds": 0, "round": 0, "chosen": None, "metric": "",
            "metric_title": "", "history": [], "sites": {}, "awaited": [], "messages": [], "synthetic": False,
            "notices": [],
        }  # fmt: skip
        self._first: tuple[float, int] | None = None
        self._last: float | None = None

    def handle(self, event: Event) -> None:
        """Take one event; unknown kinds are passed over."""
        method = getattr(self, f"_on_{str(event.get('event')).replace('-', '_')}", None)
        if method is not None:
            method(event)

    def describe(self) -> dict[str, Any]:
        """Return the state as the page reads it."""
        return self._state | {"seconds_left": self._estimate_seconds_left()}

    def _estimate_seconds_left(self) -> float | None:
        """Return the seconds until the last round at the pace since the first one seen; None before the second."""
        state, first = self._state, self._first
        if first is None or self._last is None or state["round"] <= first[1] or state["status"] != "running":
            return None
        pace = (self._last - first[0]) / (state["round"] - first[1])
        since = self._clock() - self._last
        return float(max(0.0, pace * (state["rounds"] - state["round"]) - since))

    def _say(self, text: str) -> None:
        self._state["messages"] = [*self._state["messages"], text][-MAX_MESSAGES:]

    def _site(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = self._state["sites"].setdefault(
            str(name), {"state": "", "patients": None, "loss": None, "value": None, "epsilon": None, "rounds": 0}
        )
        return entry

    def _on_start(self, event: Event) -> None:
        metric = METRICS.get(event["metric"])
        self._state |= {
            "title": event["title"], "rounds": event["rounds"], "metric": event["metric"], "status": "running",
            "metric_title": metric.title if metric else event["metric"], "notices": list(event.get("notices", ())),
        }  # fmt: skip

    def _on_stage(self, event: Event) -> None:
        status = "running" if self._state["status"] == "complete" else self._state["status"]
        self._state |= {"stage": event["what"], "awaited": [], "status": status}

    def _on_connect(self, event: Event) -> None:
        missing = list(event.get("missing", ()))
        self._state |= {"stage": f"{event['ready']} of {event['need']} sites are ready", "awaited": missing}

    def _on_handshake(self, event: Event) -> None:
        known = {*event["sites"], *event.get("refused", {})}  # until now, nodes had no names
        self._state["sites"] = {name: site for name, site in self._state["sites"].items() if name in known}
        for name, about in event["sites"].items():
            site = self._site(name)
            site["patients"] = about.get("counts", {}).get("train", {}).get("patients")
            site["state"] = "ready"
            self._state["synthetic"] |= bool(about.get("synthetic"))
        for name, reason in event.get("refused", {}).items():
            self._site(name)["state"] = "takes no part"
            self._say(f"{name} takes no part: {reason}")
        self._state |= {"status": "running", "awaited": [], "stage": "training"}
        self._first = self._clock(), 0

    def _on_resume(self, event: Event) -> None:
        self._state |= {"round": event["round"], "rounds": event["rounds"]}
        self._first = self._clock(), event["round"]

    def _on_reply(self, event: Event) -> None:
        site = self._site(event["site"])
        site["state"] = f"answered ({event['phase']})" if event["ok"] else f"no usable answer ({event['phase']})"
        self._state["awaited"] = [name for name in self._state["awaited"] if name != event["site"]]
        if event["phase"] == "test":
            self._state["stage"] = "final evaluation"

    def _on_awaited(self, event: Event) -> None:
        self._state["awaited"] = list(event["sites"])
        for name in event["sites"]:
            self._site(name)["state"] = f"awaited for {event['seconds']} s of {event['limit']} s"

    def _on_round(self, event: Event) -> None:
        metric, validation = self._state["metric"] or event["metric"], event.get("validation") or {}
        trained = {name: part["train"] for name, part in event["sites"].items() if part.get("train")}
        known = [part for part in trained.values() if part.get("loss") is not None]
        weight = sum(part["examples"] for part in known)
        loss = sum(part["loss"] * part["examples"] for part in known) / weight if weight else None
        self._state["history"].append(
            {"round": event["round"], "loss": loss, "value": validation.get(metric), "seconds": event["seconds"]}
        )
        for name, part in event["sites"].items():
            site, train = self._site(name), part.get("train") or {}
            site["loss"], site["value"] = train.get("loss"), (part.get("validation") or {}).get(metric)
            site["epsilon"] = (train.get("privacy") or {}).get("epsilon_run", site["epsilon"])
            site["rounds"] += bool(train)
            site["state"] = "in the last round"
        for name, reason in event.get("lost", {}).items():
            self._site(name)["state"] = f"missing from round {event['round']}"
            self._say(f"{name} is missing from round {event['round']}: {reason}")
        self._state |= {"round": event["round"], "rounds": event["rounds"], "chosen": event["chosen"], "awaited": []}
        self._state |= {"status": "running", "stage": self._state["stage"] or "training"}
        self._last = self._clock()
        if self._first is None:
            self._first = self._last, event["round"]

    def _on_stopped(self, event: Event) -> None:
        self._say(f"stops after round {event['round']}: no better validation figure for {event['patience']} rounds")
        self._state["rounds"] = event["round"]

    def _on_baseline(self, event: Event) -> None:
        self._state["stage"] = f"baseline {event['model']}: {event['epoch']} of {event['epochs']}"

    def _on_late(self, event: Event) -> None:
        self._say(f"{event['site']} answered too late and was refused")

    def _on_sent_again(self, event: Event) -> None:
        self._say(f"a message to {event['site']} was lost on its way and is sent again")

    def _on_site_ended(self, event: Event) -> None:
        self._site(event["site"])["state"] = "its process ended"

    def _on_baseline_failed(self, event: Event) -> None:
        self._say(f"baseline {event['model']} could not be trained: {event['error']}")

    def _on_done(self, event: Event) -> None:
        self._state |= {"status": event["status"], "awaited": []}
        if event.get("error"):
            self._say(str(event["error"]))
