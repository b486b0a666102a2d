"""docs/how-to/deploy.md, executed to the letter: real users, nginx, TLS, MIT-BIH, and one kill of each part."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.page import read_blocks

ROOT = Path(__file__).resolve().parents[2]
KILLED = {
    "wardround-worker@north", "wardround-client@east", "wardround-proxy", "server app", "SuperLink",
    "wardround-server", "wardround server", "wardround run",
}  # fmt: skip
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_isolate() -> bool:
    """Return whether this user may make users, mounts and networks of their own, which the system then forgets."""
    tools = ("unshare", "nsenter", "setpriv", "runuser", "useradd", "ip", "curl", "systemd-analyze")
    if os.geteuid() != 0 or not all(shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") for tool in tools):
        return False
    layer = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && mount -t overlay overlay -o " + (
        "lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc && unshare --net ip link set lo up"
    )
    return subprocess.run([*NAMESPACES, "sh", "-c", layer], capture_output=True, check=False).returncode == 0


def test_the_page_has_the_blocks_that_are_followed() -> None:
    blocks = read_blocks()
    assert [(heading, len(block)) for heading, block in blocks.items()] == [
        ("Install the program on every machine", 1),
        ("Set up the coordinator", 3),
        ("Set up a hospital", 3),
        ("Admit the hospital", 1),
        ("Start the hospital", 1),
        ("Run", 1),
        ("Resume a run", 1),
        ("Upgrade", 3),
        ("Take it down", 2),
    ]


@pytest.mark.nginx
@pytest.mark.processes
@pytest.mark.realdata
@pytest.mark.slow
def test_the_page_is_followed_to_the_letter_and_each_part_is_killed_once(mitdb_folder: Path, nginx: str) -> None:
    """Short: packages of this environment under /opt. WARDROUND_DEPLOY=long: pip installs all of them."""
    if not can_isolate():
        pytest.skip("needs root, and namespaces in which the page's users and files exist alone")
    mode = "long" if os.environ.get("WARDROUND_DEPLOY") == "long" else "short"
    words = [str(ROOT), sys.prefix, str(mitdb_folder.resolve()), mode]
    result = subprocess.run(
        [*NAMESPACES, sys.executable, str(ROOT / "tests" / "deploy" / "follow_page.py"), *words],
        capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr[-20000:]}"
    print(result.stdout)
    events = {event["what"]: event for event in map(json.loads, result.stdout.splitlines())}
    assert {f"killed {part}" for part in KILLED} <= set(events)
    assert events["end"]["missed"] == []
    assert (events["run"]["status"], events["run"]["rounds"], events["run"]["report"]) == ("complete", 5, True)
    assert events["afterwards"]["orphans"] == {}
    assert events["afterwards"]["running"] == []
