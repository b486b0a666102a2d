"""The handshake before round 1: who is there, what does each hold, and do they all speak of the same task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from common import messages
from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.messages import Reply, Request
from common.task import Task
from server.exchange import Listener, send_and_collect
from server.run import Federation

SETTLE_SECONDS = 5.0
"""Seconds to wait for further sites when none was named and enough are there."""


def run_handshake(grid: Grid, config: RunConfig, listen: Listener) -> tuple[Federation, dict[str, str]]:
    """Wait for the sites, ask each for its task and counts, and refuse to start where they disagree.

    Returns:
        the sites that take part, and those that answered but do not, with the reason in one line.

    Raises:
        EngineError: too few sites came, or a named one did not.
        ConfigError: the sites hold different tasks, or two have one name.
    """
    federation = Federation()
    limit = config.federation.connect_timeout
    wanted = set(config.federation.expect)
    need = max(config.federation.min_sites, len(wanted), 1)
    fixed = bool(getattr(grid, "fixed_nodes", False))
    settle = 0.0 if fixed else SETTLE_SECONDS
    began = settled = time.monotonic()
    refused: dict[str, str] = {}
    asked: set[int] = set()
    told: tuple[int, int] | None = None
    while True:
        online = sorted(grid.get_node_ids())
        fresh = [node for node in online if node not in asked]
        if fresh:
            asked |= set(fresh)
            left = max(1.0, began + limit - time.monotonic())
            refused |= _greet(grid, config, federation, fresh, left, listen)
            settled = time.monotonic()
        now = time.monotonic()
        late = now > began + limit
        missing = wanted - set(federation.hello)
        if len(federation.hello) >= need and not missing and (wanted or late or now - settled >= settle):
            break
        if late or missing & set(refused) or (fixed and not fresh):
            raise EngineError(_cannot_start(federation, need, missing, refused, len(online), limit))
        if told != (len(online), len(federation.hello)):
            told = len(online), len(federation.hello)
            listen({"event": "connect", "online": told[0], "ready": told[1], "need": need})
        time.sleep(min(0.5, limit / 4))
    for site in sorted(set(federation.hello) - wanted if wanted else ()):
        del federation.hello[site]
        refused[site] = "not named in federation.expect"
    federation.names = {node: name for node, name in federation.names.items() if name in federation.hello}
    if unknown := sorted(set(config.sites.external) - set(federation.hello)):
        there = ", ".join(sorted(federation.hello))
        raise ConfigError(f"sites.external: {unknown[0]} is not in the federation, which has {there}")
    federation.external = frozenset(config.sites.external)
    _agree(federation)
    return federation, refused


def _cannot_start(
    federation: Federation,
    need: int,
    missing: set[str],
    refused: Mapping[str, str],
    online: int,
    limit: float,
) -> str:
    ready = len(federation.hello)
    who = f"missing {', '.join(sorted(missing))}" if missing else f"{ready} of {need} sites came"
    why = "; ".join(f"{site}: {text}" for site, text in sorted(refused.items()))
    if not online and not refused:
        why = f"no site is connected after {limit:g} s"
    return f"the run cannot start: {who}" + (f" ({why})" if why else "")


def _greet(
    grid: Grid, config: RunConfig, federation: Federation, nodes: Sequence[int], left: float, listen: Listener
) -> dict[str, str]:
    """Ask some nodes who they are; fill `federation`, return who refused and why."""
    content = messages.pack_request(Request("hello", config))
    outgoing = [Message(content, node, messages.MESSAGE_TYPES["hello"]) for node in nodes]
    answers, lost = send_and_collect(grid, outgoing, {}, left, listen, {"phase": "hello", "round": 0}, _check)
    for answer, reply in answers.values():
        if reply.site in federation.hello:
            raise ConfigError(f"two nodes call themselves {reply.site}: give each site a name of its own")
        federation.names[answer.metadata.src_node_id] = reply.site
        federation.hello[reply.site] = reply.report
    return lost


def _check(reply: Reply) -> str:
    """Return what is wrong with a hello; a KeyError or the like says so too."""
    task = Task.from_dict(dict(reply.report["task"]))
    for split in ("train", "validation", "test"):
        counts = reply.report["counts"][split]
        told = [n for n in counts["classes"] if n is not None]
        if task.kind == "multilabel":
            fits = max(told, default=0) <= counts["examples"]
        else:
            fits = counts["examples"] == sum(told)
        if len(counts["classes"]) != len(task.classes) or not fits:
            return f"its {split} counts do not fit its classes"
    return "" if reply.report["fingerprint"] == task.fingerprint() else "its fingerprint is not its task's"


def _agree(federation: Federation) -> None:
    prints: dict[str, list[str]] = {}
    for site, said in sorted(federation.hello.items()):
        prints.setdefault(str(said["fingerprint"]), []).append(site)
    if len(prints) > 1:
        sides = " against ".join(", ".join(sites) for sites in prints.values())
        raise ConfigError(f"the sites hold different tasks: {sides}; give them the same data options and version")
    federation.task = Task.from_dict(dict(next(iter(federation.hello.values()))["task"]))
