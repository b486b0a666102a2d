from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from common import provenance


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the program seems to run from."""
    root = tmp_path / "program"
    (root / "common").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(root / "common" / "provenance.py"))
    return root


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_the_commit_is_unknown_outside_git(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(program.parent))
    assert provenance.source_commit() is None
    monkeypatch.setenv("PATH", "")
    assert provenance.source_commit() is None


def test_the_commit_of_the_program_and_whether_it_was_changed(program: Path) -> None:
    git(program, "init")
    (program / "a.py").write_text("1")
    git(program, "add", ".")
    git(program, "commit", "-m", "x")
    name = provenance.source_commit()
    assert name is not None
    assert len(name) == 40
    (program / "a.py").write_text("2")
    assert provenance.source_commit() == f"{name}+changes"


def test_a_repository_around_the_program_is_not_its_own(program: Path) -> None:
    git(program.parent, "init")
    (program / "a.py").write_text("1")
    git(program.parent, "add", ".")
    git(program.parent, "commit", "-m", "x")
    assert provenance.source_commit() is None
