"""The handshake before round 1: who is there, what does each hold, and do they all have the same task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from flwr.serverapp import Grid

from common.config import RunConfig
from common.errors import ConfigError, EngineError
from common.messages import build_messages
from common.replies import HandshakeReply
from common.reports import HandshakeReport
from common.requests import HandshakeRequest
from common.task import Task
from server.events import Listener, WaitingEvent
from server.exchange import AWAIT_SECONDS, Expected, Step, send_and_collect
from server.losses import NOT_NAMED
from server.pending_approvals import PendingApprovals
from server.run import Federation, ReadNames

SETTLE_SECONDS = 5.0
"""Seconds to wait for further sites when none was named and enough are there."""
ANSWER_SECONDS = 60.0
"""Seconds that a hospital has for an answer when it is asked again."""


def run_handshake(
    grid: Grid,
    config: RunConfig,
    listen: Listener,
    read_names: ReadNames = lambda: None,
    resumed: Federation | None = None,
) -> tuple[Federation, dict[str, str]]:
    """Wait for the sites, ask each for its task and counts, and refuse to start where they disagree.

    The run waits for every site that it knows of (named in `federation.expect`, registered, or there before it was
    resumed) until `federation.connect_timeout`, so that a slow site is not left out. Without those named it starts.

    Args:
        grid: Flower's grid, which carries messages to the nodes.
        config: the run.
        listen: function that receives each event.
        read_names: the names that node keys were registered by; a site that calls itself otherwise is refused.
        resumed: the run's id and what its sites stated when it began, of a run that is resumed: it goes on with these
            sites alone.

    Returns:
        the sites that take part, and those that do not, with the reason in one line. Of a run that is resumed, sites
        that are not there yet are among both: they may come back (`readmit_sites`).

    Raises:
        EngineError: too few sites came, or a named one did not.
        ConfigError: no task is held by more than half of the sites, or two have one name.
    """
    federation = resumed or Federation()
    earlier = federation.earlier
    limit = config.federation.connect_timeout
    wanted = set(config.federation.expect)
    need = max(config.federation.min_sites, len(wanted), 1)
    fixed_nodes = bool(getattr(grid, "fixed_nodes", False))
    start = last_change = time.monotonic()
    refused: dict[str, str] = {}
    reported: tuple[int, int, tuple[str, ...]] | None = None
    next_report = 0.0
    approvals = PendingApprovals(start + config.federation.approval_timeout)
    while True:
        registered = read_names()
        online = sorted(grid.get_node_ids())
        # Ray's nodes register one after another; when all have, none comes or goes
        fixed = fixed_nodes or (config.federation.engine == "ray" and len(online) >= need)
        if again := approvals.take_due(time.monotonic()):
            federation.contacted -= again
        fresh = [node for node in online if node not in federation.contacted]
        if fresh:
            # simulated sites are there from the start, and their first answer takes as long as reading the data
            rest = config.federation.round_timeout if fixed else start + limit - time.monotonic()
            left = max(1.0, rest, ANSWER_SECONDS if again else 0.0)
            refused |= _ask_nodes(grid, config, federation, fresh, left, listen, registered)
            refused = {site: why for site, why in refused.items() if site not in federation.reports}
            approvals.update(refused, set(fresh), set(federation.names), registered, time.monotonic())
            last_change = time.monotonic()
        now = time.monotonic()
        pending = approvals.list_sites(now)
        known = wanted or set(earlier or (registered or {}).values())
        absent = known - set(federation.reports)
        late = (now > start + limit or (fixed and not fresh)) and not pending
        stable = bool(known) or fixed or now - last_change >= SETTLE_SECONDS
        missing = wanted & absent
        enough = len(federation.reports) >= need and not missing and not pending
        if enough and (late or (stable and not absent - set(refused))):
            break
        if late or missing & (set(refused) - set(pending)):
            raise EngineError(_describe_failure(federation, need, missing, refused, len(online), limit))
        if reported != (state := (len(online), len(federation.reports), pending)) or now > next_report:
            reported, next_report = state, now + max(AWAIT_SECONDS, now - start)
            gone = tuple(sorted(absent - set(refused)))
            listen(WaitingEvent(*state[:2], need, pending, gone, round(now - start), round(limit)))
        time.sleep(min(0.5, limit / 4))
    refused |= dict.fromkeys(absent - set(refused), f"did not connect within {limit:g} s")
    for site in sorted(set(federation.reports) - wanted if wanted else ()):
        del federation.reports[site]
        refused[site] = NOT_NAMED
    federation.names = {node: name for node, name in federation.names.items() if name in federation.reports}
    federation.reports |= earlier or {}
    federation.absent = {site: why for site, why in refused.items() if site in federation.reports}
    if unknown := sorted(set(config.sites.external) - set(federation.reports)):
        there = ", ".join(sorted(federation.reports))
        raise ConfigError(f"sites.external: {unknown[0]} is not in the federation, which has {there}")
    federation.external = frozenset(config.sites.external)
    federation.task, others = _agree_on_task(federation, need, wanted)
    for site in others:
        del federation.reports[site]
        refused[site] = "it holds another task than most sites: give it the same data options and version"
    federation.names = {node: name for node, name in federation.names.items() if name in federation.reports}
    return federation, refused


def readmit_sites(
    grid: Grid, config: RunConfig, federation: Federation, listen: Listener, read_names: ReadNames
) -> dict[str, str]:
    """Ask nodes that are new whether they are sites that are missing; return who is refused, and why.

    A site whose node was only offline is known and not asked. Nobody is asked while every site is there.
    """
    online = set(grid.get_node_ids())
    there = {name for node, name in federation.names.items() if node in online}
    federation.contacted &= online  # a node that was gone is asked again
    fresh = sorted(online - federation.contacted - set(federation.names))
    if not fresh or there >= set(federation.reports):
        return {}
    known = Federation(earlier=federation.reports, contacted=federation.contacted, id=federation.id)
    refused = _ask_nodes(grid, config, known, fresh, config.federation.connect_timeout, listen, read_names())
    back = {node: name for node, name in known.names.items() if name not in there}
    federation.names = {node: name for node, name in federation.names.items() if name not in back.values()} | back
    federation.absent |= {site: why for site, why in refused.items() if site in federation.reports}
    for site in back.values():
        federation.absent.pop(site, None)
    return refused


def _describe_failure(
    federation: Federation,
    need: int,
    missing: set[str],
    refused: Mapping[str, str],
    online: int,
    limit: float,
) -> str:
    ready = len(federation.reports)
    who = f"missing {', '.join(sorted(missing))}" if missing else f"{ready} of {need} sites came"
    why = "; ".join(f"{site}: {text}" for site, text in sorted(refused.items()))
    if not online and not refused:
        why = f"no site is connected after {limit:g} s"
    return f"the run cannot start: {who}" + (f" ({why})" if why else "")


def _ask_nodes(
    grid: Grid,
    config: RunConfig,
    federation: Federation,
    nodes: Sequence[int],
    seconds: float,
    listen: Listener,
    registered: Mapping[int, str] | None,
) -> dict[str, str]:
    """Send some nodes the handshake; fill `federation`, return who is refused and why."""
    federation.contacted |= set(nodes)

    def find_fault(reply: HandshakeReply, node: int) -> str:
        return (
            find_name_fault(reply.site, node, registered)
            or find_handshake_fault(reply)
            or find_changed_statement(reply, federation.earlier)
        )

    expected = Expected(HandshakeReply, find_fault)
    outgoing = build_messages(HandshakeRequest(config, federation.id), nodes)
    answers, lost = send_and_collect(grid, outgoing, registered or {}, seconds, listen, Step("handshake"), expected)
    for answer, reply in answers.values():
        if reply.site in federation.reports:
            raise ConfigError(f"two nodes call themselves {reply.site}: give each site its own name")
        federation.names[answer.metadata.src_node_id] = reply.site
        federation.reports[reply.site] = reply.report
    return lost


def find_name_fault(name: str, node: int, registered: Mapping[int, str] | None) -> str:
    """Return why a node may not call itself by a name, or "".

    Args:
        name: what it calls itself.
        node: its id, which its key decides.
        registered: the site that each node's key was registered for; None: no registry is kept.
    """
    if registered is None:
        return ""
    if node not in registered:
        return f"it calls itself {name}, but its key is registered for no site: wardround server register"
    if name != registered[node]:
        return f"it calls itself {name}, but its key is registered for {registered[node]}"
    return ""


def find_handshake_fault(reply: HandshakeReply) -> str:
    """Return what is wrong with what a site states of itself, or ""."""
    report, task = reply.report, reply.report.task
    for split in ("train", "validation", "test"):
        counts = report.counts.select_split(split)
        stated = [count for count in counts.classes if count is not None]
        if task.kind == "multilabel":
            fits = max(stated, default=0) <= counts.examples
        else:
            fits = counts.examples == sum(stated)
        if len(counts.classes) != len(task.classes) or not fits:
            return f"its {split} counts do not fit its classes"
        if counts.patients > counts.examples or (counts.examples and not counts.patients):
            return f"its {split} counts are of {counts.patients} patients with {counts.examples} examples"
    if None in report.counts.train.classes:
        return "its train counts do not state every class"
    return "" if report.fingerprint == task.fingerprint() else "its fingerprint is not its task's"


def find_changed_statement(reply: HandshakeReply, earlier: Mapping[str, HandshakeReport] | None) -> str:
    """Return why a site cannot go on in a run that is resumed, or "".

    Args:
        reply: what it states now.
        earlier: what the sites stated when the run began; None: the run begins now.
    """
    if earlier is None:
        return ""
    if reply.site not in earlier:
        return "the run began without it"
    before, now = earlier[reply.site], reply.report
    names = ("fingerprint", "counts", "synthetic", "split", "noisy", "max_bins", "count_grain")
    changed = [name for name in names if getattr(before, name) != getattr(now, name)]
    return f"it states other {changed[0]} than when the run began: its data or policy changed" if changed else ""


def _agree_on_task(federation: Federation, need: int, wanted: AbstractSet[str]) -> tuple[Task, list[str]]:
    """Return the task that more than half of the sites hold, and the sites that hold another.

    Raises:
        ConfigError: no task is held by so many, or the run cannot start without the others.
    """
    sites_by_print: dict[str, list[str]] = {}
    for site, report in sorted(federation.reports.items()):
        sites_by_print.setdefault(report.fingerprint, []).append(site)
    most = max(sites_by_print.values(), key=len)
    others = sorted(set(federation.reports) - set(most))
    if others and (len(most) <= len(others) or len(most) < need or set(others) & wanted):
        sides = " against ".join(", ".join(sites) for sites in sites_by_print.values())
        raise ConfigError(f"the sites hold different tasks: {sides}; give them the same data options and version")
    return federation.reports[most[0]].task, others
