"""Which release runs: the same for the same code, another for any other."""

from __future__ import annotations

import re
from pathlib import Path

from common.release import PACKAGES, digest_code, identify_release


def write_code(root: Path, content: bytes = b"x = 1\n") -> Path:
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "a.py").write_bytes(content)
    return root


def test_the_release_is_a_version_and_a_digest() -> None:
    assert re.fullmatch(r"\d+(\.\d+)*\S*\+[0-9a-f]{12}", identify_release())


def test_a_copy_is_the_same_release_also_with_other_ends_of_lines(tmp_path: Path) -> None:
    one = digest_code(write_code(tmp_path / "one"))
    assert digest_code(write_code(tmp_path / "two")) == one
    assert digest_code(write_code(tmp_path / "three", b"x = 1\r\n")) == one
    (tmp_path / "two" / "notes.md").write_text("no code")
    (tmp_path / "two" / "client" / "a.pyc").write_text("no code")
    assert digest_code(tmp_path / "two") == one


def test_a_line_a_name_or_a_place_that_differs_is_another_release(tmp_path: Path) -> None:
    one = digest_code(write_code(tmp_path / "one"))
    result = {one}
    for name, change in {
        "line": lambda root: (root / "server" / "a.py").write_text("x = 2\n"),
        "name": lambda root: (root / "server" / "a.py").rename(root / "server" / "b.py"),
        "place": lambda root: (root / "server" / "a.py").rename(root / "sites" / "b.py"),
        "more": lambda root: (root / "server" / "b.py").write_text(""),
    }.items():
        root = write_code(tmp_path / name)
        change(root)
        result.add(digest_code(root))
    assert len(result) == 5
