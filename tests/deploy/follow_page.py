"""Follow docs/how-to/deploy.md to the letter, in namespaces of its own, and kill each part once while a run goes on.

Run as root by test_deploy_page.py, under `unshare --mount --pid --fork --mount-proc`: files, users, processes and
network that the page makes exist in here alone and are gone afterwards. `systemctl` is the stand-in of this folder.
Prints what happened as JSON lines.

    follow_page.py CHECKOUT ENVIRONMENT RECORDINGS short|long
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

CHECKOUT, ENVIRONMENT, RECORDINGS = (Path(word) for word in sys.argv[1:4])
sys.path.insert(0, str(CHECKOUT))

import psutil  # noqa: E402

from tests.deploy import systemctl  # noqa: E402
from tests.deploy.page import read_blocks  # noqa: E402

LONG = sys.argv[4] == "long"
SCRATCH = Path("/mnt")
SITES = ("north", "east", "west")
PROGRAM = "/opt/wardround/bin/wardround"
START = time.monotonic()
_NEW_NETWORK = 0x40000000
"""Linux, <sched.h>: CLONE_NEWNET."""
BLOCKS = read_blocks()
executed: set[tuple[str, int]] = set()
outer_network = os.open("/proc/self/ns/net", os.O_RDONLY)


def report(what: str, **values: object) -> None:
    print(json.dumps({"seconds": round(time.monotonic() - START, 1), "what": what, **values}), flush=True)


def call(*words: str) -> str:
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
    if result.returncode:
        raise SystemExit(f"{' '.join(words)}: status {result.returncode}: {result.stderr[-3000:]}")
    return result.stdout


def prepare() -> None:
    """Lay a layer over the folders that the page writes to, and put the stand-in into the search path.

    The short mode has the packages of the test's own environment under /opt/wardround, so that pip installs this
    program and nothing else; the long mode installs all of them.
    """
    call("mount", "-t", "tmpfs", "tmpfs", str(SCRATCH))
    for folder in ("/etc", "/var", "/opt", "/root", "/srv"):
        upper, work = (SCRATCH / f"{folder[1:]}.{kind}" for kind in ("upper", "work"))
        upper.mkdir(mode=0o755)
        work.mkdir()
        call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder)
    for folder in ("/tmp", "/run"):
        call("mount", "-t", "tmpfs", "-o", "mode=1777" if folder == "/tmp" else "mode=755", "tmpfs", folder)
    tools = Path("/run/tools")
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\nexec {sys.executable} {CHECKOUT}/tests/deploy/systemctl.py "$@"\n')
    (tools / "systemctl").chmod(0o755)
    os.environ["PATH"] = f"{tools}:{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/root"
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(name, None)
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 fl.example.org\n")
    Path("/srv/mitdb").symlink_to("/mnt/mitdb")
    (SCRATCH / "mitdb").mkdir()
    call("mount", "--bind", str(RECORDINGS), str(SCRATCH / "mitdb"))
    for leftover in ("/var/lib/wardround-server", "/etc/wardround", "/opt/wardround"):
        if Path(leftover).exists():
            raise SystemExit(f"{leftover} exists on this machine already")
    if not LONG:
        lend_packages()


def lend_packages() -> None:
    own = next((ENVIRONMENT / "lib").glob("python3.*/site-packages"))
    target = Path("/opt/wardround") / own.relative_to(ENVIRONMENT)
    target.mkdir(parents=True)
    upper, work = SCRATCH / "packages.upper", SCRATCH / "packages.work"
    upper.mkdir(mode=0o755)
    work.mkdir()
    call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={own},upperdir={upper},workdir={work}", str(target))
    programs = Path("/opt/wardround/bin")
    programs.mkdir()
    for script in [path for pattern in ("fl*", "pip*") for path in (ENVIRONMENT / "bin").glob(pattern)]:
        text = script.read_text()
        (programs / script.name).write_text(text.replace(str(ENVIRONMENT / "bin"), str(programs)))
        (programs / script.name).chmod(0o755)


def isolate_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise SystemExit("no network namespace of one's own")
    call("ip", "link", "set", "lo", "up")


def start_block(heading: str, number: int, site: str = "north", output: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a block of the page as it stands there; for another hospital with its name."""
    executed.add((heading, number))
    text = BLOCKS[heading][number].replace("SITE=north", f"SITE={site}")
    network = ["nsenter", f"--net=/proc/self/fd/{outer_network}"] if "pip install" in text else []
    log = (output or SCRATCH / "output").open("ab")
    return subprocess.Popen(
        [*network, "bash", "-euo", "pipefail", "-c", text], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log,
        stderr=subprocess.STDOUT, pass_fds=(outer_network,),
    )  # fmt: skip


