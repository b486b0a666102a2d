"""The canary: a trial request to all sites before a long run, without training, charges or releases.

Each site is asked twice: who it is and what of the run it would refuse; then, with the first weights of the model, how
long a step on random inputs takes. The answers are in canary.json in the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flwr.serverapp import Grid

from common import models
from common.arrays import Weights
from common.config import RunConfig
from common.errors import ConfigError, WardroundError
from common.files import append_json_line, write_json
from common.messages import build_messages
from common.replies import CanaryReply
from common.requests import CanaryRequest, Method
from common.run_folder import RunFolder
from common.task import Task
from server import strategies
from server.events import Event, Listener, WaitingEvent
from server.exchange import AWAIT_SECONDS, Expected, Step, send_and_collect
from server.hospital_level import choose_strategy
from server.initial_model import build_initial_model
from server.phases.handshake import SETTLE_SECONDS, find_name_fault
from server.run import ReadNames

ABSENT_SECONDS = 30.0
"""How long a canary waits for sites that are not connected: a client that runs asks at least every 10 s."""


def is_canary(out: Path) -> bool:
    """Return whether a run folder was made for a canary: it then holds an empty answer."""
    return RunFolder(out).canary.is_file()


def run_canary(
    grid: Grid,
    config: RunConfig,
    out: Path,
    listen: Callable[[dict[str, object]], None] | None = None,
    read_names: ReadNames = lambda: None,
) -> None:
    """Ask every site what it would do in a run, and write the answers into a run folder.

    Args:
        grid: Flower's grid, which carries messages to the nodes.
        config: the run.
        out: the run folder.
        listen: function that receives each event as its line of events.jsonl.
        read_names: as in `server.phases.handshake.run_handshake`.

    Raises:
        WardroundError: as `ask_sites`; server.done holds the same line.
    """

    def record(event: Event) -> None:
        line = {"time": round(time.time(), 3), **event.to_dict()}
        append_json_line(RunFolder(out).events, line)
        if listen:
            listen(line)

    status, error = "failed", "stopped before the end"
    try:
        write_json(RunFolder(out).canary, ask_sites(grid, config, record, read_names))
        status, error = "complete", ""
    except WardroundError as problem:
        error = str(problem)
        raise
    finally:
        write_json(RunFolder(out).server_done, {"status": status, "error": error or None})


def ask_sites(grid: Grid, config: RunConfig, listen: Listener, read_names: ReadNames) -> dict[str, object]:
    """Return what every site would do in a run, JSON-ready.

    Returns:
        `sites`: by site what it stated; `missing`: by site why it stated nothing usable; `problems`: what concerns all.

    Raises:
        ConfigError: the strategy or the first weights do not fit.
    """
    strategies.check_strategy(config)
    nodes, missing = wait_for_nodes(grid, config, listen, read_names)
    registered = read_names()
    replies, lost, names = _ask(grid, config, nodes, registered or {}, listen, CanaryRequest(config, 0), registered)
    missing |= lost
    reports = {site: reply.report for site, reply in replies.items()}
    tasks = {site: report.task for site, report in reports.items()}
    problems = find_problems(config, tasks)
    if tasks and not problems:
        task = next(iter(tasks.values()))
        weights, method = prepare_first_round(config, task)
        proximal = float(getattr(choose_strategy(config), "proximal_mu", 0.0))
        request = CanaryRequest(config, 1, weights, method=method, proximal=proximal)
        again, lost, _ = _ask(grid, config, list(names), names, listen, request, registered)
        missing |= lost
        # how long opening the data took shows in the first answer alone: now they are open
        first = {site: reply.report.load_seconds for site, reply in replies.items()}
        reports = {
            site: reply.report.model_copy(update={"load_seconds": first[site]})
            for site, reply in again.items()
            if site in first
        }
    return {
        "sites": {site: report.to_dict() for site, report in sorted(reports.items())},
        "missing": dict(sorted(missing.items())),
        "problems": problems,
    }


def wait_for_nodes(
    grid: Grid, config: RunConfig, listen: Listener, read_names: ReadNames
) -> tuple[list[int], dict[str, str]]:
    """Return the nodes that are there, after waiting for all that are known, and why known sites are missing.

    Nothing is waited for where the server has registered sites and a wanted one is not among them.
    """
    limit, start = min(config.federation.connect_timeout, ABSENT_SECONDS), time.monotonic()
    fixed = bool(getattr(grid, "fixed_nodes", False))
    next_report, count, changed = start, -1, start
    while True:
        online, registered = sorted(grid.get_node_ids()), read_names() or {}
        wanted = set(config.federation.expect)
        known = {node: name for node, name in registered.items() if not wanted or name in wanted}
        absent = {name for node, name in known.items() if node not in online}
        unregistered = wanted - set(registered.values()) if registered else set()
        now = time.monotonic()
        if len(online) != count:
            count, changed = len(online), now
        need = len(wanted) if not registered else len(known)
        enough = len(online) >= max(need, 1 if unregistered else config.federation.min_sites, 1) and not absent
        if (enough and (fixed or need or now - changed >= SETTLE_SECONDS)) or fixed or now - start > limit:
            break
        if now >= next_report:
            next_report = now + max(AWAIT_SECONDS, now - start)
            gone = tuple(sorted(absent))
            listen(WaitingEvent(len(online), 0, max(need, 1), (), gone, round(now - start), round(limit)))
        time.sleep(min(0.5, limit / 4))
    reasons = dict.fromkeys(absent, f"did not connect within {limit:g} s")
    reasons |= {name: f"is not registered: wardround server register {name} {name}.pub" for name in unregistered}
    return online, dict(sorted(reasons.items()))


def find_problems(config: RunConfig, tasks: Mapping[str, Task]) -> list[str]:
    """Return the reasons why a run could not start, such as too few sites or sites with different tasks.

    Args:
        config: the run.
        tasks: the task of each site that answered.
    """
    need = max(config.federation.min_sites, len(config.federation.expect), 1)
    problems = [f"{len(tasks)} of {need} sites answered"] if len(tasks) < need else []
    if missing := sorted({*config.federation.expect, *config.sites.external} - set(tasks)):
        problems.append(f"the configuration names {', '.join(missing)}, which did not answer")
    by_print: dict[str, list[str]] = {}
    for site, task in sorted(tasks.items()):
        by_print.setdefault(task.fingerprint(), []).append(site)
    if len(by_print) > 1:
        sides = " against ".join(", ".join(sites) for sites in by_print.values())
        problems.append(f"the sites hold different tasks: {sides}; give them the same data options and version")
    return problems


def prepare_first_round(config: RunConfig, task: Task) -> tuple[Weights, Method]:
    """Return the weights that the first round sends, and how the strategy makes sites train.

    Raises:
        ConfigError: they do not fit the configuration.
    """
    initial = build_initial_model(config, task)
    weights = {name: value.detach().numpy().copy() for name, value in initial.model.state_dict().items()}
    model = models.build_model(task, config.model, config.seed)
    return weights, strategies.build_method(config.federation.strategy, model)


def _ask(
    grid: Grid,
    config: RunConfig,
    nodes: list[int],
    names: Mapping[int, str],
    listen: Listener,
    request: CanaryRequest,
    registered: Mapping[int, str] | None,
) -> tuple[dict[str, CanaryReply], dict[str, str], dict[int, str]]:
    """Return the replies by site, why others gave none, and the site at each node that answered."""

    def find_fault(reply: CanaryReply, node: int) -> str:
        return find_name_fault(reply.site, node, registered)

    outgoing = build_messages(request, nodes)
    step = Step("canary", request.round, len(nodes))
    answers, lost = send_and_collect(
        grid, outgoing, names, config.federation.connect_timeout, listen, step, Expected(CanaryReply, find_fault)
    )
    sites = {message.metadata.src_node_id: reply.site for message, reply in answers.values()}
    if len(set(sites.values())) < len(sites):
        raise ConfigError("two nodes call themselves by one name: give each site its own name")
    return {reply.site: reply for _, reply in answers.values()}, lost, sites
