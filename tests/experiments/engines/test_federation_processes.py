"""Real processes: a server, node keys, TLS, a SuperNode a site; the two apps are stand-ins of a few lines."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from client.fleet import NodeRefused
from client.node import Node
from client.node_process import NodeProcess
from client.supernode import create_node_key
from common.errors import ConfigError, EngineError
from experiments.engines.federation import Event, Federation, SiteProcess, Tail
from server.control import build_bundle
from server.credentials import create_credentials
from server.superlink import format_app_settings

ROOT = Path(__file__).parents[3]


TRACE = "WARDROUND_TEST_TRACE"


PACKAGE = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"


SERVER = """
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from server.site_registry import registered_names

app = ServerApp()


@app.main()
def main(grid, context):
    config = json.loads(context.run_config["wardround-config"])
    out = Path(context.run_config["wardround-out"])

    def tell(**event):
        with (out / "events.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\\n")

    if "crash" in config:
        raise RuntimeError(config["crash"])
    status = {"status": "failed", "error": config.get("fail")}
    if "fail" not in config:
        while len(nodes := list(grid.get_node_ids())) < config["sites"]:
            time.sleep(0.2)
        for number in range(1, config["rounds"] + 1):
            tell(event="begin", round=number)
            record = {"sleep": config.get("sleep", 0.0), "hang": config.get("hang", "") if number == 2 else ""}
            content = RecordDict({"c": ConfigRecord(record)})
            sent = [Message(content, node, "train", group_id=str(number)) for node in nodes]
            replies = list(grid.send_and_receive(sent, timeout=config["timeout"]))
            said = [r.content["c"]["said"] if r.has_content() else r.error.reason for r in replies]
            tell(event="round", round=number, said=sorted(said))
            registered = registered_names()
            answered = [r for r in replies if r.has_content()]
            names = {r.content["c"]["said"].split()[0]: registered[r.metadata.src_node_id] for r in answered}
            tell(event="names", names=names)
        status = {"status": "complete", "error": None}
    (out / "server.done").write_text(json.dumps(status))
"""


CLIENT = """
import time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def refuse_unreadable(*given):
    return None


@app.train()
def train(message, context):
    hangs = message.content["c"]["hang"] == context.node_config["site"]
    time.sleep(600 if hangs else message.content["c"]["sleep"])
    said = f"{context.node_config['site']} {context.node_config['data']}"
    return Message(RecordDict({"c": ConfigRecord({"said": said})}), reply_to=message)
"""


def write_apps(folder: Path) -> Path:
    for package, source in (("server", SERVER), ("client", CLIENT)):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(PACKAGE)
        (folder / package / "app.py").write_text(source)
    return folder


def running(trace: str) -> list[str]:
    """The command lines of the processes that carry this mark in their environment."""
    actual = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(TRACE) == trace:
                actual.append(" ".join(process.cmdline()))
    return actual


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, with the stand-in apps installed for child processes; no process may outlive the module."""
    folder = tmp_path_factory.mktemp("federation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(write_apps(folder / "installed")))
        patch.setenv(TRACE, str(folder))
        yield folder
        wait_for(lambda: running(str(folder)) == [])


@pytest.fixture(scope="module")
def two_sites(directory: Path) -> Iterator[Federation]:
    sites = [SiteProcess(name, {"site": name, "data": f'/data of/"{name}"'}) for name in ("north", "south")]
    with Federation(sites, log_dir=directory / "logs") as both:
        yield both


@pytest.mark.processes
def test_two_sites_two_rounds(two_sites: Federation, directory: Path) -> None:
    events: list[Event] = []
    two_sites.run('{"sites": 2, "rounds": 2, "timeout": 300}', directory / "out", events.append)
    said = ['north /data of/"north"', 'south /data of/"south"']
    rounds = [event for event in events if event["event"] == "round"]
    assert rounds == [{"event": "round", "round": number, "said": said} for number in (1, 2)]
    names = [event["names"] for event in events if event["event"] == "names"]
    assert names == [{"north": "north", "south": "south"}] * 2  # the ServerApp knows whose key each node holds
    assert two_sites.link.connection.nodes() == {"north": "online", "south": "online"}


@pytest.mark.processes
def test_a_failing_server_app_gives_its_one_line(two_sites: Federation, directory: Path) -> None:
    with pytest.raises(EngineError, match=r"^site north disagrees$"):
        two_sites.run('{"fail": "site north disagrees"}', directory / "fails")
    with pytest.raises(EngineError, match=r"ended without a result: .*cannot begin"):
        two_sites.run('{"crash": "cannot begin"}', directory / "crashes")


@pytest.mark.processes
def test_a_key_that_is_not_registered(two_sites: Federation, directory: Path) -> None:
    create_node_key(directory / "stranger.key")
    known = two_sites.nodes["north"].settings
    stranger = Node(replace(known, key=directory / "stranger.key", state=directory / "stranger"))
    with pytest.raises(NodeRefused, match=r"does not admit .*stranger\.key: send .*stranger\.key\.pub to the coord"):
        stranger.run(print)


@pytest.mark.processes
def test_a_wrong_authority(two_sites: Federation, directory: Path) -> None:
    other = create_credentials(directory / "other", []).ca
    known = two_sites.nodes["north"].settings
    with pytest.raises(EngineError, match=r"shows a certificate that .*other/ca\.pem does not vouch for"):
        Node(replace(known, ca=other, state=directory / "lost")).run(print)


@pytest.mark.processes
def test_code_that_a_run_brings_along_is_refused(two_sites: Federation, directory: Path) -> None:
    out = directory / "evil"
    out.mkdir()
    config = {"sites": 2, "rounds": 1, "timeout": 300}
    files = {
        "pyproject.toml": format_app_settings(json.dumps(config), out).encode(),
        "client/__init__.py": b"",
        "client/app.py": f"open({str(directory / 'trodden')!r}, 'w')\n{CLIENT}".encode(),
    }
    two_sites.link.connection.control.start_run(build_bundle(files))
    wait_for(lambda: (out / "server.done").exists())
    (event,) = [event for event in Tail(out / "events.jsonl", 0).read_new() if event["event"] == "round"]
    said = event["said"]
    assert isinstance(said, list)
    assert len(said) == 2
    assert all("refused a run that carries code" in line for line in said)
    assert not (directory / "trodden").exists()


@pytest.mark.processes
def test_a_site_that_dies_in_round_2_is_reported_and_the_run_goes_on(two_sites: Federation, directory: Path) -> None:
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if event == {"event": "begin", "round": 2}:
            threading.Timer(1.0, two_sites.kill, ["south"]).start()

    config = '{"sites": 2, "rounds": 2, "timeout": 25, "hang": "south"}'  # it works on round 2 until it is killed
    two_sites.run(config, directory / "dies", watch)
    assert [event["site"] for event in events if event["event"] == "site-ended"] == ["south"]
    (last,) = [event for event in events if event["event"] == "round" and event["round"] == 2]
    assert last["said"] == ['north /data of/"north"']


@pytest.mark.processes
def test_a_node_that_was_killed_leaves_no_worker_and_is_back_at_once(two_sites: Federation, directory: Path) -> None:
    node = two_sites.nodes["north"]
    pid = int((node.settings.state / "worker.pid").read_text().split()[0])
    assert node._child is not None
    os.kill(node._child.pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid))
    before = len(node.log.read_text())
    again = NodeProcess(node.settings, log=node.log)
    again.launch()
    two_sites.nodes["north"] = again
    try:
        assert again.wait_online() == two_sites.link.connection.sites()["north"]
        # the server counts the lost session as open for a minute, and would refuse another one
        assert "trying again" not in node.log.read_text()[before:]
    finally:
        again.stop()
    assert two_sites.link.connection.nodes()["north"] == "offline"


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_ends_leaves_nothing_behind(directory: Path, number: signal.Signals) -> None:
    trace = f"{directory}-{number}"
    source = (
        "from pathlib import Path\n"
        "from experiments.engines.federation import SiteProcess, run_on_one_machine\n"
        f"out = Path({str(directory / f'ended-{number}')!r})\n"
        "sites = [SiteProcess('north', {'site': 'north', 'data': 'x'})]\n"
        'config = \'{"sites": 1, "rounds": 1, "timeout": 600, "sleep": 600.0}\'\n'
        "run_on_one_machine(config, out, sites, log_dir=out)\n"
    )
    python_path = f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}"
    environment = {**os.environ, TRACE: trace, "PYTHONPATH": python_path}
    events = directory / f"ended-{number}" / "events.jsonl"
    with subprocess.Popen([sys.executable, "-c", source], env=environment, stderr=subprocess.DEVNULL) as launcher:
        wait_for(lambda: events.exists() and "begin" in events.read_text())
        launcher.send_signal(number)
        assert launcher.wait(300) != 0
    wait_for(lambda: running(trace) == [])


def test_sites_need_names_of_their_own(tmp_path: Path) -> None:
    twice = [SiteProcess("north", {}), SiteProcess("north", {})]
    with pytest.raises(ConfigError, match="sites with different names"):
        Federation(twice, log_dir=tmp_path)


def test_a_tail_gives_whole_lines_that_are_new(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"old": 1}\n')
    tail = Tail(file)
    assert list(tail.read_new()) == []
    with file.open("a") as end:
        end.write('{"a": 1}\n\n{"b"')
        end.flush()
        assert list(tail.read_new()) == [{"a": 1}]
        end.write(": 2}\n")
    assert list(tail.read_new()) == [{"b": 2}]
    assert list(tail.read_new()) == []


def wait_for(happened: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
