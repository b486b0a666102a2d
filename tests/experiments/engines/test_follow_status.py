"""Following a run by what its server says of it: no word, silence while it starts again, and an app that was killed."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from common.errors import EngineError
from common.run_folder import RunFolder, hold_lock
from experiments.engines import federation
from experiments.engines.federation import Event, follow_run
from server.control import NoAnswer


class Answers:
    """A server that takes a run and lets it end as told."""

    def __init__(self, status: str, details: str) -> None:
        self.status, self.details, self.stopped = status, details, False

    def submit(self, config_json: str, out: Path, *extra: str) -> str:
        return "7"

    def run_status(self, run: str) -> tuple[str, str]:
        return self.status, self.details

    def stop_run(self, run: str) -> None:
        self.stopped = True


def test_a_run_that_ends_without_a_word_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.0)
    (tmp_path / "server.done").write_text('{"status": "complete", "error": null}')  # of an earlier run
    server = Answers("finished:failed", "ServerApp failed:\n no such strategy")
    with pytest.raises(EngineError, match="without a result: ServerApp failed: no such strategy"):
        follow_run(server, "{}", tmp_path)  # type: ignore[arg-type]
    assert server.stopped


class Restarting(Answers):
    """A server that gives no answer for a while."""

    def __init__(self, out: Path, silences: int) -> None:
        super().__init__("running", "")
        self.out, self.silences, self.questions = out, silences, 0

    def run_status(self, run: str) -> tuple[str, str]:
        self.questions += 1
        if self.questions <= self.silences:
            raise NoAnswer("the server at h:1 gave no answer")
        (self.out / "server.done").write_text('{"status": "complete", "error": null}')
        return self.status, self.details

    def stop_run(self, run: str) -> None:
        if self.questions <= self.silences:
            raise NoAnswer("the server at h:1 gave no answer")
        super().stop_run(run)


def test_a_run_goes_on_to_be_followed_while_its_server_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.0)
    events: list[Event] = []
    follow_run(Restarting(tmp_path, 3), "{}", tmp_path, events.append)  # type: ignore[arg-type]
    waiting = "the server at h:1 gave no answer; waiting for it up to 180 s"
    assert [event["what"] for event in events] == [waiting, "the server answers again"]
    assert not (tmp_path / "server.run").exists()


def test_a_run_whose_server_stays_away_may_go_on_there_and_is_stopped_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(federation, "OUTAGE_SECONDS", 0.3)
    with pytest.raises(EngineError, match="h:1 gave no answer"):
        follow_run(Restarting(tmp_path, 99), "{}", tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / "server.run").read_text() == "7\n"
    server = Restarting(tmp_path, 0)
    server.questions = 1
    follow_run(server, "{}", tmp_path)  # type: ignore[arg-type]
    assert server.stopped
    assert not (tmp_path / "server.run").exists()


class Killed(Answers):
    """A server that says that a run goes on whose app, which held the lock, was killed after three questions."""

    def __init__(self, out: Path) -> None:
        super().__init__("running", "")
        self.out, self.questions, self.exits = out, 0, ExitStack()

    def submit(self, config_json: str, out: Path, *extra: str) -> str:
        self.exits.enter_context(hold_lock(RunFolder(self.out).server_lock))
        return "7"

    def run_status(self, run: str) -> tuple[str, str]:
        self.questions += 1
        if self.questions == 3:
            self.exits.close()
        return self.status, self.details


def test_an_app_that_was_killed_is_noticed_by_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation, "STATUS_SECONDS", 0.0)
    server = Killed(tmp_path)
    with pytest.raises(EngineError, match="the server's app ended without a result: its process ended"):
        follow_run(server, "{}", tmp_path)  # type: ignore[arg-type]
    assert server.stopped
    assert server.questions == 4
