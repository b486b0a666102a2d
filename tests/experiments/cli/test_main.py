"""The command line: one clear line for a mistake, and output that scripts can use."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.runs import run

COMMAND = [sys.executable, "-c", "from experiments.cli.main import main; main()"]


class Done:
    """What a command gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def wardround(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Return a function that runs the command line in this process."""
    monkeypatch.delenv("WARDROUND_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    before = dict(os.environ)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["wardround", *arguments])
        code = 0
        try:
            main.main()
        except SystemExit as leave:
            code = int(leave.code or 0)
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def experiment(tmp_path: Path, hospitals: Path) -> Path:
    """The YAML file of a small run."""
    file = tmp_path / "small.yaml"
    file.write_text(
        json.dumps(
            {
                "data": {"path": str(hospitals)},
                "model": {"options": {"widths": [4], "kernel": 3, "hidden": 4}},
                "training": {"device": "cpu"},
                "federation": {"rounds": 1},
                "evaluation": {"bootstrap": 10, "bins": 64},
                "baselines": {"local": False, "pooled": False},
            }
        )
    )
    return file


MISTAKES = [
    (["run", "none.yaml"], "no configuration file none.yaml"),
    (["run", "FILE", "--set", "training.lrr=1"], "unknown key training.lrr (did you mean lr?)"),
    (["run", "FILE", "--set", "training.lr=fast"], "training.lr"),
    (["run", "FILE", "--set", "training.lr"], "write it as section.key=value"),
    (["run", "FILE", "--set", "data.path=/nowhere"], "no data folder /nowhere"),
    (["run", "FILE", "--set", "model.name=cnnn"], "no model named 'cnnn': choose one of"),
    (["run", "FILE", "--set", "data.dataset=mitbd"], "no data set named 'mitbd'"),
    (["run", "FILE", "--set", "federation.strategy.name=fedavgg"], "no strategy named 'fedavgg'"),
    (["run", "FILE", "--set", "sites.scheme=even", "--set", "sites.count=50"], "only 6 people"),
    (["run", "FILE", "--runs", "FILE"], "cannot write the run folder"),
    (["run"], "name a configuration"),
    (["run", "FILE", "--sett", "x"], "No such option"),
    (["rum"], "No such command 'rum'. Did you mean 'run'? (see"),
    (["run", "."], ". is a folder: name a YAML file in it"),
    (["run", "syntetic"], "no configuration file syntetic (did you mean synthetic?)"),
    (["run", "EMPTY"], "is empty: it must hold keys and values"),
    (["run", "LOOP"], "is not valid YAML: an anchor contains itself"),
    (["run", "LAUGHS"], "is not valid YAML: aliases expand to more than 100,000 values"),
    (["series", ".", "--over", "seed=1,2"], ". is a folder"),
    (["report", "/nowhere"], "is no run folder"),
    (["data", "describe", "none.yaml"], "no configuration file"),
    (["data", "synth", "x", "--hospitals", "0"], "hospitals"),
    (["client", "--site", "north"], "needs --site NAME"),
]


def laughs() -> str:
    """Return a short YAML text whose aliases expand to ten million values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    return "\n".join(lines)


@pytest.mark.parametrize(("arguments", "why"), MISTAKES, ids=[" ".join(words)[:40] for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(wardround, experiment: Path, arguments: list[str], why: str) -> None:  # type: ignore[no-untyped-def]
    texts = {"EMPTY": "# nothing", "LOOP": "a: &a [*a]", "LAUGHS": laughs()}
    for name, text in texts.items():
        (experiment.parent / name).write_text(text)
    files = {"FILE": str(experiment)} | {name: str(experiment.parent / name) for name in texts}
    given = [files.get(word, word) for word in arguments]
    if given[0] == "run" and "--runs" not in given:
        given += ["--runs", str(experiment.parent / "runs")]
    if "--json" not in given and given[0] == "run":
        given += ["--quiet"]
    done = wardround(*given)
    assert done.code == 2
    assert why in done.err
    assert done.err.startswith("wardround: ")
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
    assert not (experiment.parent / "runs").exists()


def test_debug_shows_the_traceback(experiment: Path) -> None:
    done = subprocess.run([*COMMAND, "--debug", "run", "none.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ConfigError: no configuration file" in done.stderr


def test_a_bug_is_called_one(wardround, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("what\nelse")

    monkeypatch.setattr(run, "run_experiment", breaks)
    done = wardround("run", str(experiment), "-q")
    assert done.code == 1
    assert done.err.startswith("wardround: unexpected ZeroDivisionError in tests/experiments/cli/test_main.py, line ")
    assert "(a bug: run again with --debug" in done.err
    assert "what" not in done.err  # an error text may quote a patient's value
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["report.json", None])
def test_a_full_disk_is_named_and_no_bug(wardround, experiment: Path, monkeypatch: pytest.MonkeyPatch, name) -> None:  # type: ignore[no-untyped-def]
    def fills(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr(run, "run_experiment", fills)
    done = wardround("run", str(experiment), "-q")
    assert done.code == 2
    where = f"cannot write or read {name or 'a file'}: No space left on device; free the disk"
    assert done.err.startswith(f"wardround: {where}")
    assert "bug" not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        IsADirectoryError(errno.EISDIR, "Is a directory", "scores.csv"),
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300),
        OSError("2048 requested and 100 written"),
    ],
)
def test_an_error_of_a_disk_or_folder_is_no_bug(
    wardround, experiment: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:  # type: ignore[no-untyped-def]
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(run, "run_experiment", fails)
    done = wardround("run", str(experiment), "-q")
    assert done.code == 2
    assert done.err.startswith(f"wardround: cannot write or read {error.filename or 'a file'}: ")
    assert (error.strerror or "No space left on device") in done.err
    assert "bug" not in done.err


def test_a_reader_of_events_that_ends_leaves_no_run_that_seems_to_go_on(
    wardround, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    from experiments.cli import run_progress

    def print_event(_: object, event: dict[str, object]) -> None:
        if event["event"] == "start":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_progress.JsonPrinter, "handle", print_event)
    assert wardround("run", str(experiment), "--json", "--runs", str(tmp_path / "runs")).code == 2
    [about] = (tmp_path / "runs").glob("*/run.json")
    assert json.loads(about.read_text())["status"] == "failed"


def test_an_interrupt_is_exit_code_130(wardround, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_experiment", stops)
    done = wardround("run", str(experiment), "-q")
    assert done.code == 130
    assert "stopped" in done.err


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "write_run_report", lambda folder, **ending: None)


@pytest.mark.usefixtures("without_report")
def test_json_prints_json_lines_alone(wardround, experiment: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = wardround("run", str(experiment), "--json", "--runs", str(tmp_path / "runs"))
    assert done.code == 0
    events = [json.loads(line) for line in done.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "report"
    assert {"start", "stage", "handshake", "reply", "round", "done"} <= set(kinds)
    assert Path(events[-1]["folder"]).is_dir()


def test_an_experiment_is_found_by_name_from_any_folder(
    wardround, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    loaded: list[str] = []
    monkeypatch.setattr(run, "run_experiment", lambda config, *_: loaded.append(config.name) or tmp_path)
    for name in ("synthetic", "synthetic.yaml", "experiments/synthetic.yaml"):
        assert wardround("run", name, "-q").code == 0
    assert loaded == ["synthetic"] * 3
    (tmp_path / "synthetic.yaml").write_text("name: mine")
    assert wardround("run", "synthetic.yaml", "-q").code == 0
    assert loaded[-1] == "mine"


@pytest.mark.usefixtures("without_report")
def test_quiet_prints_the_folder_alone(wardround, experiment: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = wardround("run", str(experiment), "--quiet", "--runs", str(tmp_path / "runs"))
    assert (done.code, done.err) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.out == f"{folder}\n"


@pytest.mark.slow
def test_a_run_shows_its_report(wardround, experiment: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = wardround("run", str(experiment), "--runs", str(tmp_path / "runs"))
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.code == 0
    assert "round 1 of 1: 2 sites, loss" in done.err
    assert f"report: {folder / 'report.html'}" in done.out
    assert "north" in done.out
    again = wardround("report", str(folder))
    assert again.out == done.out


@pytest.mark.parametrize(
    "words", [[], ["run"], ["report"], ["data"], ["data", "synth"], ["data", "describe"], ["server", "register"]]
)
def test_help(wardround, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    done = wardround(*words, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: wardround" in done.out


@pytest.mark.skipif(
    tuple(int(n) for n in importlib.metadata.version("click").split(".")[:2]) >= (8, 5),
    reason="typer below 0.21 loses the help of arguments with click 8.5",
)
@pytest.mark.parametrize(
    ("words", "text"),
    [(["run"], "A YAML file"), (["report"], "A run folder"), (["server", "register"], "The hospital's name")],
)
def test_help_of_arguments(wardround, words: list[str], text: str) -> None:  # type: ignore[no-untyped-def]
    assert text in wardround(*words, "--help").out


def test_help_answers_at_once() -> None:
    code = "import sys, experiments.cli.main; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_synth_list_describe_doctor(wardround, tmp_path: Path, experiment: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "made"
    words = ["--hospitals", "2", "--patients", "2", "--minutes", "0.2"]
    made = wardround("data", "synth", str(folder), *words)
    assert (made.code, made.err) == (0, "")
    assert made.out == f"SYNTHETIC hospitals in {folder}: north, south\n"
    again = wardround("data", "synth", str(folder), *words, "--seed", "2")
    assert again.code == 2
    listed = wardround("data", "list")
    assert {"synthetic", "mitdb"} <= {line.split(" ")[0] for line in listed.out.splitlines()}
    described = wardround("data", "describe", str(experiment), "--set", f"data.path={folder}")
    assert described.code == 0
    assert [line.split(";")[0] for line in described.out.splitlines()[1:]] == [
        "  north: 2 recordings",
        "  south: 2 recordings",
    ]
    doctor = wardround("doctor")
    assert doctor.code == 0
    assert "ok    engine local       ready" in doctor.out
    assert "torch" in doctor.out
