"""Run folders: names of their own, and what stands in them before anything runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from common import config as configuration
from common import run_folder
from common.errors import ConfigError
from tests import tiny


def test_folders_have_names_of_their_own(tmp_path: Path) -> None:
    made = [run_folder.create_run_folder(tiny.run_config(), tmp_path / "new" / "runs") for _ in range(5)]
    assert len(set(made)) == 5
    assert all(folder.is_dir() and folder.name.startswith("tiny-") for folder in made)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the run folder .*see --runs"):
        run_folder.create_run_folder(tiny.run_config(), tmp_path / "file")


def test_what_a_run_says_about_itself(tmp_path: Path) -> None:
    config = tiny.run_config(
        title="Größe & <b>",
        training__lr=1e-05,
        evaluation__without={"one": ["114"]},
        federation__expect=["a", "b"],
    )
    run_folder.describe_run(config, tmp_path, {"title": "data"}, [{"level": "leak", "text": "x"}])
    assert configuration.load_config(tmp_path / "config.yaml") == config
    about = json.loads((tmp_path / "run.json").read_text())
    assert (about["id"], about["status"], about["seed"]) == (tmp_path.name, "running", 1)
    assert configuration.parse_config(about["config"]) == config
    assert about["versions"].keys() >= {"python", "torch", "flwr"}
    run_folder.update_run(tmp_path, status="complete", seconds=2.5)
    assert json.loads((tmp_path / "run.json").read_text()) == {**about, "status": "complete", "seconds": 2.5}
    assert not list(tmp_path.glob("*.part"))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the program seems to run from."""
    root = tmp_path / "program"
    (root / "experiments").mkdir(parents=True)
    monkeypatch.setattr(run_folder, "__file__", str(root / "experiments" / "runs.py"))
    return root


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_commit_is_unknown_outside_git(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(program.parent))
    assert run_folder.source_commit() is None
    monkeypatch.setenv("PATH", "")
    assert run_folder.source_commit() is None


def test_the_commit_of_the_program_and_whether_it_was_changed(program: Path) -> None:
    git(program, "init")
    (program / "a.py").write_text("1")
    git(program, "add", ".")
    git(program, "commit", "-m", "x")
    name = run_folder.source_commit()
    assert name is not None
    assert len(name) == 40
    (program / "a.py").write_text("2")
    assert run_folder.source_commit() == f"{name}+changes"


def test_a_repository_around_the_program_is_not_its_own(program: Path) -> None:
    git(program.parent, "init")
    (program / "a.py").write_text("1")
    git(program.parent, "add", ".")
    git(program.parent, "commit", "-m", "x")
    assert run_folder.source_commit() is None
