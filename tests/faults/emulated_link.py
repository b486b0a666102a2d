"""Links between network namespaces that lose, delay, damage or hold packets, as netem does, in user space.

Each link is a pair of TUN devices, one in each namespace; this process passes packets from one to the other. The
kernel needs namespaces and TUN, but not netem, which many kernels lack. It needs root.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
"""Linux, <linux/if_tun.h>."""
_TCP = 6


@dataclass(frozen=True)
class Conditions:
    """What a link does to packets, in both directions.

    Attributes:
        loss: share that is lost.
        delay: seconds that each takes.
        damage: share in which one bit is flipped; TCP's checksum tells the receiver.
        deceit: share of those with a TCP payload in which one bit of it is flipped and the checksum made right again.
        cut: whether nothing passes.
    """

    loss: float = 0.0
    delay: float = 0.0
    damage: float = 0.0
    deceit: float = 0.0
    cut: bool = False


def find_obstacle() -> str:
    """Return why links cannot be made here, or ""."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):
        return "links need the command ip and /dev/net/tun"
    name = f"wr-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else ""


def add_namespace(name: str) -> None:
    """Make a network namespace with its own loopback."""
    call_ip("netns", "add", name)
    call_ip("-n", name, "link", "set", "lo", "up")


def remove_namespace(name: str) -> None:
    """Remove a network namespace."""
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def call_ip(*arguments: str) -> None:
    """Run the command `ip`."""
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


class Link:
    """A link between two namespaces.

    Args:
        number: makes the devices' names and addresses: 10.77.`number`.1 and .2.
        namespaces: the two ends.
        seed: of the random choice of packets.

    Attributes:
        conditions: what happens to packets from now on; may be changed at any time.
        counts: packets that passed, and that were lost, damaged and damaged without a trace.
    """

    def __init__(self, number: int, namespaces: tuple[str, str], seed: int = 0) -> None:
        self.conditions = Conditions()
        self.counts = dict.fromkeys(("passed", "lost", "damaged", "deceived"), 0)
        self._random = random.Random(seed)
        self._ends: list[int] = []
        for end, namespace in enumerate(namespaces):
            name = f"wr{os.getpid() % 100000}l{number}e{end}"
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
            self._ends.append(device)
            own, other = f"10.77.{number}.{end + 1}", f"10.77.{number}.{2 - end}"
            call_ip("link", "set", name, "netns", namespace)
            call_ip("-n", namespace, "address", "add", own, "peer", other, "dev", name)
            call_ip("-n", namespace, "link", "set", name, "up")
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the link down."""
        os.write(self._wake, b"x")
        self._thread.join(120)
        for device in (*self._ends, self._stop, self._wake):
            os.close(device)

    def _carry(self) -> None:
        """Pass packets on until the link is closed."""
        due: list[tuple[float, int, int, bytes]] = []
        numbers, other = count(), {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        while True:
            pause = max(0.0, due[0][0] - time.monotonic()) if due else None
            ready, _, _ = select.select([*self._ends, self._stop], [], [], pause)
            if self._stop in ready:
                return
            for device in ready:
                packet = self._meet(os.read(device, 65536))
                if packet:
                    when = time.monotonic() + self.conditions.delay
                    heapq.heappush(due, (when, next(numbers), other[device], packet))
            while due and due[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(due)
                with suppress(OSError):  # the device is down
                    os.write(device, packet)
                self.counts["passed"] += 1

    def _meet(self, packet: bytes) -> bytes:
        """Return what becomes of a packet; empty: it is lost."""
        now = self.conditions
        if now.cut or self._random.random() < now.loss:
            self.counts["lost"] += 1
            return b""
        if self._random.random() < now.damage:
            self.counts["damaged"] += 1
            return flip_bit(packet, self._random.randrange(20, len(packet)), self._random.randrange(8))
        start = find_payload(packet)
        if start and self._random.random() < now.deceit:
            self.counts["deceived"] += 1
            return correct_checksum(flip_bit(packet, self._random.randrange(start, len(packet)), 0))
        return packet


def flip_bit(packet: bytes, position: int, bit: int) -> bytes:
    """Return a packet with one bit changed."""
    changed = bytearray(packet)
    changed[position] ^= 1 << bit
    return bytes(changed)


def find_payload(packet: bytes) -> int:
    """Return where the payload of a TCP packet over IPv4 starts; 0: it has none, or is another packet."""
    if packet[0] >> 4 != 4 or packet[9] != _TCP:
        return 0
    start = (packet[0] & 15) * 4
    start += (packet[start + 12] >> 4) * 4
    return start if start < len(packet) else 0


def correct_checksum(packet: bytes) -> bytes:
    """Return a TCP packet over IPv4 with the checksum of its present content (RFC 9293, section 3.1)."""
    start = (packet[0] & 15) * 4
    segment = bytearray(packet[start:])
    segment[16:18] = bytes(2)
    content = packet[12:20] + struct.pack("!HH", _TCP, len(segment)) + segment + bytes(len(segment) % 2)
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    segment[16:18] = struct.pack("!H", ~total & 0xFFFF)
    return packet[:start] + bytes(segment)