def follow(heading: str, sites: Sequence[str] = ("north",), numbers: Sequence[int] | None = None) -> None:
    """Execute the blocks under a heading, for each site in turn."""
    for site in sites:
        for number in numbers if numbers is not None else range(len(BLOCKS[heading])):
            output = SCRATCH / "output"
            output.unlink(missing_ok=True)
            if status := start_block(heading, number, site, output).wait(1200):
                end = output.read_text()[-3000:]
                raise SystemExit(f"block {number + 1} of {heading!r} ({site}): {status}: {end}")
    report(heading, sites=list(sites))


def wait_for(what: str, ready: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s for: {what}")
        time.sleep(0.1)


def count_rounds() -> int:
    """Return how many rounds the newest run has completed."""
    files = sorted(Path("/var/lib/wardround-server/runs").glob("*/rounds.jsonl"), key=lambda path: path.stat().st_mtime)
    rounds = [json.loads(line).get("round") for line in files[-1].read_text().splitlines()] if files else []
    return max((number for number in rounds if number), default=0)


def list_nodes() -> dict[str, str]:
    words = ("runuser", "-u", "wardround-server", "--", PROGRAM, "server", "nodes", "--json")
    result = subprocess.run([*words, "--state", "/var/lib/wardround-server/state"], capture_output=True, text=True,
                            cwd="/var/lib/wardround-server", check=False)  # fmt: skip
    return dict(json.loads(result.stdout)) if result.returncode == 0 else {}


def kill_unit(name: str) -> None:
    """Kill the first process of a unit, and wait until its service has started it again."""
    before = systemctl.read_state(name)
    os.kill(int(str(before["main"])), signal.SIGKILL)
    starts = int(str(before["starts"]))
    wait_for(f"{name} again", lambda: is_ready(name, starts + 1))
    report(f"killed {name}", rounds=count_rounds())


def is_ready(name: str, starts: int) -> bool:
    state = systemctl.read_state(name)
    return int(str(state.get("starts", 0))) >= starts and state.get("status") == "ready"


def find_processes(user: str, word: str) -> list[psutil.Process]:
    number, actual = pwd.getpwnam(user).pw_uid, []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == number and any(word in part for part in process.cmdline()):
                actual.append(process)
    return actual


def run_and_kill() -> None:
    """Run the page's experiment; kill each part once, and resume the run where it ended."""
    output = SCRATCH / "run"
    run = start_block("Run", 0, output=output)
    wait_for("the first round", lambda: count_rounds() >= 1 or require_running(run, output))
    kill_unit("wardround-worker@north")
    kill_unit("wardround-client@east")
    kill_unit("wardround-proxy")
    wait_for("another round", lambda: count_rounds() >= 2 or require_running(run, output))
    for part in (kill_server_app, kill_superlink, kill_server, kill_run):
        run = part(run)
    if status := run.wait(1200):
        raise SystemExit(f"the run ended with {status}: {output.read_text()[-3000:]}")
    (folder,) = Path("/var/lib/wardround-server/runs").iterdir()
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    about = json.loads((folder / "run.json").read_text())
    report(
        "run",
        status=about["status"],
        rounds=len([each for each in rounds if each.get("round")]),
        partial=about.get("partial"),
        report=(folder / "report.json").is_file(),
        output=output.read_text()[-1500:],
    )


def require_running(run: subprocess.Popen[bytes], output: Path) -> bool:
    if run.poll() is not None:
        raise SystemExit(f"the run ended with {run.returncode}: {output.read_text()[-3000:]}")
    return False


def resume(run: subprocess.Popen[bytes], what: str) -> subprocess.Popen[bytes]:
    """Wait for the end of a run that lost a part, and resume it as the page says."""
    wait_for(f"the end of the run after {what}", lambda: run.poll() is not None)
    rounds = count_rounds()
    if rounds >= 5:
        raise SystemExit(f"the run was complete before {what} was killed")
    wait_for("the server", lambda: is_ready("wardround-server", 1) and list_nodes())
    report(f"killed {what}", status=run.returncode, rounds=rounds)
    return start_block("Resume a run", 0, output=SCRATCH / "run")


def kill_server_app(run: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    for process in find_processes("wardround-server", "flwr-serverapp"):
        process.kill()
    return resume(run, "server app")


def wait_until_in_round(run: subprocess.Popen[bytes]) -> None:
    before = time.time()
    folder = next(Path("/var/lib/wardround-server/runs").iterdir())
    wait_for("the run to go on", lambda: (folder / "events.jsonl").stat().st_mtime > before + 1
             or require_running(run, SCRATCH / "run"))  # fmt: skip


def kill_superlink(run: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    wait_until_in_round(run)
    starts = int(str(systemctl.read_state("wardround-server")["starts"]))
    for process in find_processes("wardround-server", "flower-superlink"):
        process.kill()
    wait_for("the server again", lambda: is_ready("wardround-server", starts + 1))
    return resume(run, "SuperLink")


def kill_server(run: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    wait_until_in_round(run)
    kill_unit("wardround-server")
    return resume(run, "wardround server")


def kill_run(run: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    wait_until_in_round(run)
    for process in find_processes("wardround-server", "--resume"):
        process.kill()
    return resume(run, "wardround run")


def check_separation() -> None:
    """Check that no part can read what belongs to another, and that the proxy passes no control call."""
    for user, path in (
        ("ward-north-net", "/srv/ecg/north/RECORDS"),
        ("ward-east-data", "/srv/ecg/north/RECORDS"),
        ("wardround-proxy", "/var/lib/wardround-server/state/ca.key"),
        ("ward-north-data", "/etc/wardround/north/node.key"),
        ("ward-north-net", "/var/lib/wardround-worker-north"),
        ("wardround-server", "/var/lib/wardround-proxy/proxy.key"),
    ):
        result = subprocess.run(["runuser", "-u", user, "--", "ls", "-l", path], capture_output=True, check=False)
        can_read = subprocess.run(["runuser", "-u", user, "--", "head", "-c1", path], capture_output=True, check=False)
        if can_read.returncode == 0 or (Path(path).is_dir() and result.returncode == 0):
            raise SystemExit(f"{user} can read {path}")
    for unit in ("wardround-server", "wardround-proxy", "wardround-client@north", "wardround-worker@north"):
        main, state = str(systemctl.read_state(unit)["main"]), f"/var/lib/{unit.replace('@', '-')}"
        for folder, writable in ((state, True), ("/var/lib", False), ("/etc", False), ("/opt/wardround", False)):
            words = ["nsenter", "-t", main, "--mount", "touch", f"{folder}/probe"]
            if (subprocess.run(words, capture_output=True, check=False).returncode == 0) != writable:
                raise SystemExit(f"{unit}: whether {folder} can be written is not {writable}")
    for path, wanted in (("/v1/control/list-runs", "404"), ("/v1/runtime/acquire-task", "404"), ("/docs", "404"),
                         ("/v1/fleet/pull-messages", "401")):  # fmt: skip
        words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "/srv/ca.pem", "-X", "POST",
                 "-H", "Content-Type: application/protobuf")  # fmt: skip
        if (status := call(*words, f"https://fl.example.org{path}")) != wanted:
            raise SystemExit(f"the proxy answered {status} for {path}, not {wanted}")
    report("separation")


def check_afterwards() -> None:
    """Check the audit logs, that nothing of the page runs any more, and that no part outlived its first process."""
    for site in SITES:
        call(PROGRAM, "audit", "verify", "--site", site, "--state", f"/var/lib/wardround-worker-{site}")
    left = {path.stem: json.loads(path.read_text())["left"] for path in systemctl.BASE.glob("*.json")}
    with suppress(ChildProcessError):  # orphans come to this process, the first of its namespace
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    running = [" ".join(process.cmdline()) for process in psutil.process_iter() if process.pid != os.getpid()]
    orphans = {unit: lines for unit, lines in left.items() if lines}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report("afterwards", orphans=orphans, running=running, processor_seconds=round(used.ru_utime + used.ru_stime))


def main() -> None:
    prepare()
    isolate_network()
    follow("Install the program on every machine")
    follow("Set up the coordinator")
    follow("Set up a hospital", SITES)
    follow("Admit the hospital", SITES)
    follow("Start the hospital", SITES)
    wait_for("all hospitals online", lambda: sorted(list_nodes().values()) == ["online"] * 3)
    report("online")
    check_separation()
    run_and_kill()
    follow("Upgrade", numbers=[0, 1] if LONG else [1])
    follow("Upgrade", SITES, numbers=[2])
    if not LONG:
        executed.add(("Upgrade", 0))  # the same lines as the first installation's, which the short mode executes once
    wait_for("all hospitals online", lambda: sorted(list_nodes().values()) == ["online"] * 3)
    report("online after the upgrade")
    follow("Take it down", SITES, numbers=[0])
    follow("Take it down", numbers=[1])
    check_afterwards()
    every = {(heading, number) for heading, blocks in BLOCKS.items() for number in range(len(blocks))}
    report("end", missed=sorted(every - executed))


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        logs = [*systemctl.BASE.glob("*.log"), *systemctl.BASE.glob("*.supervisor"),
                *Path("/var/lib").glob("wardround-*/**/*.log")]  # fmt: skip
        for file in logs:
            with suppress(OSError):
                print(f"--- {file}\n{file.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise
