from __future__ import annotations

import ast
import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common import files

ROOT = Path(__file__).resolve().parents[2]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.write_atomically(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="No space") as caught, files.write_atomically(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    with pytest.raises(OSError, match="No such file") as caught, files.write_atomically(tmp_path / "no" / "b"):
        (tmp_path / "no" / "x").write_text("")
    assert caught.value.filename == str(tmp_path / "no" / "x")
    with pytest.raises(OSError, match="Is a directory") as caught:
        files.append_json_line(tmp_path, {})
    assert caught.value.filename == str(tmp_path)


def test_a_private_file_and_its_public_half_are_written_both_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pub"

    def fails(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", fails)
        with pytest.raises(OSError, match="No space"):
            files.write_key_pair(private, b"private", public, b"public")
    assert list(tmp_path.iterdir()) == []
    files.write_key_pair(private, b"private", public, b"public")
    assert (private.read_bytes(), public.read_bytes()) == (b"private", b"public")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        files.write_key_pair(private, b"other", public, b"other")
    assert (private.read_bytes(), public.read_bytes()) == (b"private", b"public")
    assert sorted(tmp_path.iterdir()) == [private, public]


@pytest.mark.parametrize("durable", [False, True])
def test_a_write_replaces_the_file(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old", durable=durable)
    assert files.write_bytes(path, b"new", durable=durable) == path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_durable_write_reaches_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    path, synced = tmp_path / "a.bin", []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(path.exists()))
    files.write_bytes(path, b"x", durable=True)
    assert synced[0] is False
    synced.clear()
    files.write_bytes(path, b"y")
    assert synced == []


def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [letter * 200_000 for letter in "abcdefgh"]
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
    assert files.temporary_path(path) != files.temporary_path(path)


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = files.write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, float("-inf")], "c": (True, None)})
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5, None], "c": [True, None]}


def test_lines_are_appended(tmp_path: Path) -> None:
    for number in (1, 2):
        files.append_json_line(tmp_path / "a.jsonl", {"n": number})
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [{"n": 1}, {"n": 2}]


def test_arrays_survive_whatever_their_order_in_memory(tmp_path: Path) -> None:
    arrays = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "slice": np.arange(10)[::2],
        "scalar": np.float32(2),
    }
    files.write_arrays(tmp_path / "a.safetensors", arrays)
    loaded = load_file(tmp_path / "a.safetensors")
    assert set(loaded) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].shape == np.shape(value)


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (tmp_path / "in").mkdir()
    left = tmp_path / "in" / f".a.json.{ended.pid}.0123abcd.part"
    others = [tmp_path / f".a.json.{os.getpid()}.0123abcd.part", tmp_path / "a.part", tmp_path / f".a.{ended.pid}.part"]
    for path in (left, *others):
        path.write_text("half")
    assert left.name.count(".") == files.temporary_path(left.with_name("a.json")).name.count(".")
    files.remove_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)


def test_only_this_module_replaces_files() -> None:
    """The downloader has part files of its own, which it continues after an interruption."""
    owners = {
        str(path.relative_to(ROOT))
        for package in ("common", "sites", "client", "server", "experiments")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.replace", "os.rename")
    }
    assert owners == {"common/files.py", "sites/download/http.py"}
