"""Real processes in network namespaces: links that lose, delay and damage packets or are cut, and a proxy's 502."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.run_folder import RunFolder
from tests.faults import emulated_link
from tests.faults.deployment import RAW, Deployment
from tests.faults.emulated_link import Conditions, Link, add_namespace, remove_namespace
from tests.faults.trial import check_hospital, check_run, run_unbroken

ROOT = Path(__file__).parents[2]
SERVER, NORTH, SOUTH = (f"wr-{os.getpid()}-{name}" for name in ("server", "north", "south"))
PROXY_PORT = 8443
CUT_SECONDS = 30.0
RUN_SECONDS = 900.0
ROUNDS = "federation.rounds=16"
"""More than the troubles take, as some pass while this process is held up."""


@dataclass
class Network:
    """Three namespaces, two links, a proxy and a deployment.

    Attributes:
        deployment: the server and the clients.
        links: by hospital.
        proxy: the file with the share of requests that the proxy answers with 502.
    """

    deployment: Deployment
    links: dict[str, Link]
    proxy: Path

    def set_conditions(self, conditions: Conditions, hospitals: tuple[str, ...] = ("north", "south")) -> None:
        """Change what the links of some hospitals do, and count anew."""
        for name in hospitals:
            self.links[name].conditions = conditions
            self.links[name].counts.update(passed=0, lost=0, damaged=0, deceived=0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if obstacle := emulated_link.find_obstacle():
        pytest.skip(obstacle)
    root = tmp_path_factory.mktemp("network")
    prefixes = {name: ["ip", "netns", "exec", space] for name, space in (("north", NORTH), ("south", SOUTH))}
    prefixes |= {name: ["ip", "netns", "exec", SERVER] for name in ("server", "run")}
    addresses = {"north": f"10.77.1.1:{PROXY_PORT}", "south": f"10.77.2.1:{PROXY_PORT}"}
    deployment = Deployment(root, prefixes=prefixes, addresses=addresses)
    links: dict[str, Link] = {}
    proxy: subprocess.Popen[bytes] | None = None
    try:
        for space in (SERVER, NORTH, SOUTH):
            add_namespace(space)
        for number, (name, space) in enumerate((("north", NORTH), ("south", SOUTH)), 1):
            links[name] = Link(number, (SERVER, space), seed=number)
        deployment.start_server()
        share = root / "share"
        share.write_text("0")
        command = [*prefixes["server"], sys.executable, "-m", "tests.faults.front_proxy", f"0.0.0.0:{PROXY_PORT}"]
        proxy = subprocess.Popen([*command, str(deployment.port), str(deployment.state), str(share)], cwd=ROOT)
        deployment.start_clients()
        yield Network(deployment, links, share)
    finally:
        left = deployment.stop()
        if proxy is not None:
            proxy.kill()
            proxy.wait()
        for link in links.values():
            link.close()
        for space in (SERVER, NORTH, SOUTH):
            remove_namespace(space)
    assert left == []


def follow(network: Network, root: Path, on_look: Callable[[int], None], *settings: str) -> Path:
    """Carry out a run; `on_look` is called again and again with the round that is going on. Return the run's folder."""
    folder, log = root / "runs", root / "run.log"
    file = network.deployment.write_config(root / "run.yaml", RAW, settings)
    process = network.deployment.start_run(log, str(file), "--runs", str(folder))
    deadline = time.monotonic() + RUN_SECONDS
    while process.poll() is None:
        assert time.monotonic() < deadline, network.deployment.describe()
        network.deployment.tend()
        done = sum(len(path.read_text().splitlines()) for path in folder.glob("*/rounds.jsonl"))
        events = list(folder.glob("*/events.jsonl"))
        if events and '"train"' in events[0].read_text():  # after the handshake
            on_look(done + 1)
        time.sleep(0.05)
    assert process.returncode == 0, log.read_text() + network.deployment.describe()
    (run,) = folder.iterdir()
    return run


def read_rounds(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFolder(run).rounds.read_text().splitlines()]


TROUBLES = {
    "loss": (Conditions(loss=0.05), "lost"),
    "delay": (Conditions(delay=0.2), "passed"),
    "damage": (Conditions(damage=0.05), "damaged"),
    "deceit": (Conditions(deceit=0.003), "deceived"),
    "502": (Conditions(), "passed"),
    "cut": (Conditions(cut=True), "lost"),
}
"""What the links do, one after another, and the count by which it is seen that they did."""


class Troubles:
    """Gives each trouble to the links for a round, and longer until it has met a packet of each link.

    Attributes:
        done: troubles that are over, with the counts of each hospital's link.
        rounds_in_cut: rounds that ended while a hospital was cut off.
    """

    def __init__(self, network: Network) -> None:
        self._network, self._names = network, list(TROUBLES)
        self._current, self._round, self._start = "", 0, 0.0
        self.done: dict[str, dict[str, dict[str, int]]] = {}
        self.rounds_in_cut = 0

    def advance(self, number: int) -> None:
        """Go on to the next trouble if the present one is over; `number` is the round that is going on."""
        if self._current and not self._is_over(number):
            return
        self._network.set_conditions(Conditions())
        self._current = self._names.pop(0) if self._names else ""
        self._network.proxy.write_text("0.3" if self._current == "502" else "0")
        if self._current:
            hospitals = ("north",) if self._current == "cut" else ("north", "south")
            self._network.set_conditions(TROUBLES[self._current][0], hospitals)
            self._round, self._start = number, time.monotonic()

    def _is_over(self, number: int) -> bool:
        links = {name: dict(link.counts) for name, link in self._network.links.items()}
        if self._current == "cut":
            self.rounds_in_cut = number - self._round
            over = time.monotonic() - self._start > CUT_SECONDS
        else:
            over = number > self._round and all(counts[TROUBLES[self._current][1]] for counts in links.values())
        if over:
            self.done[self._current] = links
        return over


@pytest.mark.processes
@pytest.mark.slow
def test_nothing_is_lost_on_a_bad_network(network: Network, tmp_path: Path) -> None:
    """A round each with losses, delays, damage, damage that TCP does not notice, 502, and a cut."""
    troubles = Troubles(network)
    try:
        run = follow(network, tmp_path, troubles.advance, ROUNDS, "federation.round_timeout=180")
    finally:
        network.set_conditions(Conditions())
        network.proxy.write_text("0")
    check_run(run, run_unbroken(RAW, tmp_path / "whole", [ROUNDS]))
    rounds = read_rounds(run)
    assert all(line["lost"] == {} for line in rounds)
    assert list(troubles.done) == list(TROUBLES)
    assert troubles.rounds_in_cut <= 1  # one whose answers had come through before
    assert max(line["seconds"] for line in rounds) > CUT_SECONDS / 2
    for name in network.deployment.names:
        check_hospital(network.deployment, name)
    print([line["seconds"] for line in rounds], troubles.done)


@pytest.mark.processes
@pytest.mark.slow
def test_no_wait_is_longer_than_its_deadline(network: Network, tmp_path: Path) -> None:
    """A hospital that stays cut off costs each round its time limit and no more, and is named; the run goes on."""
    limit = 16.0
    settings = ("federation.rounds=2", f"federation.round_timeout={limit}", "federation.on_lost=continue")

    def cut(number: int) -> None:
        network.set_conditions(Conditions(cut=True), ("north",))

    network.set_conditions(Conditions(delay=0.4), ("north",))  # so that no round is over before it is cut off
    try:
        run = follow(network, tmp_path, cut, *settings)
    finally:
        network.set_conditions(Conditions())
    rounds = read_rounds(run)
    assert [list(line["lost"]) for line in rounds] == [["north"], ["north"]]
    # a validation with the next training has twice the limit, and the last validation once more
    assert all(line["seconds"] < 4 * limit for line in rounds)
    assert "north" in json.loads(RunFolder(run).outcome.read_text())["partial"]
    network.deployment.wait_until(network.deployment.all_online, "north is back")


def test_a_corrected_checksum_is_right() -> None:
    """The receiver adds all words of pseudo-header and segment, checksum included, and must get all ones."""
    header = bytes([0x45, 0, 0, 45, 0, 0, 0, 0, 64, 6, 0, 0, 10, 77, 1, 1, 10, 77, 1, 2])
    segment = bytes([0x1F, 0x90, 0xC0, 0x01, *range(8), 0x50, 0x18, 1, 0, 0xAA, 0xBB, 0, 0]) + b"hello"
    packet = emulated_link.correct_checksum(header + segment)
    assert emulated_link.find_payload(packet) == 40
    words = packet[12:20] + bytes([0, 6, 0, 25]) + packet[20:] + b"\0"
    total = sum(int.from_bytes(words[index : index + 2]) for index in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    damaged = emulated_link.flip_bit(packet, 41, 3)
    assert [a ^ b for a, b in zip(packet, damaged, strict=True) if a != b] == [8]
    assert emulated_link.find_payload(header + segment[:20]) == 0
