import json
import os
from contextlib import suppress
from importlib import util
from pathlib import Path

import psutil
import pytest

from common.errors import ConfigError, EngineError
from experiments.engines import ray_runtime
from experiments.engines.federation import Event

needs_ray = pytest.mark.skipif(util.find_spec("ray") is None, reason="the ray extra is not installed")

TRACE = "WARDROUND_TEST_TRACE"

SERVER = """
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    config = json.loads(context.run_config["wardround-config"])
    out = Path(context.run_config["wardround-out"])
    status = {"status": "failed", "error": config.get("fail")}
    if "fail" not in config:
        while len(nodes := list(grid.get_node_ids())) < 3:
            time.sleep(0.1)
        for number in range(2):
            sent = [Message(RecordDict(), node, "train", group_id=str(number)) for node in nodes]
            said = [dict(reply.content["c"]) for reply in grid.send_and_receive(sent, timeout=300)]
            with (out / "events.jsonl").open("a") as file:
                file.write(json.dumps({"round": number, "said": said}) + "\\n")
        status = {"status": "complete", "error": None}
    (out / "server.done").write_text(json.dumps(status))
"""

CLIENT = """
import os
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    said = {"site": context.node_config["partition-id"], "of": context.node_config["num-partitions"]}
    said["threads"] = os.environ["OMP_NUM_THREADS"]
    return Message(RecordDict({"c": ConfigRecord(said)}), reply_to=message)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in apps; Ray's workers look into the working directory before PYTHONPATH."""
    folder = tmp_path / "installed"
    for package, source in (("server", SERVER), ("client", CLIENT)):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
        (folder / package / "app.py").write_text(source)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(TRACE, str(tmp_path))
    return folder


def running(trace: str) -> list[str]:
    """The command lines of the processes that carry this mark in their environment."""
    result = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(TRACE) == trace:
                result.append(" ".join(process.cmdline()))
    return result


@needs_ray
@pytest.mark.ray
@pytest.mark.usefixtures("installed")
def test_three_sites_on_two_workers(tmp_path: Path) -> None:
    events: list[Event] = []
    ray_runtime.run_on_ray("{}", tmp_path / "out", sites=3, workers=2, on_event=events.append)
    assert [event["round"] for event in events] == [0, 1]
    said = [json.dumps(line, sort_keys=True) for line in events[-1]["said"]]  # type: ignore[attr-defined]
    assert sorted(said) == [f'{{"of": 3, "site": {site}, "threads": "1"}}' for site in range(3)]
    assert running(str(tmp_path)) == []


@needs_ray
@pytest.mark.ray
@pytest.mark.usefixtures("installed")
def test_a_failing_server_app_gives_its_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^no such strategy$"):
        ray_runtime.run_on_ray('{"fail": "no such strategy"}', tmp_path / "out", sites=2, workers=1)
    assert running(str(tmp_path)) == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'wardround\[ray\]'"):
        ray_runtime.run_on_ray("{}", tmp_path, sites=2, workers=2)


@pytest.mark.parametrize(("sites", "workers"), [(0, 1), (1, 0)])
def test_sites_and_workers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sites: int, workers: int
) -> None:
    monkeypatch.setattr(ray_runtime, "require_ray", lambda: None)
    with pytest.raises(ConfigError, match="at least one site and one worker"):
        ray_runtime.run_on_ray("{}", tmp_path, sites=sites, workers=workers)
    assert "RAY_TMPDIR" not in os.environ
